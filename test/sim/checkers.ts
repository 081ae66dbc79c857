/**
 * What must hold, checked after every step in which something moved, against what is really so: the database's rows and
 * every simulated container. Numbers are those of docs/spec/invariants.md.
 */
import { TERMINAL_STATES, type ReplicaState } from "../../shared/wire/report.ts";
import type { SimContainer } from "./engine.ts";
import type { Machine } from "./machine.ts";
import type { World } from "./world.ts";

export interface Violation {
  readonly invariant: string;
  readonly atMs: number;
  readonly message: string;
}

interface ReplicaRow {
  readonly id: string;
  readonly app_id: string;
  readonly service: string;
  readonly slot: string;
  readonly node_id: string;
  readonly spec: string;
  readonly desired: "run" | "stop";
  readonly reason: string;
}
interface ObservationRow {
  readonly replica: string;
  readonly session: number;
  readonly seq: number;
  readonly state: ReplicaState;
  readonly mark: number;
}
interface NodeRow {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly session: number;
  readonly facts: string;
}
interface ClusterRow {
  readonly rev: number;
  readonly observed: number;
  readonly clock_ms: number;
}

const RANK: Readonly<Record<ReplicaState, number>> = {
  assigned: 0,
  preparing: 1,
  starting: 2,
  running: 2,
  stopping: 3,
  completed: 4,
  stopped: 4,
  failed: 4,
  rejected: 4,
};
/** The store's own bound on one step of the cluster clock. */
const CLOCK_STEP_MAX_MS = 5_000;
const REPLICA_LABEL = "berth.replica";

export class Checkers {
  readonly violations: Violation[] = [];
  /** How often each was looked at. */
  readonly looked = new Map<string, number>();
  readonly #world: World;
  #isDirty = false;
  #cluster: ClusterRow | null = null;
  #replicas = new Map<string, ReplicaRow>();
  readonly #everAssigned = new Map<string, string>();
  #observations = new Map<string, ObservationRow>();
  #nodes = new Map<string, NodeRow>();
  #audit = new Map<number, string>();
  readonly #bodies = new Map<string, { cpuMillis: number; memoryMiB: number; ports: string[] }>();
  readonly #joinUses = new Map<string, number>();
  /** Which data each slot's volume was first written to, by engine volume and slot. */
  readonly #data = new Map<string, { readonly data: string; readonly machine: string }>();
  readonly #endedTerminal = new Set<string>();
  /** Ids of removed nodes: nothing of theirs is answered with a manifest any more. */
  readonly removedNodes = new Set<string>();

  constructor(world: World) {
    this.#world = world;
  }

