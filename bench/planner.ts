/**
 * Placements a second through the whole of planCluster (index, placing, ids, explanations), and what planning a converged
 * cluster costs, in time of one thread. Beside each rate as `limit` is a bare loop's that takes the least loaded node off a
 * heap and writes the same number of placements down, with no rule but room; the two run in turn, a pair at a time.
 *
 * `planner.full`: pure placements/s, one thread (full = constraints, spread, anti-affinity and ports over 100 classes of
 * service), with the balance against an exhaustive scan: how far the nodes' loads lie apart after it, beside the same after
 * a scan of all nodes for each slot.
 */
import type { AppId, DeploymentId, NodeId } from "../shared/model/name.ts";
import type { ClusterPlan } from "../shared/plan/change.ts";
import { lintPlan } from "../shared/plan/lint-plan.ts";
import { planCluster } from "../shared/plan/plan-cluster.ts";
import type { ClusterSnapshot, HostPort, NodeState, ReplicaTable, ServicePlanning, ServiceState } from "../shared/plan/snapshot.ts";
import { hash32 } from "../shared/schedule/hash.ts";
import { type Bench, type Line, type Measured, measure, measurePairs, threadMs } from "./bench.ts";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const id = (prefix: string, n: number) =>
  `${prefix}_${Array.from({ length: 16 }, (_, i) => ALPHABET[hash32(`${prefix}${n}`, i) & 31]).join("")}`;

const PLANNING: ServicePlanning = {
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
  progressDeadlineMs: 600_000,
  canaries: 0,
  failureAction: "pause",
  dependsOn: [],
  ends: false,
  imageReference: "nginx:1",
};
const ZONES = 10;

function nodes(count: number): NodeState[] {
  return Array.from({ length: count }, (_, n) => ({
    id: id("n", n) as NodeId,
    name: `node-${n}`,
    site: `site-${n % 20}`,
    declared: {},
    labels: { zone: `zone-${n % ZONES}`, disk: n % 3 === 0 ? "ssd" : "hdd", cores: String(4 + (n % 4) * 4) },
    taints: [],
    availability: "active",
    status: "ready",
    statusMs: 0,
    reported: true,
    engineReachable: true,
    quarantined: false,
    arch: n % 5 === 0 ? "arm64" : "x64",
    hostname: `node-${n}`,
    // Machines of two sizes, so that evenness is about shares and not counts.
    cpuMillis: n % 2 === 0 ? 16_000 : 32_000,
    memoryMiB: n % 2 === 0 ? 32_768 : 65_536,
    devices: {},
    rev: 1,
  }));
}

function service(n: number, replicas: number, planning: Partial<ServicePlanning> = {}): ServiceState {
  return {
    appId: id("app", n) as AppId,
    name: "web",
    mode: "replicated",
    replicas,
    spec: `spec-${n}`,
    revision: 1,
    image: "sha256:1",
    resolver: null,
    reservation: { cpuMillis: 50, memoryMiB: 64, devices: {} },
    planning: { ...PLANNING, ...planning },
    removed: false,
    rev: 1,
  };
}

function cluster(fleet: NodeState[], services: ServiceState[], replicas: ReplicaTable = EMPTY): ClusterSnapshot {
  const sites = Array.from({ length: 20 }, (_, n) => ({ name: `site-${n}`, labels: { region: n % 2 === 0 ? "north" : "south" } }));
  const apps = services.map(({ appId }) => ({ id: appId, namespace: "default", name: appId, revision: 1, deleting: false, rev: 1 }));
  return {
    rev: 1,
    sites,
    nodes: fleet,
    apps,
    services,
    deployments: [],
    failed: [],
    rollbacks: [],
    volumes: [],
    volumeDrops: [],
    unresolved: [],
    replicas,
  };
}

const NO_PORTS: readonly HostPort[] = [];
const NO_DEVICES = {};
const EMPTY: ReplicaTable = tableOf([], []);

