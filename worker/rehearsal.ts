/**
 * A rollout played in memory: the planner plans, its changes are taken as carried out and healthy at once, and it plans
 * again until it has nothing more to do for the app. What a deploy will do is so decided by the planner itself.
 */
import type { AppId, ReplicaId } from "../shared/model/name.ts";
import type { Change } from "../shared/plan/change.ts";
import type { Explanation } from "../shared/plan/explanation.ts";
import { planCluster } from "../shared/plan/plan-cluster.ts";
import type { AppState, ClusterSnapshot, DeploymentState, HostPort, ServiceState, VolumeState } from "../shared/plan/snapshot.ts";
import { REPLICA_STATES, TERMINAL_STATES } from "../shared/wire/report.ts";

/** The app as it would be after the commit. */
export interface Proposal {
  readonly app: AppState;
  readonly services: readonly ServiceState[];
  readonly deployment: DeploymentState;
}

export interface SlotPlace {
  readonly replica: string;
  readonly nodeId: string | null;
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
  readonly appId: string;
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

export function rehearse(snapshot: ClusterSnapshot, nowMs: number, proposal: Proposal): Rehearsed {
  const world = new World(snapshot, nowMs, proposal);
  const before = world.places();
  let isComplete = false;
  for (let round = 0; round < ROUNDS_MAX && !isComplete; round++) isComplete = !world.step(round);
  return { before, after: world.places(), reasons: world.reasons, explanations: world.explanations, isComplete };
}

class World {
  readonly reasons = new Map<string, Map<string, string>>();
  readonly explanations = new Map<string, Explanation>();
  readonly #base: ClusterSnapshot;
  readonly #appId: AppId;
  readonly #rows = new Map<string, Row>();
  readonly #volumes: VolumeState[];
  readonly #app: AppState;
  #services: readonly ServiceState[];
  #deployments: readonly DeploymentState[];
  #nowMs: number;

  constructor(base: ClusterSnapshot, nowMs: number, { app, services, deployment }: Proposal) {
    this.#base = base;
    this.#appId = app.id;
    this.#nowMs = nowMs;
    this.#app = app;
    this.#services = services.map(hurried);
    this.#deployments = [deployment];
    this.#volumes = base.volumes.filter((volume) => volume.namespace === app.namespace && volume.app === app.name);
    for (const row of [...rowsOfApp(base, app.id), ...othersOnEachNode(base, app.id)]) this.#rows.set(row.id, row);
  }

