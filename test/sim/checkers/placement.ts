/** What replicas are promised, and where: rows alone, and beside them what truly holds a port. */
import { TERMINAL_STATES, type ReplicaState } from "../../../shared/wire/report.ts";
import type { Machine } from "../machine.ts";
import type { Findings } from "./findings.ts";
import { REPLICA_LABEL } from "./health.ts";
import { type Batch, keyOf, type ReplicaRow, type Rows } from "./rows.ts";
import { clash, type HostPort, type Specs } from "./specs.ts";

/** Replicas of one slot that are neither gone nor were ever on a lost node: the old one and the new one. */
const A_SLOT_MAX = 2;
const FIXED = ["app_id", "service", "slot", "node_id", "spec", "revision"] as const satisfies readonly (keyof ReplicaRow)[];

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

  isTerminal(replica: string): boolean {
    const state = this.#rows.get("observations", replica)?.state;
    return state !== undefined && TERMINAL_STATES.has(state as ReplicaState);
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
      if (before === null && after !== null) this.#assigned(after);
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

  #assigned(row: ReplicaRow): void {
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

  /** Nothing is promised a port that a container still has whose end nobody has told. */
  #portsInUse(row: ReplicaRow): void {
    const machine = this.#machineOf(row.node_id);
    const { ports } = this.#specs.of(row.spec);
    if (machine === undefined || machine.wasCloned || ports.length === 0) return;
    this.#findings.looks("I10");
    for (const container of machine.engine.containers.values()) {
      const other = container.body.Labels[REPLICA_LABEL];
      if (container.status !== "running" || other === undefined || other === row.id) continue;
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
