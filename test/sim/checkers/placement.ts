/** What replicas are promised, and where: rows alone, and beside them what truly holds a port. */
import { TERMINAL_STATES, type ReplicaState } from "../../../shared/wire/report.ts";
import type { Machine } from "../machine.ts";
import type { Findings } from "./findings.ts";
import { REPLICA_LABEL } from "./health.ts";
import { type Batch, keyOf, type ReplicaRow, type Rows } from "./rows.ts";
import { clash, type HostPort, type Specs } from "./specs.ts";

/** Replicas of one slot that are neither gone nor were ever on a lost node: the old one and the new one. */
const A_SLOT_MAX = 2;
/** How long a slot waits for its next node after it was rejected: so long at first, doubling with each in a row. */
const REJECTED_FIRST_MS = 30_000;
const REJECTED_MAX_MS = 3_600_000;
/** A plan may be so much older than its commit, and the commit of what was rejected as much later than it says. */
const CLOCK_AHEAD_MS = 1_000;
/** An end that was told longer ago is known to whoever plans. */
const NEWS_TAKE_MS = 10_000;
const FIXED = ["app_id", "service", "slot", "node_id", "spec", "revision"] as const satisfies readonly (keyof ReplicaRow)[];

/** Of what a plan says of a service. */
interface Explained {
  readonly unplaced: readonly { readonly rejected: readonly { readonly filter: string; readonly nodes: number }[] }[];
}

const isTerminal = (state: string | undefined): boolean => state !== undefined && TERMINAL_STATES.has(state as ReplicaState);

export class Placement {
  readonly #rows: Rows;
  readonly #specs: Specs;
  readonly #findings: Findings;
  readonly #machineOf: (node: string) => Machine | undefined;
  /** Each replica's node, also of those that have ended. */
  readonly everAssigned = new Map<string, string>();
  readonly #ended = new Set<string>();
  /** Replicas whose node was lost or removed while they were there: their slot may have got another beside them. */
  readonly #wereDark = new Set<string>();
  /** When the end of each replica that is still there was told. */
  readonly #endToldMs = new Map<string, number>();
  /** When the database's clock, by which slots wait, last jumped. */
  #jumpedMs = 0;
  /** When each replica was assigned, by true time. */
  readonly #assignedMs = new Map<string, number>();

  constructor(parts: {
    readonly rows: Rows;
    readonly specs: Specs;
    readonly findings: Findings;
    readonly machineOf: (node: string) => Machine | undefined;
  }) {
    this.#rows = parts.rows;
    this.#specs = parts.specs;
    this.#findings = parts.findings;
    this.#machineOf = parts.machineOf;
  }