/** The replicas that a plan asked for, running and ready. */
function tableOf(
  assigns: readonly Extract<ClusterPlan["changes"][number], { kind: "assign" }>[],
  snapshotNodes: readonly NodeState[],
  services: readonly ServiceState[] = [],
): ReplicaTable {
  const nodeIndex = new Map(snapshotNodes.map((node, n) => [node.id, n]));
  const serviceIndex = new Map(services.map((state, s) => [`${state.appId}/${state.name}`, s]));
  return {
    length: assigns.length,
    id: assigns.map((assign) => assign.replica),
    service: Int32Array.from(assigns, (assign) => serviceIndex.get(`${assign.appId}/${assign.service}`) ?? -1),
    slot: assigns.map((assign) => assign.slot),
    node: Int32Array.from(assigns, (assign) => nodeIndex.get(assign.nodeId) ?? -1),
    spec: assigns.map((assign) => assign.spec),
    revision: Float64Array.from(assigns, () => 1),
    image: assigns.map(() => "sha256:1"),
    run: new Uint8Array(assigns.length).fill(1),
    state: new Uint8Array(assigns.length).fill(3),
    readySinceMs: new Float64Array(assigns.length).fill(1),
    fault: assigns.map(() => ""),
    restarts: new Int32Array(assigns.length),
    assignedMs: new Float64Array(assigns.length),
    attempt: new Int32Array(assigns.length),
    cpuMillis: new Int32Array(assigns.length).fill(50),
    memoryMiB: new Int32Array(assigns.length).fill(64),
    hostPorts: assigns.map(() => NO_PORTS),
    devices: assigns.map(() => NO_DEVICES),
    rev: new Float64Array(assigns.length),
  };
}

const plan = (snapshot: ClusterSnapshot) => planCluster(snapshot, { nowMs: 1_000_000, idSeed: "bench" });
const assignsOf = (made: ClusterPlan) => made.changes.flatMap((change) => (change.kind === "assign" ? [change] : []));

interface Rate extends Measured {
  /** The bare loop's. */
  readonly limit: number;
}

/** Placements a second of the snapshot; throws when a slot was left out, since failing fast is not placing. */
function placementsPerSecond(snapshot: ClusterSnapshot, wanted: number): Rate {
  // The system counts a thread's time in steps of up to 4 ms: a small plan is made often enough for 100,000 placements.
  const plans = Math.ceil(100_000 / wanted);
  const rate = (place: () => number) => () => {
    let placed = 0;
    const ms = threadMs(() => {
      for (let i = 0; i < plans; i += 1) placed += place();
    });
    if (placed !== wanted * plans) throw new Error(`placed ${placed} of ${wanted * plans}`);
    return ((wanted * plans) / ms) * 1000;
  };
  const [ours, bare] = measurePairs(
    rate(() => plan(snapshot).changes.length),
    rate(() => placeBare(snapshot, wanted).length),
  );
  return { ...ours, limit: bare.median };
}

interface Bare {
  readonly node: NodeId;
  readonly slot: number;
}

/** Always the node with the least share of its processors taken, from a binary heap. */
function placeBare({ nodes: fleet }: ClusterSnapshot, wanted: number): Bare[] {
  const load = new Float64Array(fleet.length);
  const share = Float64Array.from(fleet, ({ cpuMillis }) => 50 / cpuMillis);
  const heap = Int32Array.from(fleet, (_, n) => n);
  const placed: Bare[] = [];
  for (let slot = 0; slot < wanted; slot += 1) {
    const node = heap[0]!;
    if (load[node]! + share[node]! > 1) break;
    placed.push({ node: fleet[node]!.id, slot });
    load[node]! += share[node]!;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && load[heap[child + 1]!]! < load[heap[child]!]!) child += 1;
      if (load[heap[child]!]! >= load[node]!) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = node;
  }
  return placed;
}

const line = (name: string, unit: string, goal: number, { median, spread, ...rest }: Measured | Rate): Line => ({
  name,
  value: median,
  unit,
  goal,
  spread,
  ...rest,
});

function basic(count: number): Bench {
  const name = `planner.basic.${count}`;
  return {
    name,
    goal: 500_000,
    unit: "placements/s",
    async run(report) {
      // 20 replicas a node: 1,000 mCPU of 16,000 or 32,000.
      const replicas = count * 20;
      const services = Array.from({ length: 100 }, (_, n) => service(n, replicas / 100));
      report(line(name, this.unit, this.goal, placementsPerSecond(cluster(nodes(count), services), replicas)));
    },
  };
}

