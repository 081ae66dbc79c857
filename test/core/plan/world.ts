/**
 * Snapshots for tests: named nodes, apps and replicas with defaults, ids derived from the names.
 *   world().nodes(3).app("shop").service("web", { replicas: 2 }).replica("web", 0, "n1").snapshot()
 */
import type { AppId, DeploymentId, NodeId, ReplicaId } from "../../../shared/model/name.ts";
import type {
  AppState,
  ClusterSnapshot,
  DeploymentState,
  HostPort,
  NodeState,
  ReplicaTable,
  ServicePlanning,
  ServiceState,
  SiteState,
  UnresolvedImage,
  VolumeDropState,
  VolumeState,
} from "../../../shared/plan/snapshot.ts";
import { hash32 } from "../../../shared/schedule/hash.ts";
import { REPLICA_STATES, type ReplicaState } from "../../../shared/wire/report.ts";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** 16 characters that depend on the name alone. */
export function idOf<Prefix extends string>(prefix: Prefix, name: string): `${Prefix}_${string}` {
  return `${prefix}_${Array.from({ length: 16 }, (_, i) => ALPHABET[hash32(name, i) & 31]).join("")}`;
}
export const nodeId = (name: string): NodeId => idOf("n", name);
export const appId = (name: string): AppId => idOf("app", name);

/** The start of all worlds. */
export const START_MS = 1_000_000;

export const PLANNING: ServicePlanning = {
  constraints: [],
  tolerations: [],
  strategy: "spread",
  spreadBy: [],
  maxPerNode: null,
  hostPorts: [],
  volumes: [],
  colocate: false,
  order: "auto",
  parallelism: 1,
  maxSurge: 1,
  maxUnavailable: null,
  delayMs: 0,
  minHealthyMs: 10_000,
  healthyDeadlineMs: 300_000,
  progressDeadlineMs: 300_000,
  failureAction: "pause",
  canaries: 0,
  dependsOn: [],
  ends: false,
  imageReference: "nginx:1",
};

/** What is as another word says, where it is not said itself. */
const followed = ({ parallelism = 1, healthyDeadlineMs = PLANNING.healthyDeadlineMs }: Partial<ServicePlanning>) => ({
  maxSurge: parallelism,
  progressDeadlineMs: healthyDeadlineMs,
});

/** A deployment that no operator has touched. */
export const UNTOUCHED = { paused: false, resumedMs: 0, canariesHealthy: false, promoted: false };

export interface ServiceOptions
  extends Partial<Omit<ServiceState, "planning" | "reservation" | "appId" | "name">>,
    Partial<ServicePlanning> {
  readonly cpuMillis?: number;
  readonly memoryMiB?: number;
  readonly devices?: Record<string, number>;
}

export interface ReplicaRow {
  id: ReplicaId;
  appId: AppId;
  service: string;
  slot: string;
  nodeId: NodeId;
  spec: string;
  revision: number;
  image: string;
  run: boolean;
  state: ReplicaState;
  readySinceMs: number | null;
  fault: string;
  restarts: number;
  assignedMs: number;
  attempt: number;
  cpuMillis: number;
  memoryMiB: number;
  hostPorts: readonly HostPort[];
  devices: Readonly<Record<string, number>>;
}

/** Rows as the database has them; `snapshot` joins them. Public and mutable: tests change the world between plans. */
export class World {
  rev = 100;
  nowMs = START_MS;
  sites: SiteState[] = [{ name: "home", labels: {} }];
  nodeRows: NodeState[] = [];
  apps: AppState[] = [];
  services: ServiceState[] = [];
  deployments: DeploymentState[] = [];
  failed: { appId: AppId; revision: number }[] = [];
  volumes: VolumeState[] = [];
  volumeDrops: VolumeDropState[] = [];
  unresolved: UnresolvedImage[] = [];
  replicas: ReplicaRow[] = [];
  #app = "shop";

  site(name: string, labels: Record<string, string> = {}): this {
    this.sites.push({ name, labels });
    return this;
  }

  node(name: string, options: Partial<Omit<NodeState, "id" | "name">> = {}): this {
    const defaults = {
      site: "home",
      labels: {},
      declared: {},
      taints: [],
      availability: "active",
      status: "ready",
      statusMs: 0,
      reported: true,
      engineReachable: true,
      quarantined: false,
      arch: "x64",
      hostname: name,
      cpuMillis: 4000,
      memoryMiB: 8192,
      devices: {},
      rev: 1,
    } as const;
    this.nodeRows.push({ id: nodeId(name), name, ...defaults, ...options });
    return this;
  }

  /** n1 … nN. */
  nodes(count: number, options: Partial<Omit<NodeState, "id" | "name">> = {}): this {
    for (let i = 1; i <= count; i += 1) this.node(`n${i}`, options);
    return this;
  }

  changeNode(name: string, change: Partial<NodeState>): this {
    this.nodeRows = this.nodeRows.map((node) => (node.name === name ? { ...node, ...change } : node));
    return this;
  }

  removeNode(name: string): this {
    this.nodeRows = this.nodeRows.filter((node) => node.name !== name);
    return this;
  }

  /** Following services belong to it. */
  app(name: string, options: Partial<AppState> = {}): this {
    this.#app = name;
    this.apps.push({ id: appId(name), namespace: "default", name, revision: 1, deleting: false, rev: 1, ...options });
    return this;
  }

