/**
 * A rollout played in memory: the planner plans, its changes are taken as carried out and healthy at once, and it plans
 * again until it has nothing more to do for the app. What a deploy will do is so decided by the planner itself.
 *
 * Everything that it needs of the snapshot is copied when it is made: the planner goes on meanwhile.
 */
import type { AppId, ReplicaId } from "../shared/model/name.ts";
import type { Change } from "../shared/plan/change.ts";
import type { Explanation } from "../shared/plan/explanation.ts";
import { planCluster } from "../shared/plan/plan-cluster.ts";
import type {
  AppState,
  ClusterSnapshot,
  DeploymentState,
  HostPort,
  NodeState,
  ReplicaTable,
  ServiceState,
  VolumeState,
} from "../shared/plan/snapshot.ts";
import { NODE_REPLICAS_MAX, TERMINAL_FROM } from "../shared/schedule/fleet.ts";
import { REPLICA_STATES } from "../shared/wire/report.ts";

/** The app as it would be after the commit. */
export interface Proposal {
  readonly app: AppState;
  readonly services: readonly ServiceState[];
  readonly deployment: DeploymentState;
  /** It failed, and this changes counts alone. */
  readonly isHalted: boolean;
}

export interface SlotPlace {
  readonly replica: string;
  /** Name of the node; of one that was removed, null. */
  readonly node: string | null;
}
/** service → slot → where its replica is, of those that shall run. */
export type Places = ReadonlyMap<string, ReadonlyMap<string, SlotPlace>>;

export interface Rehearsed {
  readonly before: Places;
  readonly after: Places;
  /** service → slot → the planner's word for the last thing it did there. */
  readonly reasons: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** The newest of each service. */
  readonly explanations: ReadonlyMap<string, Explanation>;
  /** False: it did not come to rest within the bound, and `after` is as far as it got. */
  readonly isComplete: boolean;
}

/** Rounds are bounded by slots replaced one after another; beyond 20 steps a service is rehearsed in larger ones. */
const STEPS_MAX = 20;
const ROUNDS_MAX = 120;
/** Healthy for longer than any `minHealthy`. */
const LONG_MS = 200_000_000;

const RUNNING = REPLICA_STATES.indexOf("running");
const STOPPED = REPLICA_STATES.indexOf("stopped");

interface Row {
  readonly id: ReplicaId;
  readonly service: string;
  readonly slot: string;
  readonly nodeId: string;
  readonly spec: string;
  readonly revision: number;
  readonly image: string;
  run: boolean;
  state: number;
  readonly readySinceMs: number;
  readonly fault: string;
  readonly restarts: number;
  readonly assignedMs: number;
  readonly attempt: number;
  readonly cpuMillis: number;
  readonly memoryMiB: number;
  readonly hostPorts: readonly HostPort[];
  readonly devices: Readonly<Record<string, number>>;
  readonly rev: number;
}

export class Rehearsal {
  readonly #reasons = new Map<string, Map<string, string>>();
  readonly #explanations = new Map<string, Explanation>();
  readonly #before: Places;
  /** The same in each round. */
  readonly #fixed: Pick<ClusterSnapshot, "rev" | "sites" | "nodes" | "volumeDrops">;
  readonly #appId: AppId;
  readonly #nodeIndex: ReadonlyMap<string, number>;
  /** What all other apps occupy: the same in each round. */
  readonly #others: ReplicaTable;
  /** Of the app. */
  readonly #rows = new Map<string, Row>();
  readonly #volumes: VolumeState[];
  readonly #app: AppState;
  readonly #failed: ClusterSnapshot["failed"];
  #services: readonly ServiceState[];
  #deployments: readonly DeploymentState[];
  readonly #nowMs: number;
  #round = 0;
  #isComplete = false;

  constructor(base: ClusterSnapshot, nowMs: number, { app, services, deployment, isHalted }: Proposal) {
    const { rev, sites, volumeDrops } = base;
    this.#appId = app.id;
    this.#nowMs = nowMs;
    this.#app = app;
    this.#failed = isHalted ? [{ appId: app.id, revision: app.revision }] : [];
    this.#services = services.map(hurried);
    this.#deployments = [deployment];
    this.#volumes = base.volumes.filter((volume) => volume.namespace === app.namespace && volume.app === app.name);
    this.#nodeIndex = new Map(base.nodes.map(({ id }, i) => [id, i]));
    const others = othersOnEachNode(base, app.id);
    this.#others = others.table;
    this.#fixed = { rev, sites, nodes: others.nodes, volumeDrops };
    for (const row of rowsOfApp(base, app.id)) this.#rows.set(row.id, row);
    this.#before = this.#places();
  }