/** 100 classes: each a different set of constraints, spread, limit and ports; 500 replicas each. */
function classes(): ServiceState[] {
  return Array.from({ length: 100 }, (_, n) =>
    service(n, 500, {
      constraints: [
        { key: "node.labels.zone", operator: "notIn", values: [`zone-${n % ZONES}`] },
        ...(n % 2 === 0 ? [{ key: "node.arch", operator: "=" as const, values: ["x64"] }] : []),
        ...(n % 3 === 0 ? [{ key: "site.labels.region", operator: "=" as const, values: [n % 2 === 0 ? "north" : "south"] }] : []),
        { key: "node.labels.cores", operator: ">", values: [String(n % 5)] },
      ],
      spreadBy: n % 4 === 0 ? ["node.site", "node.labels.disk"] : n % 4 === 1 ? ["node.labels.zone"] : [],
      maxPerNode: n % 3 === 0 ? 1 : 2,
      strategy: n % 10 === 9 ? "binpack" : "spread",
      hostPorts: n % 5 === 0 ? [{ port: 8000 + (n % 20), protocol: "tcp", hostIp: "" }] : [],
    }),
  );
}

const full: Bench = {
  name: "planner.full.5000",
  goal: 100_000,
  unit: "placements/s",
  async run(report) {
    const fleet = nodes(5000);
    const services = classes();
    const snapshot = cluster(fleet, services);
    report(line(this.name, this.unit, this.goal, placementsPerSecond(snapshot, 50_000)));
    const placed = assignsOf(plan(snapshot)).map((assign) => assign.nodeId);
    const scanned = exhaustive(fleet, services);
    report({
      name: "planner.full.5000.load-deviation",
      value: deviation(fleet, placed),
      unit: "% of a node",
      goal: deviation(fleet, scanned) * 1.1,
      peer: deviation(fleet, scanned),
    });
  },
};

/** 20,000 services of one replica each: what a fleet of single-container sites looks like. */
const singles: Bench = {
  name: "planner.singles.5000",
  goal: 100_000,
  unit: "placements/s",
  async run(report) {
    const services = Array.from({ length: 20_000 }, (_, n) => service(n, 1));
    report(line(this.name, this.unit, this.goal, placementsPerSecond(cluster(nodes(5000), services), 20_000)));
  },
};

const converged: Bench = {
  name: "planner.converged.100000",
  goal: 100,
  unit: "ms",
  async run(report) {
    const fleet = nodes(5000);
    const services = Array.from({ length: 1000 }, (_, n) => service(n, 100));
    const snapshot = cluster(fleet, services, tableOf(assignsOf(plan(cluster(fleet, services))), fleet, services));
    const once = () =>
      threadMs(() => {
        if (plan(snapshot).changes.length > 0) throw new Error("not converged");
      });
    report(line(this.name, this.unit, this.goal, measure(once)));
  },
};

/** Every one of 1,000 apps has a deployment running, half of its 100 replicas changed over. */
const deploying: Bench = {
  name: "planner.deploying.100000",
  goal: 500,
  unit: "ms",
  async run(report) {
    const fleet = nodes(5000);
    const services = Array.from({ length: 1000 }, (_, n) => service(n, 100));
    const table = tableOf(assignsOf(plan(cluster(fleet, services))), fleet, services);
    const before = cluster(fleet, services, { ...table, spec: table.spec.map((spec, r) => (r % 2 === 0 ? spec : "before")) });
    const deployments = services.map(({ appId }, n) => ({
      id: id("d", n) as DeploymentId,
      appId,
      revision: 1,
      fromRevision: null,
      kind: "deploy" as const,
      startedMs: 900_000,
      paused: false,
      resumedMs: 0,
      canariesHealthy: false,
      promoted: false,
      rev: 1,
    }));
    const snapshot = { ...before, deployments };
    const once = () =>
      threadMs(() => {
        if (plan(snapshot).changes.length !== 1000) throw new Error("every app moves one slot");
      });
    report(line(this.name, this.unit, this.goal, measure(once)));
  },
};

/** The check before the commit, of a plan that places everything at once. */
const linted: Bench = {
  name: "planner.lint.100000",
  goal: 1000,
  unit: "ms",
  async run(report) {
    const fleet = nodes(5000);
    const snapshot = cluster(
      fleet,
      Array.from({ length: 1000 }, (_, n) => service(n, 100)),
    );
    const made = plan(snapshot);
    const once = () =>
      threadMs(() => {
        if (lintPlan(snapshot, made).length > 0) throw new Error("violations");
      });
    report(line(this.name, this.unit, this.goal, measure(once)));
  },
};

