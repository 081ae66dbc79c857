/** Rows with defaults: a test names only what it is about. */
import type { NewRow, TableName } from "../../worker/store/commit-types.ts";
import type { ClusterIdentity } from "../../worker/store/store.ts";

export const IDENTITY: ClusterIdentity = {
  clusterId: "c-test",
  era: "era-1",
  rootKey: { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
  keySet: "jws",
  keySetVersion: 1,
};

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
/** `id("n", 7)` → `n_aaaaaaaaaaaaaaah` */
export function id<Prefix extends string>(prefix: Prefix, number: number): `${Prefix}_${string}` {
  let text = "";
  for (let rest = number, i = 0; i < 16; i++, rest = Math.floor(rest / 32)) text = BASE32[rest % 32]! + text;
  return `${prefix}_${text}`;
}

export const hash = (number: number): string => number.toString(16).padStart(64, "0");

type Insert<T extends TableName> = Omit<NewRow<T>, "rev">;

export const nodeRow = (number: number, over: Partial<Insert<"nodes">> = {}): Insert<"nodes"> => ({
  id: id("n", number),
  name: `node-${number}`,
  site: "default",
  thumbprint: `thumb-${number}`,
  signKey: IDENTITY.rootKey,
  sealKey: { kty: "OKP", crv: "X25519", x: IDENTITY.rootKey.x },
  joinToken: "jt",
  admission: "admitted",
  labels: {},
  taints: [],
  availability: "active",
  status: "ready",
  statusMs: 0,
  facts: {
    hostname: `host-${number}`,
    os: "linux",
    kernel: "6",
    arch: "x64",
    cpuMillis: 4000,
    memoryMiB: 8192,
    devices: {},
    labels: {},
    engine: { version: "27", apiVersion: "1.47", cgroup: "2", storage: "overlay2" },
    agentVersion: "0.1.0",
    protocol: 1,
    addresses: [],
  },
  session: 1,
  instance: "i",
  bootId: "b",
  hardware: "h",
  instanceChangesMs: [],
  quarantined: false,
  generation: 0,
  enrolledMs: 0,
  ...over,
});

export const appRow = (number: number, over: Partial<Insert<"apps">> = {}): Insert<"apps"> => ({
  id: id("app", number),
  namespace: "default",
  name: `app-${number}`,
  revision: 2,
  deleting: false,
  deleteVolumes: false,
  lockedBy: null,
  lockMessage: "",
  lockedMs: null,
  createdMs: 0,
  ...over,
});

export const serviceRow = (app: number, name: string, over: Partial<Insert<"services">> = {}): Insert<"services"> => ({
  appId: id("app", app),
  name,
  mode: "replicated",
  replicas: 1,
  spec: hash(app),
  revision: 2,
  reservation: { cpuMillis: 50, memoryMiB: 64, devices: {} },
  planning: {
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
    imageReference: "registry/web:1",
  },
  removed: false,
  ...over,
});

export const replicaRow = (number: number, over: Partial<Insert<"replicas">> = {}): Insert<"replicas"> => ({
  id: id("r", number),
  appId: id("app", 1),
  service: "web",
  slot: String(number),
  nodeId: id("n", 1),
  spec: hash(1),
  revision: 2,
  desired: "run",
  reason: "initial",
  assignedMs: 0,
  attempt: 0,
  stoppedMs: null,
  ...over,
});

export const deploymentRow = (app: number, number: number, over: Partial<Insert<"deployments">> = {}): Insert<"deployments"> => ({
  id: id("d", number),
  appId: id("app", app),
  revision: 2,
  fromRevision: null,
  kind: "deploy",
  state: "running",
  message: "",
  createdBy: "test",
  startedMs: 0,
  finishedMs: null,
  rollbackTo: null,
  halted: false,
  pausedBy: null,
  resumedMs: 0,
  canariesHealthy: false,
  promoted: false,
  ...over,
});

/** A spec body as the planner reads it. */
export const specBody = (number: number, over: { image?: string; cpuMillis?: number; published?: number } = {}): Insert<"bodies"> => ({
  hash: hash(number),
  kind: "spec",
  createdMs: 0,
  body: JSON.stringify({
    workload: {
      image: over.image ?? "registry/web:1",
      ports: over.published === undefined ? [] : [{ target: 80, protocol: "tcp", published: over.published }],
    },
    reservation: { cpuMillis: over.cpuMillis ?? 50, memoryMiB: 64, devices: {} },
    configs: {},
  }),
});