  /** From here on, with a cluster that has been made. */
  begin(): void {
    const { database, kernel, machines } = this.#world;
    database.onWrite = () => {
      this.#isDirty = true;
      this.#rows();
    };
    kernel.observe(() => this.#step());
    for (const machine of machines) this.watch(machine);
    this.#rows();
  }

  watch(machine: Machine): void {
    machine.engine.onChange = (container) => this.#containerMoved(machine, container);
    machine.engine.onStopAsked = (container, how) => this.#stopAsked(machine, container, how);
  }

  fail(invariant: string, message: string): void {
    this.violations.push({ invariant, atMs: this.#world.nowMs, message });
    this.#world.kernel.log("checker", `${invariant} is broken: ${message}`);
  }

  looks(invariant: string, times = 1): void {
    this.looked.set(invariant, (this.looked.get(invariant) ?? 0) + times);
  }

  #step(): void {
    for (const machine of this.#world.machines) {
      const failure = machine.failures.shift();
      if (failure !== undefined) this.fail("crash", `the agent of ${machine.name} ended with ${failure}`);
    }
    const error = this.#world.isolate?.errors.shift();
    if (error !== undefined && /breaks its own rules|invariant|TypeError|RangeError|ReferenceError/.test(error))
      this.fail("crash", `the control plane said: ${error.slice(0, 600)}`);
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#looksAtPlacement();
  }

  /** After each batch: what one commit may do to the rows. */
  #rows(): void {
    const { database } = this.#world;
    const [cluster] = database.look("select rev, observed, clock_ms from cluster") as unknown as ClusterRow[];
    if (cluster === undefined) return;
    const before = this.#cluster;
    this.#cluster = cluster;
    if (before !== null) {
      this.looks("I11");
      const step = cluster.clock_ms - before.clock_ms;
      if (step < 0 || step > CLOCK_STEP_MAX_MS) this.fail("I11", `the cluster clock moved by ${step} ms`);
      this.looks("I12");
      if (cluster.rev < before.rev || cluster.rev > before.rev + 1)
        this.fail("I12", `rev went from ${before.rev} to ${cluster.rev} in one batch`);
      if (cluster.observed < before.observed) this.fail("I12", `observed went back from ${before.observed} to ${cluster.observed}`);
    }
    this.#checkReplicas();
    this.#checkObservations();
    this.#checkAudit();
    this.#checkJoinTokens();
  }

  #checkReplicas(): void {
    const { database } = this.#world;
    const rows = database.look("select id, app_id, service, slot, node_id, spec, desired, reason from replicas") as unknown as ReplicaRow[];
    const nodes = new Map(
      (database.look("select id, name, status, session, facts from nodes") as unknown as NodeRow[]).map((row) => [row.id, row]),
    );
    const now = new Map(rows.map((row) => [row.id, row]));
    for (const row of rows) {
      this.looks("I17");
      const before = this.#replicas.get(row.id);
      if (before !== undefined && before.desired === "stop" && row.desired === "run")
        this.fail("I17", `replica ${row.id} is wanted again after it was stopped`);
      if (before !== undefined && (before.node_id !== row.node_id || before.spec !== row.spec)) this.fail("I17", `replica ${row.id} moved`);
      if (before === undefined && this.#endedTerminal.has(row.id)) this.fail("I17", `replica ${row.id} ended and is back`);
      if (before === undefined && !nodes.has(row.node_id))
        this.fail("I18", `replica ${row.id} was assigned to ${row.node_id}, which is no node`);
      if (row.reason === "nodeLost" && before?.desired === "run" && row.desired === "stop" && nodes.get(row.node_id)?.status !== "lost")
        this.fail("I24", `replica ${row.id} was given up as lost while its node is ${nodes.get(row.node_id)?.status ?? "gone"}`);
      this.#everAssigned.set(row.id, row.node_id);
    }
    for (const [id, row] of this.#replicas) {
      if (now.has(id)) continue;
      this.#endedTerminal.add(id);
      const state = this.#observations.get(id)?.state;
      const isKnownEnded = state !== undefined && TERMINAL_STATES.has(state);
      const machine = this.#world.machines.find(({ name }) => name === this.#nodes.get(row.node_id)?.name);
      const runs =
        machine !== undefined &&
        [...machine.engine.containers.values()].some(
          (container) => container.body.Labels[REPLICA_LABEL] === id && container.status === "running",
        );
      if (!isKnownEnded && runs && !machine.wasCloned && nodes.has(row.node_id))
        this.fail("I17", `replica ${id} was ended while it runs on ${machine.name} and nobody said that it stopped`);
    }
    this.#replicas = now;
    this.#nodes = nodes;
  }

  #checkObservations(): void {
    const rows = this.#world.database.look("select replica, session, seq, state, mark from observations") as unknown as ObservationRow[];
    const now = new Map<string, ObservationRow>();
    for (const row of rows) {
      now.set(row.replica, row);
      const before = this.#observations.get(row.replica);
      if (before === undefined || (before.session === row.session && before.seq === row.seq && before.state === row.state)) continue;
      this.looks("I15");
      if (row.session < before.session || (row.session === before.session && row.seq < before.seq))
        this.fail(
          "I15",
          `an older report replaced a newer one of ${row.replica}: ${before.session}/${before.seq} → ${row.session}/${row.seq}`,
        );
      if (TERMINAL_STATES.has(before.state) && row.state !== before.state)
        this.fail("I17", `replica ${row.replica} was ${before.state} and is ${row.state}`);
      if (row.session === before.session && RANK[row.state] < RANK[before.state] && RANK[before.state] >= 3)
        this.fail("I17", `replica ${row.replica} went back from ${before.state} to ${row.state}`);
    }
    this.#observations = now;
  }

  #checkAudit(): void {
    this.looks("I19");
    const rows = this.#world.database.look("select rev, actor, verb, object, detail from audit order by rev");
    const now = new Map(rows.map((row) => [row.rev as number, JSON.stringify(row)]));
    for (const [rev, text] of this.#audit)
      if (now.get(rev) !== text) this.fail("I19", `the audit row of rev ${rev} was changed or removed`);
    this.#audit = now;
  }