  service(name: string, options: ServiceOptions = {}): this {
    if (!this.apps.some((app) => app.name === this.#app)) this.app(this.#app);
    const {
      cpuMillis = 50,
      memoryMiB = 64,
      devices = {},
      mode = "replicated",
      replicas = mode === "global" ? 0 : 1,
      spec = `spec-${name}-1`,
      revision = 1,
      image = "sha256:1",
      resolver = null,
      removed = false,
      rev = 1,
      ...planning
    } = options;
    this.services.push({
      appId: appId(this.#app),
      name,
      mode,
      replicas,
      spec,
      revision,
      image,
      resolver,
      removed,
      rev,
      reservation: { cpuMillis, memoryMiB, devices },
      planning: { ...PLANNING, ...followed(planning), ...planning },
    });
    return this;
  }

  appOf(id: AppId): AppState {
    const app = this.apps.find((candidate) => candidate.id === id);
    if (!app) throw new Error(`no app ${id} in this world`);
    return app;
  }

  serviceOf(name: string): ServiceState {
    const service = this.services.find((candidate) => candidate.name === name);
    if (!service) throw new Error(`no service ${name} in this world`);
    return service;
  }

  changeService(
    name: string,
    { planning, ...change }: Partial<Omit<ServiceState, "planning">> & { planning?: Partial<ServicePlanning> },
  ): this {
    this.services = this.services.map((service) =>
      service.name === name ? { ...service, ...change, planning: { ...service.planning, ...planning } } : service,
    );
    return this;
  }

  /** A replica that has run healthily since the start unless told otherwise. */
  replica(service: string, slot: number | string, node: string, options: Partial<ReplicaRow> = {}): this {
    const { appId: app, spec, revision, image, reservation, planning } = this.serviceOf(service);
    this.replicas.push({
      id: idOf("r", `${service}/${slot}/${node}/${this.replicas.length}`),
      appId: app,
      service,
      slot: String(slot),
      nodeId: nodeId(node),
      spec,
      revision,
      image,
      run: true,
      state: "running",
      readySinceMs: START_MS - 600_000,
      fault: "",
      restarts: 0,
      assignedMs: START_MS - 700_000,
      attempt: 0,
      cpuMillis: reservation.cpuMillis,
      memoryMiB: reservation.memoryMiB,
      hostPorts: planning.hostPorts,
      devices: reservation.devices,
      ...options,
    });
    return this;
  }

  volume(service: string, slot: number, node: string, volume = "data"): this {
    const { namespace, name: app } = this.appOf(this.serviceOf(service).appId);
    this.volumes.push({ namespace, app, service, slot: String(slot), volume, nodeId: nodeId(node) });
    return this;
  }

  /** The node has yet to delete an engine volume. */
  drop(node: string, engineName = "e"): this {
    this.volumeDrops.push({ nodeId: nodeId(node), engineName });
    return this;
  }

  deployment(options: Partial<DeploymentState> & { app?: string } = {}): this {
    const { app = this.#app, ...rest } = options;
    const state = this.apps.find((candidate) => candidate.name === app)!;
    this.deployments.push({
      id: idOf("d", `${app}/${state.revision}`) as DeploymentId,
      appId: state.id,
      revision: state.revision,
      fromRevision: null,
      kind: "deploy",
      startedMs: this.nowMs,
      ...UNTOUCHED,
      rev: 1,
      ...rest,
    });
    return this;
  }

  /** Rows in this order; `shuffle` gives the same rows in another. */
  snapshot(shuffle: <T>(rows: readonly T[]) => readonly T[] = (rows) => rows): ClusterSnapshot {
    const nodes = shuffle(this.nodeRows);
    const services = shuffle(this.services);
    return {
      rev: this.rev,
      sites: shuffle(this.sites),
      nodes,
      apps: shuffle(this.apps),
      services,
      deployments: shuffle(this.deployments),
      failed: shuffle(this.failed),
      rollbacks: [],
      volumes: shuffle(this.volumes),
      volumeDrops: shuffle(this.volumeDrops),
      unresolved: shuffle(this.unresolved),
      replicas: tableOf(shuffle(this.replicas), nodes, services),
    };
  }
}

export function world(): World {
  return new World();
}

function tableOf(rows: readonly ReplicaRow[], nodes: readonly NodeState[], services: readonly ServiceState[]): ReplicaTable {
  const nodeIndex = new Map(nodes.map((node, n) => [node.id, n]));
  const serviceIndex = new Map(services.map((service, s) => [`${service.appId}/${service.name}`, s]));
  const ints = (of: (row: ReplicaRow) => number) => Int32Array.from(rows, of);
  const floats = (of: (row: ReplicaRow) => number) => Float64Array.from(rows, of);
  return {
    length: rows.length,
    id: rows.map((row) => row.id),
    service: ints((row) => serviceIndex.get(`${row.appId}/${row.service}`) ?? -1),
    slot: rows.map((row) => row.slot),
    node: ints((row) => nodeIndex.get(row.nodeId) ?? -1),
    spec: rows.map((row) => row.spec),
    revision: floats((row) => row.revision),
    image: rows.map((row) => row.image),
    run: Uint8Array.from(rows, (row) => (row.run ? 1 : 0)),
    state: Uint8Array.from(rows, (row) => REPLICA_STATES.indexOf(row.state)),
    readySinceMs: floats((row) => row.readySinceMs ?? Number.NaN),
    fault: rows.map((row) => row.fault),
    restarts: ints((row) => row.restarts),
    assignedMs: floats((row) => row.assignedMs),
    attempt: ints((row) => row.attempt),
    cpuMillis: ints((row) => row.cpuMillis),
    memoryMiB: ints((row) => row.memoryMiB),
    hostPorts: rows.map((row) => row.hostPorts),
    devices: rows.map((row) => row.devices),
    rev: floats(() => 1),
  };
}