  /** False: nothing is left to do for the app. */
  step(round: number): boolean {
    const plan = planCluster(this.#snapshot(), { nowMs: this.#nowMs, idSeed: round.toString(16).padStart(16, "0") });
    for (const explanation of plan.explanations)
      if (explanation.appId === this.#appId && isNews(explanation, this.explanations.get(explanation.service)))
        this.explanations.set(explanation.service, explanation);
    let isMoved = false;
    for (const change of plan.changes) if (this.#apply(change)) isMoved = true;
    return isMoved;
  }

  places(): Places {
    const places = new Map<string, Map<string, SlotPlace>>();
    const nodes = new Set<string>(this.#base.nodes.map(({ id }) => id));
    for (const { id, appId, service, slot, nodeId, run } of this.#rows.values()) {
      if (appId !== this.#appId || !run) continue;
      const slots = places.get(service) ?? new Map<string, SlotPlace>();
      slots.set(slot, { replica: id, nodeId: nodes.has(nodeId) ? nodeId : null });
      places.set(service, slots);
    }
    return places;
  }

  /** True when it moved the app. Other apps stand still: what they wait for is not what is asked here. */
  #apply(change: Change): boolean {
    if (change.kind === "assign") return change.appId === this.#appId && this.#assign(change);
    if (change.kind === "stop" || change.kind === "end") {
      const row = this.#rows.get(change.replica);
      if (row === undefined || row.appId !== this.#appId) return false;
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
      appId: change.appId,
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
      rev: this.#base.rev,
    });
    this.#say(change.service, change.slot, change.reason);
    return true;
  }

  #after(service: string): ReadonlyMap<string, string> {
    return this.reasons.get(service) ?? new Map();
  }

  #say(service: string, slot: string, reason: string): void {
    const slots = this.reasons.get(service) ?? new Map<string, string>();
    slots.set(slot, reason);
    this.reasons.set(service, slots);
  }

  #snapshot(): ClusterSnapshot {
    const rows = [...this.#rows.values()];
    const serviceIndex = new Map(this.#services.map(({ appId, name }, i) => [`${appId} ${name}`, i]));
    const nodeIndex = new Map<string, number>(this.#base.nodes.map(({ id }, i) => [id, i]));
    return {
      ...this.#base,
      apps: [this.#app],
      services: this.#services,
      deployments: this.#deployments,
      failed: [],
      rollbacks: [],
      volumes: this.#volumes,
      replicas: {
        length: rows.length,
        id: rows.map(({ id }) => id),
        service: Int32Array.from(rows, ({ appId, service }) => serviceIndex.get(`${appId} ${service}`) ?? -1),
        slot: rows.map(({ slot }) => slot),
        node: Int32Array.from(rows, ({ nodeId }) => nodeIndex.get(nodeId) ?? -1),
        spec: rows.map(({ spec }) => spec),
        revision: Float64Array.from(rows, ({ revision }) => revision),
        image: rows.map(({ image }) => image),
        run: Uint8Array.from(rows, ({ run }) => (run ? 1 : 0)),
        state: Uint8Array.from(rows, ({ state }) => state),
        readySinceMs: Float64Array.from(rows, ({ readySinceMs }) => readySinceMs),
        fault: rows.map(({ fault }) => fault),
        restarts: Int32Array.from(rows, ({ restarts }) => restarts),
        assignedMs: Float64Array.from(rows, ({ assignedMs }) => assignedMs),
        attempt: Int32Array.from(rows, ({ attempt }) => attempt),
        cpuMillis: Int32Array.from(rows, ({ cpuMillis }) => cpuMillis),
        memoryMiB: Int32Array.from(rows, ({ memoryMiB }) => memoryMiB),
        hostPorts: rows.map(({ hostPorts }) => hostPorts),
        devices: rows.map(({ devices }) => devices),
        rev: Float64Array.from(rows, ({ rev }) => rev),
      },
    };
  }
}

/** The last word of a service is what it could not place; a round that only cleans up says nothing new. */
const isNews = (now: Explanation, before: Explanation | undefined): boolean =>
  before === undefined || now.unplaced.length > 0 || now.placedTotal > 0 || before.unplaced.length > 0;

/** Without its waits, and in at most STEPS_MAX steps. */
function hurried(service: ServiceState): ServiceState {
  const parallelism = Math.max(service.planning.parallelism, Math.ceil(service.replicas / STEPS_MAX));
  return { ...service, planning: { ...service.planning, parallelism, delayMs: 0, minHealthyMs: 0 } };
}

function rowsOfApp(base: ClusterSnapshot, appId: AppId): Row[] {
  const { replicas: table, services, nodes } = base;
  const rows: Row[] = [];
  for (let i = 0; i < table.length; i++) {
    const service = services[table.service[i]!];
    if (service?.appId !== appId) continue;
    rows.push({
      id: table.id[i]!,
      appId,
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
 * sums, so nothing of it is lost, and a round costs the nodes and this app instead of every replica of the cluster.
 */
function othersOnEachNode(base: ClusterSnapshot, appId: AppId): Row[] {
  const { replicas: table, services, nodes } = base;
  const rows = nodes.map(
    ({ id }, n): Row & { cpuMillis: number; memoryMiB: number; hostPorts: HostPort[]; devices: Record<string, number> } => ({
      id: `r_others-${n}` as ReplicaId,
      appId: "",
      service: "",
      slot: "",
      nodeId: id,
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
      cpuMillis: 0,
      memoryMiB: 0,
      hostPorts: [],
      devices: {},
      rev: base.rev,
    }),
  );
  for (let i = 0; i < table.length; i++) {
    const row = rows[table.node[i]!];
    if (row === undefined || services[table.service[i]!]?.appId === appId || TERMINAL_STATES.has(REPLICA_STATES[table.state[i]!]!))
      continue;
    row.cpuMillis += table.cpuMillis[i]!;
    row.memoryMiB += table.memoryMiB[i]!;
    row.hostPorts.push(...table.hostPorts[i]!);
    for (const [kind, count] of Object.entries(table.devices[i]!)) row.devices[kind] = (row.devices[kind] ?? 0) + count;
  }
  return rows;
}