  #checkJoinTokens(): void {
    for (const { id, uses, uses_max } of this.#world.database.look("select id, uses, uses_max from join_tokens")) {
      this.looks("I29");
      if ((uses as number) > (uses_max as number))
        this.fail("I29", `join token ${String(id)} was used ${String(uses)} times of ${String(uses_max)}`);
      this.#joinUses.set(String(id), uses as number);
    }
  }

  /** I10 over what is promised: assignments that have not ended, on each node. */
  #looksAtPlacement(): void {
    const sums = new Map<string, { cpuMillis: number; memoryMiB: number; ports: Map<string, string> }>();
    for (const row of this.#replicas.values()) {
      const state = this.#observations.get(row.id)?.state;
      if (state !== undefined && TERMINAL_STATES.has(state)) continue;
      const body = this.#body(row.spec);
      const sum = sums.get(row.node_id) ?? { cpuMillis: 0, memoryMiB: 0, ports: new Map() };
      sum.cpuMillis += body.cpuMillis;
      sum.memoryMiB += body.memoryMiB;
      for (const port of row.desired === "run" ? body.ports : []) {
        const other = sum.ports.get(port);
        if (other !== undefined) this.fail("I10", `port ${port} of ${row.node_id} is given to ${other} and ${row.id}`);
        sum.ports.set(port, row.id);
      }
      sums.set(row.node_id, sum);
    }
    for (const [node, sum] of sums) {
      this.looks("I10");
      const row = this.#nodes.get(node);
      if (row === undefined) continue;
      const facts = JSON.parse(row.facts) as { cpuMillis: number; memoryMiB: number };
      if (sum.cpuMillis > facts.cpuMillis || sum.memoryMiB > facts.memoryMiB)
        this.fail(
          "I10",
          `${row.name} has ${facts.cpuMillis} m and ${facts.memoryMiB} MiB, and ${sum.cpuMillis} m and ${sum.memoryMiB} MiB are set aside`,
        );
    }
  }

  #body(hash: string): { cpuMillis: number; memoryMiB: number; ports: string[] } {
    let known = this.#bodies.get(hash);
    if (known === undefined) {
      const [row] = this.#world.database.look(`select body from bodies where hash = '${hash}'`);
      if (row === undefined) {
        this.fail("I14", `a replica names the spec ${hash}, which is not stored`);
        return { cpuMillis: 0, memoryMiB: 0, ports: [] };
      }
      const body = JSON.parse(row.body as string) as {
        reservation: { cpuMillis: number; memoryMiB: number };
        workload: { ports: { published?: number; protocol: string }[] };
      };
      known = {
        ...body.reservation,
        ports: body.workload.ports.flatMap(({ published, protocol }) => (published === undefined ? [] : [`${published}/${protocol}`])),
      };
      this.#bodies.set(hash, known);
    }
    return known;
  }

  /** A container began or ceased to run. */
  #containerMoved(machine: Machine, container: SimContainer): void {
    const id = container.body.Labels[REPLICA_LABEL];
    if (id === undefined || container.status !== "running") return;
    this.looks("I5");
    const node = this.#everAssigned.get(id);
    const here = [...this.#nodes.values()].find(({ name }) => name === machine.name)?.id;
    if (node === undefined) this.fail("I5", `${machine.name} runs ${id}, which was never assigned`);
    else if (here !== undefined && node !== here && !this.removedNodes.has(node))
      this.fail("I5", `${machine.name} runs ${id}, which was assigned to ${node}`);
    const row = this.#replicas.get(id);
    this.looks("I9");
    if (row !== undefined && container.body.Labels["berth.spec"] !== row.spec)
      this.fail("I9", `${id} runs another spec than it was assigned`);
    this.looks("I8");
    if (container.body.HostConfig.Privileged) this.fail("I8", `${machine.name} runs a privileged container, which its policy forbids`);
    this.#volumes(machine, container, id);
  }

  /** A slot's data is in one place: it never starts elsewhere with an empty volume, and never twice at once. */
  #volumes(machine: Machine, container: SimContainer, id: string): void {
    for (const mount of container.body.HostConfig.Mounts) {
      if (mount.Type !== "volume" || mount.Source === undefined) continue;
      this.looks("I10");
      const volume = machine.engine.volumes.get(mount.Source);
      const row = this.#replicas.get(id);
      if (volume === undefined || row === undefined) continue;
      const slot = `${row.app_id} ${row.service} ${row.slot} ${mount.Source}`;
      const first = this.#data.get(slot);
      if (first === undefined) this.#data.set(slot, { data: volume.data, machine: machine.name });
      else if (first.data !== volume.data)
        this.fail("I10", `slot ${row.service}/${row.slot} has its data on ${first.machine} and runs on ${machine.name} with other data`);
      for (const other of machine.engine.containers.values()) {
        if (other === container || other.status !== "running") continue;
        const otherRow = this.#replicas.get(other.body.Labels[REPLICA_LABEL] ?? "");
        if (otherRow === undefined || otherRow.slot !== row.slot || otherRow.service !== row.service || otherRow.app_id !== row.app_id)
          continue;
        if (other.body.HostConfig.Mounts.some(({ Source }) => Source === mount.Source))
          this.fail("I10", `two containers of slot ${row.service}/${row.slot} write to ${mount.Source} on ${machine.name}`);
      }
    }
  }

  /** The agent asks the engine to end a container that runs. */
  #stopAsked(machine: Machine, container: SimContainer, how: string): void {
    const id = container.body.Labels[REPLICA_LABEL];
    if (id === undefined) {
      this.fail("I5", `the agent of ${machine.name} asked to ${how} ${container.name}, which is not berth's`);
      return;
    }
    this.looks("I21");
    const row = this.#replicas.get(id);
    const node = [...this.#nodes.values()].find(({ name }) => name === machine.name);
    if (row?.desired === "run" && node !== undefined && row.node_id === node.id && !machine.mayStop)
      this.fail("I21", `the agent of ${machine.name} asked to ${how} ${container.name}, which runs as it shall`);
  }

  /** After faults have stopped and everything had its time: what is wanted is what runs. */
  checkConverged(): void {
    this.looks("I32");
    const { database, machines } = this.#world;
    const wanted = new Map<string, ReplicaRow>();
    for (const row of this.#replicas.values()) {
      const state = this.#observations.get(row.id)?.state;
      if (row.desired === "run") wanted.set(row.id, row);
      else
        this.fail(
          "I33",
          `replica ${row.id} is to stop (${row.reason}) and has not ended: ${state ?? "never seen"}, node ${this.#nodes.get(row.node_id)?.status ?? "gone"}`,
        );
    }
    const running = new Map<string, string>();
    for (const machine of machines) {
      if (!machine.isOn) continue;
      for (const container of machine.engine.containers.values()) {
        const id = container.body.Labels[REPLICA_LABEL];
        if (id === undefined) continue;
        if (running.has(id)) this.fail("I32", `two containers of ${id}`);
        if (container.status === "running") running.set(id, machine.name);
        if (!wanted.has(id))
          this.fail("I32", `${container.name} (${container.status}) on ${machine.name} belongs to nothing that is wanted`);
      }
    }
    const behaviours = new Map<string, boolean>();
    for (const { app_id, name, mode, replicas, removed } of database.look("select app_id, name, mode, replicas, removed from services")) {
      const key = `${String(app_id)} ${String(name)}`;
      const have = [...wanted.values()].filter((row) => `${row.app_id} ${row.service}` === key);
      const want = removed === 1 ? 0 : mode === "global" ? null : (replicas as number);
      behaviours.set(key, true);
      if (want === null || this.#world.mayLack(String(app_id), String(name))) continue;
      this.looks("I32");
      if (have.length !== want)
        this.fail("I32", `${this.#appName(String(app_id))}/${String(name)} wants ${want} replicas and has ${have.length}`);
      for (const row of have) {
        if (!running.has(row.id) && !this.#world.mayRest(row.id))
          this.fail(
            "I32",
            `${this.#appName(row.app_id)}/${row.service}/${row.slot} (${row.id}) shall run on ${this.#nodes.get(row.node_id)?.name ?? "nothing"} and does not: ${this.#observations.get(row.id)?.state ?? "never seen"}`,
          );
      }
    }
    this.#checkRollbacks();
    for (const { name, status } of this.#nodes.values()) {
      const machine = machines.find((candidate) => candidate.name === name);
      if (machine?.isAgentUp === true && status !== "ready" && machine.ended === null)
        this.fail("I32", `${name} is up and counts as ${status}`);
    }
  }

  /** Told from what the operator asked for alone. One that was refused for good was said to be; a scale after a failure owes none. */
  #checkRollbacks(): void {
    this.looks("I38");
    const owing = this.#world.database.look(`
      select d.id, a.name, d.message from deployments d join apps a on a.id = d.app_id and a.revision = d.revision
      where d.state = 'failed' and d.kind <> 'rollback' and d.halted = 0 and d.from_revision is not null and a.deleting = 0
        and exists (select 1 from services s where s.app_id = a.id and s.removed = 0 and s.planning ->> '$.failureAction' = 'rollback')
        and not exists (select 1 from events e where e.object_id = d.id and e.type = 'notRolledBack')`);
    for (const { id, name, message } of owing)
      this.fail("I38", `deployment ${String(id)} of ${String(name)} failed (${String(message)}) and was never rolled back`);
  }

  #appName(id: string): string {
    return String(this.#world.database.look(`select name from apps where id = '${id}'`)[0]?.name ?? id);
  }

  get revision(): number {
    return this.#cluster?.rev ?? 0;
  }
}