  begin(): void {
    for (const row of this.#rows.of("replicas").values()) this.everAssigned.set(row.id, row.node_id);
  }

  clockJumped(): void {
    this.#jumpedMs = this.#findings.nowMs;
  }

  isTerminal(replica: string): boolean {
    return isTerminal(this.#rows.get("observations", replica)?.state);
  }

  check(batch: Batch): void {
    const given = new Set<string>();
    for (const { before, after } of batch.of("nodes")) {
      if (after !== null && after.status !== "lost") continue;
      for (const row of this.#rows.of("replicas").values()) if (row.node_id === (after ?? before)!.id) this.#wereDark.add(row.id);
    }
    let isPlanned = false;
    for (const { before, after } of batch.of("replicas")) {
      this.#findings.looks("I17");
      if (before !== null && after !== null) this.#stayed(before, after);
      if (before === null && after !== null) this.#assigned(batch, after);
      if (after === null) this.#ended.add(before!.id);
      isPlanned ||= before === null || (after !== null && before.desired !== after.desired);
      if (before === null && after !== null) given.add(after.node_id);
    }
    if (isPlanned) {
      const { rev, plan_rev } = this.#rows.cluster;
      this.#findings.expect(
        "I16",
        plan_rev === rev,
        () => `rev ${rev} places or stops replicas and is no plan: the last one is ${plan_rev}`,
      );
    }
    for (const node of given) this.#load(node);
    this.#refusals(batch);
  }

  /** Nothing waits for a port that nobody has: what has ended holds none. */
  #refusals(batch: Batch): void {
    for (const { key, before, after } of batch.of("observations")) {
      if (after === null) this.#endToldMs.delete(key);
      else if (this.isTerminal(key) && !isTerminal(before?.state)) this.#endToldMs.set(key, this.#findings.nowMs);
    }
    for (const { after } of batch.of("explanations")) {
      if (after === null) continue;
      const { unplaced } = JSON.parse(after.body) as Explained;
      const said = unplaced.flatMap(({ rejected }) => rejected).filter(({ filter }) => filter === "hostPort");
      const ports = this.#specs.of(this.#rows.get("services", keyOf(after.app_id, after.service))?.spec ?? "").ports;
      if (said.length === 0 || ports.length === 0) continue;
      const holders = new Set<string>();
      const gone = batch.of("replicas").flatMap(({ before, after: left }) => (before !== null && left === null ? [before] : []));
      for (const { id, node_id, spec } of [...this.#rows.of("replicas").values(), ...gone]) {
        const hasLongEnded = (this.#endToldMs.get(id) ?? Number.POSITIVE_INFINITY) < batch.askedMs - NEWS_TAKE_MS;
        if (!hasLongEnded && this.#specs.of(spec).ports.some((port) => ports.some((wanted) => clash(wanted, port)))) holders.add(node_id);
      }
      const most = Math.max(...said.map(({ nodes }) => nodes));
      this.#findings.expect(
        "I32",
        most <= holders.size,
        () => `${after.service} is said to find its host port taken on ${most} nodes, and it is on ${holders.size}`,
      );
    }
  }

  #stayed(before: ReplicaRow, after: ReplicaRow): void {
    if (before.desired === "stop" && after.desired === "run")
      this.#findings.fail("I17", `replica ${after.id} is wanted again after it was stopped`);
    const moved = FIXED.find((column) => before[column] !== after[column]);
    if (moved !== undefined) this.#findings.fail("I17", `replica ${after.id} has another ${moved} than it was assigned with`);
    if (before.desired === "run" && after.desired === "stop") this.#stopped(after);
  }

  /** Of what it stops a plan relies on nothing that somebody has changed since. */
  #stopped(row: ReplicaRow): void {
    const service = this.#rows.get("services", keyOf(row.app_id, row.service));
    const app = this.#rows.get("apps", row.app_id);
    const isWanted = service !== undefined && service.removed === 0 && app?.deleting === 0;
    this.#findings.looks("I16");
    if (row.reason === "removed" && isWanted)
      this.#findings.fail("I16", `replica ${row.id} was stopped as removed, and ${row.service} is wanted`);
    if (row.reason === "scale" && isWanted && service.mode === "replicated" && Number(row.slot) < service.replicas)
      this.#findings.fail("I16", `replica ${row.id} was stopped as too many, and its slot ${row.slot} is one of ${service.replicas}`);
  }

  #assigned(batch: Batch, row: ReplicaRow): void {
    const { id, app_id, service: name, slot, node_id } = row;
    this.everAssigned.set(id, node_id);
    if (this.#ended.has(id)) this.#findings.fail("I17", `replica ${id} ended and is back`);
    const node = this.#rows.get("nodes", node_id);
    this.#findings.expect("I18", node !== undefined, () => `replica ${id} was assigned to ${node_id}, which is no node`);
    if (
      node !== undefined &&
      (node.status !== "ready" || node.availability !== "active" || node.quarantined === 1 || node.admission !== "admitted")
    )
      this.#findings.fail(
        "I16",
        `replica ${id} was assigned to ${node.name}, which is ${node.status}, ${node.availability}, ${node.admission}${node.quarantined === 1 ? ", quarantined" : ""}`,
      );
    this.#target(row);
    this.#waited(batch, row);
    const others = [...this.#rows.of("replicas").values()].filter(
      (other) =>
        other.app_id === app_id &&
        other.service === name &&
        other.slot === slot &&
        !this.#wereDark.has(other.id) &&
        !this.isTerminal(other.id),
    );
    this.#findings.expect(
      "I16",
      others.length <= A_SLOT_MAX,
      () =>
        `slot ${name}/${slot} has ${others.length} replicas, none of which was on a lost node: ${others.map((other) => other.id).join(" ")}`,
    );
    this.#portsInUse(row);
  }

  /** What is assigned is what its service wants at that commit, for a slot that it wants. */
  #target(row: ReplicaRow): void {
    const service = this.#rows.get("services", keyOf(row.app_id, row.service));
    const app = this.#rows.get("apps", row.app_id);
    this.#findings.looks("I16");
    if (service === undefined || service.removed === 1 || app?.deleting === 1) {
      this.#findings.fail("I16", `replica ${row.id} was assigned for ${row.service}, which nobody wants any more`);
      return;
    }
    if (service.spec !== row.spec) this.#findings.fail("I16", `replica ${row.id} was assigned with another spec than ${row.service} has`);
    const isWanted = service.mode === "global" ? row.slot === row.node_id : Number(row.slot) < service.replicas;
    if (!isWanted) this.#findings.fail("I16", `replica ${row.id} was assigned for slot ${row.slot} of ${row.service}, which is not wanted`);
  }

  /** I44: each rejection in a row makes the wait for the next node longer. */
  #waited(batch: Batch, row: ReplicaRow): void {
    this.#assignedMs.set(row.id, this.#findings.nowMs);
    if (row.attempt === 0) return;
    const rejected = batch.of("replicas").flatMap(({ before, after }) => {
      const isOfSlot = before !== null && before.app_id === row.app_id && before.service === row.service && before.slot === row.slot;
      return isOfSlot && after === null && before.spec === row.spec ? [before] : [];
    });
    const [former] = rejected.sort((a, b) => b.assigned_ms - a.assigned_ms);
    if (former === undefined || former.attempt !== row.attempt - 1) return;
    const formerMs = this.#assignedMs.get(former.id);
    if (formerMs === undefined || formerMs < this.#jumpedMs) return;
    const waitMs = Math.min(REJECTED_MAX_MS, REJECTED_FIRST_MS * 2 ** former.attempt);
    const waitedMs = Math.round(this.#findings.nowMs - formerMs);
    this.#findings.expect(
      "I44",
      waitedMs >= waitMs - CLOCK_AHEAD_MS,
      () =>
        `slot ${row.service}/${row.slot} was placed again ${waitedMs} ms after it had been given to ${former.node_id}, which rejected it as number ${row.attempt} in a row`,
    );
  }

  /** Nothing is promised a port that a container still has whose end nobody has told. */
  #portsInUse(row: ReplicaRow): void {
    const machine = this.#machineOf(row.node_id);
    const { ports } = this.#specs.of(row.spec);
    if (machine === undefined || machine.wasCloned || ports.length === 0) return;
    this.#findings.looks("I10");
    for (const container of machine.engine.containers.values()) {
      const other = container.body.Labels[REPLICA_LABEL];
      // A disk that was rolled back begins again what its node had told the end of.
      if (container.status !== "running" || other === undefined || other === row.id || this.#ended.has(other)) continue;
      for (const { hostPort: port, protocol, hostIp } of container.ports)
        if (ports.some((wanted) => clash(wanted, { port, protocol, hostIp })))
          this.#findings.fail("I10", `port ${port}/${protocol} of ${machine.name} is given to ${row.id} while ${other} listens on it`);
    }
  }

  /**
   * What is given beside what was: assignments that are not known to have ended, also those that are to stop, hold it. An
   * owner may lower what a node can allocate below what it holds; then it is given nothing more.
   */
  #load(node: string): void {
    const row = this.#rows.get("nodes", node);
    if (row === undefined) return;
    const sum = { cpuMillis: 0, memoryMiB: 0 };
    const given: { readonly port: HostPort; readonly replica: string }[] = [];
    for (const replica of this.#rows.of("replicas").values()) {
      if (replica.node_id !== node || this.isTerminal(replica.id)) continue;
      const spec = this.#specs.of(replica.spec);
      sum.cpuMillis += spec.cpuMillis;
      sum.memoryMiB += spec.memoryMiB;
      for (const port of spec.ports) {
        const other = given.find((one) => clash(one.port, port));
        if (other !== undefined)
          this.#findings.fail("I10", `port ${port.port} of ${row.name} is given to ${other.replica} and ${replica.id}`);
        given.push({ port, replica: replica.id });
      }
    }
    const facts = JSON.parse(row.facts) as { readonly cpuMillis: number; readonly memoryMiB: number };
    this.#findings.expect(
      "I10",
      sum.cpuMillis <= facts.cpuMillis && sum.memoryMiB <= facts.memoryMiB,
      () =>
        `${row.name} has ${facts.cpuMillis} m and ${facts.memoryMiB} MiB, and ${sum.cpuMillis} m and ${sum.memoryMiB} MiB are set aside`,
    );
  }
}