  /** A round; false when there is none to follow. */
  step(): boolean {
    const idSeed = this.#round.toString(16).padStart(16, "0");
    const plan = planCluster(this.#snapshot(), { nowMs: this.#nowMs, idSeed });
    for (const explanation of plan.explanations)
      if (explanation.appId === this.#appId && isNews(explanation, this.#explanations.get(explanation.service)))
        this.#explanations.set(explanation.service, explanation);
    let isMoved = false;
    for (const change of plan.changes) if (this.#apply(change)) isMoved = true;
    this.#round += 1;
    this.#isComplete = !isMoved;
    return isMoved && this.#round < ROUNDS_MAX;
  }

  /** As far as it has got. */
  get rehearsed(): Rehearsed {
    return {
      before: this.#before,
      after: this.#places(),
      reasons: this.#reasons,
      explanations: this.#explanations,
      isComplete: this.#isComplete,
    };
  }

  #places(): Places {
    const places = new Map<string, Map<string, SlotPlace>>();
    for (const { id, service, slot, nodeId, run } of this.#rows.values()) {
      if (!run) continue;
      const slots = places.get(service) ?? new Map<string, SlotPlace>();
      const n = this.#nodeIndex.get(nodeId);
      slots.set(slot, { replica: id, node: n === undefined ? null : this.#fixed.nodes[n]!.name });
      places.set(service, slots);
    }
    return places;
  }

  /** True when it moved the app. Other apps stand still: what they wait for is not what is asked here. */
  #apply(change: Change): boolean {
    if (change.kind === "assign") return change.appId === this.#appId && this.#assign(change);
    if (change.kind === "stop" || change.kind === "end") {
      const row = this.#rows.get(change.replica);
      if (row === undefined) return false;
      if (!this.#after(row.service).has(row.slot)) this.#say(row.service, row.slot, change.reason);
      if (change.kind === "end") this.#rows.delete(change.replica);
      row.run = false;
      row.state = STOPPED;
      return true;
    }
    if (change.kind === "bindVolume") {
      if (change.appId !== this.#appId) return false;
      const { service, slot, volume, nodeId } = change;
      this.#volumes.push({ namespace: this.#app.namespace, app: this.#app.name, service, slot, volume, nodeId });
      return false;
    }
    if (change.kind === "removeService") {
      if (change.appId !== this.#appId) return false;
      this.#services = this.#services.filter(({ appId, name }) => appId !== change.appId || name !== change.service);
      return false;
    }
    if (change.kind === "deployment") this.#deployments = this.#deployments.filter(({ id }) => id !== change.id);
    return false;
  }

  #assign(change: Extract<Change, { kind: "assign" }>): boolean {
    const service = this.#services.find(({ appId, name }) => appId === change.appId && name === change.service);
    if (service === undefined) return false;
    this.#rows.set(change.replica, {
      id: change.replica,
      service: change.service,
      slot: change.slot,
      nodeId: change.nodeId,
      spec: change.spec,
      revision: change.revision,
      image: service.image,
      run: true,
      state: RUNNING,
      readySinceMs: this.#nowMs - LONG_MS,
      fault: "",
      restarts: 0,
      assignedMs: this.#nowMs - LONG_MS,
      attempt: change.attempt,
      cpuMillis: service.reservation.cpuMillis,
      memoryMiB: service.reservation.memoryMiB,
      hostPorts: service.planning.hostPorts,
      devices: service.reservation.devices,
      rev: this.#fixed.rev,
    });
    this.#say(change.service, change.slot, change.reason);
    return true;
  }

  #after(service: string): ReadonlyMap<string, string> {
    return this.#reasons.get(service) ?? new Map();
  }

  #say(service: string, slot: string, reason: string): void {
    const slots = this.#reasons.get(service) ?? new Map<string, string>();
    slots.set(slot, reason);
    this.#reasons.set(service, slots);
  }

  #snapshot(): ClusterSnapshot {
    const serviceIndex = new Map<string, number>(this.#services.map(({ name }, i) => [name, i]));
    const own = tableOf([...this.#rows.values()], {
      serviceOf: ({ service }) => serviceIndex.get(service) ?? -1,
      nodeOf: ({ nodeId }) => this.#nodeIndex.get(nodeId) ?? -1,
    });
    return {
      ...this.#fixed,
      apps: [this.#app],
      services: this.#services,
      deployments: this.#deployments,
      failed: this.#failed,
      rollbacks: [],
      volumes: this.#volumes,
      unresolved: [],
      replicas: joined(this.#others, own),
    };
  }
}

interface Indices {
  readonly serviceOf: (row: Row) => number;
  readonly nodeOf: (row: Row, at: number) => number;
}

function tableOf(rows: readonly Row[], { serviceOf, nodeOf }: Indices): ReplicaTable {
  return {
    length: rows.length,
    id: rows.map(({ id }) => id),
    service: new Int32Array(rows.map(serviceOf)),
    slot: rows.map(({ slot }) => slot),
    node: new Int32Array(rows.map(nodeOf)),
    spec: rows.map(({ spec }) => spec),
    revision: new Float64Array(rows.map(({ revision }) => revision)),
    image: rows.map(({ image }) => image),
    run: new Uint8Array(rows.map(({ run }) => (run ? 1 : 0))),
    state: new Uint8Array(rows.map(({ state }) => state)),
    readySinceMs: new Float64Array(rows.map(({ readySinceMs }) => readySinceMs)),
    fault: rows.map(({ fault }) => fault),
    restarts: new Int32Array(rows.map(({ restarts }) => restarts)),
    assignedMs: new Float64Array(rows.map(({ assignedMs }) => assignedMs)),
    attempt: new Int32Array(rows.map(({ attempt }) => attempt)),
    cpuMillis: new Int32Array(rows.map(({ cpuMillis }) => cpuMillis)),
    memoryMiB: new Int32Array(rows.map(({ memoryMiB }) => memoryMiB)),
    hostPorts: rows.map(({ hostPorts }) => hostPorts),
    devices: rows.map(({ devices }) => devices),
    rev: new Float64Array(rows.map(({ rev }) => rev)),
  };
}

/** One after the other, column by column: what does not change between rounds is copied, not made again. */
function joined(first: ReplicaTable, second: ReplicaTable): ReplicaTable {
  const length = first.length + second.length;
  const typed = <Column extends { set(from: Column, at?: number): void }>(column: Column, a: Column, b: Column): Column => {
    column.set(a);
    column.set(b, first.length);
    return column;
  };
  return {
    length,
    id: first.id.concat(second.id),
    service: typed(new Int32Array(length), first.service, second.service),
    slot: first.slot.concat(second.slot),
    node: typed(new Int32Array(length), first.node, second.node),
    spec: first.spec.concat(second.spec),
    revision: typed(new Float64Array(length), first.revision, second.revision),
    image: first.image.concat(second.image),
    run: typed(new Uint8Array(length), first.run, second.run),
    state: typed(new Uint8Array(length), first.state, second.state),
    readySinceMs: typed(new Float64Array(length), first.readySinceMs, second.readySinceMs),
    fault: first.fault.concat(second.fault),
    restarts: typed(new Int32Array(length), first.restarts, second.restarts),
    assignedMs: typed(new Float64Array(length), first.assignedMs, second.assignedMs),
    attempt: typed(new Int32Array(length), first.attempt, second.attempt),
    cpuMillis: typed(new Int32Array(length), first.cpuMillis, second.cpuMillis),
    memoryMiB: typed(new Int32Array(length), first.memoryMiB, second.memoryMiB),
    hostPorts: first.hostPorts.concat(second.hostPorts),
    devices: first.devices.concat(second.devices),
    rev: typed(new Float64Array(length), first.rev, second.rev),
  };
}

/** The last word of a service is what it could not place; a round that only cleans up says nothing new. */
const isNews = (now: Explanation, before: Explanation | undefined): boolean =>
  before === undefined || now.unplaced.length > 0 || now.placedTotal > 0 || before.unplaced.length > 0;

/** Without its waits, and in at most STEPS_MAX steps. */
function hurried(service: ServiceState): ServiceState {
  const parallelism = Math.max(service.planning.parallelism, Math.ceil(service.replicas / STEPS_MAX));
  // None stays none: it decides what goes first.
  const raised = (most: number) => (most === 0 ? 0 : Math.max(most, parallelism));
  const { maxSurge, maxUnavailable } = service.planning;
  const bounds = { maxSurge: raised(maxSurge), maxUnavailable: maxUnavailable === null ? null : raised(maxUnavailable) };
  return { ...service, planning: { ...service.planning, ...bounds, parallelism, delayMs: 0, minHealthyMs: 0 } };
}

function rowsOfApp(base: ClusterSnapshot, appId: AppId): Row[] {
  const { replicas: table, services, nodes } = base;
  const rows: Row[] = [];
  for (let i = 0; i < table.length; i++) {
    const service = services[table.service[i]!];
    if (service?.appId !== appId) continue;
    rows.push({
      id: table.id[i]!,
      service: service.name,
      slot: table.slot[i]!,
      nodeId: nodes[table.node[i]!]?.id ?? "",
      spec: table.spec[i]!,
      revision: table.revision[i]!,
      image: table.image[i]!,
      run: table.run[i] === 1,
      state: table.state[i]!,
      readySinceMs: table.readySinceMs[i]!,
      fault: table.fault[i]!,
      restarts: table.restarts[i]!,
      assignedMs: table.assignedMs[i]!,
      attempt: table.attempt[i]!,
      cpuMillis: table.cpuMillis[i]!,
      memoryMiB: table.memoryMiB[i]!,
      hostPorts: table.hostPorts[i]!,
      devices: table.devices[i]!,
      rev: table.rev[i]!,
    });
  }
  return rows;
}

/**
 * What all other apps occupy on each node, as one row that nobody wants and that is still there: the scheduler counts
 * sums, so a round costs the nodes and this app instead of every replica of the cluster. So that the row counts as all of
 * them, its node may have so many fewer.
 */
function othersOnEachNode(base: ClusterSnapshot, appId: AppId): { readonly table: ReplicaTable; readonly nodes: readonly NodeState[] } {
  const { replicas: table, services, nodes } = base;
  const isOwn = services.map((service) => service.appId === appId);
  const cpuMillis = new Int32Array(nodes.length);
  const memoryMiB = new Int32Array(nodes.length);
  const counts = new Uint32Array(nodes.length);
  const hostPorts: HostPort[][] = nodes.map(() => []);
  const devices: Record<string, number>[] = nodes.map(() => ({}));
  for (let i = 0; i < table.length; i++) {
    const n = table.node[i]!;
    if (n < 0 || table.state[i]! >= TERMINAL_FROM || isOwn[table.service[i]!] === true) continue;
    counts[n]! += 1;
    cpuMillis[n]! += table.cpuMillis[i]!;
    memoryMiB[n]! += table.memoryMiB[i]!;
    for (const port of table.hostPorts[i]!) hostPorts[n]!.push(port);
    for (const kind in table.devices[i]!) devices[n]![kind] = (devices[n]![kind] ?? 0) + table.devices[i]![kind]!;
  }
  const occupied = nodes.flatMap((_, n) => (counts[n]! > 0 ? [n] : []));
  const row = (n: number): Row => ({
    id: `r_others-${n}` as ReplicaId,
    service: "",
    slot: "",
    nodeId: nodes[n]!.id,
    spec: "",
    revision: 0,
    image: "",
    run: false,
    state: RUNNING,
    readySinceMs: Number.NaN,
    fault: "",
    restarts: 0,
    assignedMs: 0,
    attempt: 0,
    cpuMillis: cpuMillis[n]!,
    memoryMiB: memoryMiB[n]!,
    hostPorts: hostPorts[n]!,
    devices: devices[n]!,
    rev: base.rev,
  });
  return {
    table: tableOf(occupied.map(row), { serviceOf: () => -1, nodeOf: (_, i) => occupied[i]! }),
    nodes: nodes.map((node, n) => (counts[n]! > 1 ? { ...node, replicasMax: NODE_REPLICAS_MAX - counts[n]! + 1 } : node)),
  };
}