/** One node of 5,000 is lost: its 20 replicas are placed again among 100,000. */
const nodeLost: Bench = {
  name: "planner.node-lost.100000",
  goal: 200,
  unit: "ms",
  async run(report) {
    const fleet = nodes(5000);
    const services = Array.from({ length: 1000 }, (_, n) => service(n, 100));
    const before = cluster(fleet, services, tableOf(assignsOf(plan(cluster(fleet, services))), fleet, services));
    const snapshot = { ...before, nodes: fleet.map((node, n) => (n === 7 ? { ...node, status: "lost" as const } : node)) };
    const once = () =>
      threadMs(() => {
        if (plan(snapshot).changes.length === 0) throw new Error("nothing replaced");
      });
    report(line(this.name, this.unit, this.goal, measure(once)));
  },
};

/** What a scan of every node for every slot gives: fewest of the service, then least load. Same services, same order. */
function exhaustive(fleet: readonly NodeState[], services: readonly ServiceState[]): NodeId[] {
  const load = new Float64Array(fleet.length);
  const placed: NodeId[] = [];
  const allowed = services.map((state) => {
    const alone = cluster(
      [...fleet],
      [
        {
          ...state,
          replicas: fleet.length,
          planning: { ...state.planning, maxPerNode: 1, hostPorts: [], spreadBy: [], strategy: "spread" },
        },
      ],
    );
    const open = new Set(assignsOf(plan(alone)).map((assign) => assign.nodeId));
    return fleet.flatMap((node, n) => (open.has(node.id) ? [n] : []));
  });
  const ports = new Map<number, Set<number>>();
  for (const s of services.map((_, s) => s).sort((a, b) => (services[a]!.appId < services[b]!.appId ? -1 : 1))) {
    const { planning, replicas } = services[s]!;
    const own = new Int32Array(fleet.length);
    const port = planning.hostPorts[0]?.port;
    const taken = port === undefined ? null : (ports.get(port) ?? new Set<number>());
    if (port !== undefined) ports.set(port, taken!);
    const domains = planning.spreadBy.map((key) =>
      fleet.map((node) => (key === "node.site" ? node.site : (node.labels[key.slice(12)] ?? ""))),
    );
    const counts = planning.spreadBy.map(() => new Map<string, number>());
    const keyOf = (level: number, n: number) =>
      domains
        .slice(0, level + 1)
        .map((column) => column[n])
        .join("/");
    for (let slot = 0; slot < replicas; slot += 1) {
      let best = -1;
      const better = (n: number) => {
        for (let level = 0; level < domains.length; level += 1) {
          const difference = (counts[level]!.get(keyOf(level, n)) ?? 0) - (counts[level]!.get(keyOf(level, best)) ?? 0);
          if (difference !== 0) return difference < 0;
        }
        if (planning.strategy === "binpack") return load[n]! > load[best]!;
        return own[n]! !== own[best]! ? own[n]! < own[best]! : load[n]! < load[best]!;
      };
      for (const n of allowed[s]!) {
        if (own[n]! >= (planning.maxPerNode ?? Number.POSITIVE_INFINITY) || taken?.has(n)) continue;
        if (best < 0 || better(n)) best = n;
      }
      own[best]! += 1;
      load[best]! += 50 / fleet[best]!.cpuMillis;
      taken?.add(best);
      domains.forEach((_, level) => void counts[level]!.set(keyOf(level, best), (counts[level]!.get(keyOf(level, best)) ?? 0) + 1));
      placed.push(fleet[best]!.id);
    }
  }
  return placed;
}

/** Standard deviation of the nodes' load, in percent of a node. */
function deviation(fleet: readonly NodeState[], placed: readonly NodeId[]): number {
  const index = new Map(fleet.map((node, n) => [node.id, n]));
  const load = new Float64Array(fleet.length);
  for (const node of placed) load[index.get(node)!]! += 5000 / fleet[index.get(node)!]!.cpuMillis;
  const mean = load.reduce((a, b) => a + b, 0) / load.length;
  return Math.sqrt(load.reduce((sum, one) => sum + (one - mean) ** 2, 0) / load.length);
}

export const benches: Bench[] = [basic(100), basic(1000), basic(5000), full, singles, converged, deploying, nodeLost, linted];
