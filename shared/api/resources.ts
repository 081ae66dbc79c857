/**
 * What the operator API under `/v1` takes and gives, in JSON. The same schemas make the OpenAPI document, parse requests
 * in the control plane and type the CLI. Times are ISO 8601 strings in UTC as read from the cluster's clock; `asOf` says
 * how old an observation is.
 */
import { z } from "zod";
import { AppSpec, REPLICAS_MAX } from "../model/app.ts";
import { AppId, DeploymentId, JoinTokenId, LabelKey, Labels, LabelValue, Name, NodeId, ReplicaId, TokenId } from "../model/name.ts";
import { Explanation } from "../plan/explanation.ts";
import { HEALTH, NodeFacts, PortBinding, REPLICA_STATES } from "../wire/report.ts";

export const Time = z.iso.datetime();
export const Rev = z.number().int().min(0);

export const ROLES = ["viewer", "deployer", "admin"] as const;
export type Role = (typeof ROLES)[number];

/**
 * Every list answers `{ rev, watch, items }`. `?watch=` with that token holds (at most 25 s) until something in the cluster
 * is newer, then answers the whole list. The token is `REV.OBSERVED`, because what agents observe does not move rev; a
 * bare `REV` is taken too and waits for what was written and for observations from then on.
 */
export const WATCH_PATTERN = /^(\d{1,15})(?:\.(\d{1,15}))?$/;
export const listOf = <Item extends z.ZodType>(item: Item) => z.object({ rev: Rev, watch: z.string(), items: z.array(item) });

/** Words that people write and read: no control characters, nothing that turns the writing direction. */
const Words = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[^\p{Cc}\p{Cs}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]*$/u, "no control characters")
    .refine((text) => text === text.normalize("NFC"), "not in Unicode's composed form (NFC)");

/** What a delete did, and what it left behind: a sentence each. */
export const Removed = z.object({ removed: z.string(), notes: z.array(z.string()) });
export type Removed = z.infer<typeof Removed>;

export const ErrorBody = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    /** One word. */
    reason: z.string(),
    details: z.array(z.object({ path: z.string(), message: z.string() })),
    retryable: z.boolean(),
  }),
});
export type ErrorBody = z.infer<typeof ErrorBody>;

export const ClusterInfo = z.object({
  clusterId: z.string(),
  era: z.string(),
  rev: Rev,
  version: z.string(),
  rootThumbprint: z.string(),
  now: Time,
  nodes: z.number().int(),
  apps: z.number().int(),
});
export type ClusterInfo = z.infer<typeof ClusterInfo>;

/** Who the token is: the CLI's `context` shows it. */
export const WhoAmI = z.object({ token: TokenId, name: z.string(), role: z.enum(ROLES), namespace: Name.nullable() });

export const Namespace = z.object({ name: Name, created: Time });
export const NamespaceCreate = z.strictObject({ name: Name });

export const Site = z.object({ name: Name, labels: Labels, nodes: z.number().int(), created: Time });
export const SiteCreate = z.strictObject({ name: Name, labels: Labels.default({}) });
/** null removes a label. */
export const LabelsPatch = z.record(LabelKey, LabelValue.nullable());
export const SitePatch = z.strictObject({ labels: LabelsPatch });

export const Taint = z.strictObject({ key: LabelKey, value: z.string().max(256).default("") });
export const Node = z.object({
  id: NodeId,
  name: Name,
  site: Name,
  /** The operator's; those that the node declares of itself are `facts.labels`. */
  labels: Labels,
  taints: z.array(Taint),
  admission: z.enum(["admitted", "pending"]),
  availability: z.enum(["active", "cordoned"]),
  status: z.enum(["ready", "unreachable", "lost"]),
  statusSince: Time,
  quarantined: z.boolean(),
  /** When the control plane last heard from it, as far as this process knows; null: not since it started. */
  lastSeen: Time.nullable(),
  facts: NodeFacts,
  /** `reported`: whether the node has ever said; it joins before it does. */
  engine: z.object({ reported: z.boolean(), reachable: z.boolean(), message: z.string() }),
  reserved: z.object({ cpuMillis: z.number().int(), memoryMiB: z.number().int() }),
  replicas: z.number().int(),
  generation: Rev,
  acceptedGeneration: Rev,
  enrolled: Time,
});
export type Node = z.infer<typeof Node>;
/** What a token of one namespace sees of a node. */
export const NodeName = Node.pick({ name: true, site: true });
export type NodeName = z.infer<typeof NodeName>;
export const NodePatch = z.strictObject({
  labels: LabelsPatch.optional(),
  addTaints: z.array(Taint).max(32).optional(),
  removeTaints: z.array(LabelKey).max(32).optional(),
  availability: z.enum(["active", "cordoned"]).optional(),
  admission: z.literal("admitted").optional(),
  /** Lift a quarantine after the clone was dealt with. */
  reissue: z.literal(true).optional(),
});
export type NodePatch = z.infer<typeof NodePatch>;

/** Scheme, host and port: it becomes part of a line that people paste into a root shell. */
export const ServerUrl = z
  .string()
  .max(512)
  .regex(
    /^https?:\/\/(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\/?$/,
    "an address like https://berth.example.com:7420",
  );

const DAY_MS = 86_400_000;
export const JOIN_TOKEN_LIFETIME_MS = { min: 60_000, max: 365 * DAY_MS } as const;
export const TOKEN_LIFETIME_MS = { min: 60_000, max: 3_650 * DAY_MS } as const;

export const JoinTokenCreate = z.strictObject({
  site: Name,
  labels: Labels.default({}),
  namePattern: z
    .string()
    .max(63)
    .regex(/^[a-z0-9*][a-z0-9*_.-]*$/)
    .optional(),
  needsApproval: z.boolean().default(false),
  uses: z.number().int().min(1).max(10_000).default(1),
  expiresInMs: z.number().int().min(JOIN_TOKEN_LIFETIME_MS.min).max(JOIN_TOKEN_LIFETIME_MS.max).default(DAY_MS),
  /** Address that machines shall use, when it differs from the one this request came to. */
  url: ServerUrl.optional(),
});
export const JoinTokenInfo = z.object({
  id: JoinTokenId,
  site: Name,
  labels: Labels,
  needsApproval: z.boolean(),
  usesMax: z.number().int(),
  uses: z.number().int(),
  expires: Time,
  created: Time,
});
/** `token` and `command` are shown once. */
export const JoinTokenCreated = JoinTokenInfo.extend({ token: z.string(), command: z.string() });
export type JoinTokenCreated = z.infer<typeof JoinTokenCreated>;

export const TokenCreate = z.strictObject({
  name: Words(128).min(1),
  role: z.enum(ROLES),
  namespace: Name.nullable().default(null),
  expiresInMs: z.number().int().min(TOKEN_LIFETIME_MS.min).max(TOKEN_LIFETIME_MS.max).nullable().default(null),
});
export const TokenInfo = z.object({
  id: TokenId,
  name: z.string(),
  role: z.enum(ROLES),
  namespace: Name.nullable(),
  created: Time,
  expires: Time.nullable(),
});
export const TokenCreated = TokenInfo.extend({ token: z.string() });

export const RegistryPut = z.strictObject({ username: Words(256).min(1), password: z.string().min(1).max(4096) });
export const RegistryInfo = z.object({ registry: z.string(), username: z.string(), created: Time });

/** `PUT /v1/namespaces/{ns}/apps/{app}?dryRun=true` answers the plan alone. */
export const AppPut = z.strictObject({ spec: AppSpec, message: Words(256).optional() });

export const PLAN_ACTIONS = ["create", "replace", "remove", "keep"] as const;
export const PlannedReplica = z.object({
  slot: z.string(),
  action: z.enum(PLAN_ACTIONS),
  /** Node names; `from` is where the old replica is. */
  from: z.string().nullable(),
  to: z.string().nullable(),
  /** One word for why, then a sentence when it is not placed. */
  reason: z.string(),
  message: z.string(),
});
export const PlannedService = z.object({
  service: z.string(),
  action: z.enum(["create", "update", "remove", "keep", "scale"]),
  /** What differs from the running revision, in words: "image nginx:1 → nginx:2". */
  differences: z.array(z.string()),
  order: z.enum(["start-first", "stop-first"]),
  orderReason: z.string(),
  replicas: z.array(PlannedReplica).max(1000),
  counts: z.object({
    create: z.number().int(),
    replace: z.number().int(),
    remove: z.number().int(),
    keep: z.number().int(),
    unplaced: z.number().int(),
  }),
});
export const DeployPlan = z.object({
  namespace: Name,
  app: Name,
  fromRevision: Rev.nullable(),
  /** True: nothing would change. */
  unchanged: z.boolean(),
  services: z.array(PlannedService),
  volumes: z.array(z.object({ name: z.string(), action: z.enum(["create", "keep", "orphan"]) })),
  /** "web and db talk to each other, so the app is placed whole on one node". */
  notes: z.array(z.string()),
});
export type DeployPlan = z.infer<typeof DeployPlan>;
export type PlannedService = z.infer<typeof PlannedService>;

export const DEPLOYMENT_STATES = ["running", "succeeded", "failed", "superseded"] as const;
export const Deployment = z.object({
  id: DeploymentId,
  namespace: Name,
  app: Name,
  revision: Rev,
  fromRevision: Rev.nullable(),
  kind: z.enum(["deploy", "scale", "rollback"]),
  state: z.enum(DEPLOYMENT_STATES),
  message: z.string(),
  createdBy: z.string(),
  /** Nothing new is begun until it is resumed; null: it is not paused. */
  pausedBy: z.string().nullable(),
  /** It has canaries, all of them are healthy, and it waits to be promoted. */
  canariesHealthy: z.boolean(),
  promoted: z.boolean(),
  started: Time,
  finished: Time.nullable(),
});
export type Deployment = z.infer<typeof Deployment>;
export const DeployAnswer = z.object({ plan: DeployPlan, deployment: Deployment.nullable() });
export type DeployAnswer = z.infer<typeof DeployAnswer>;

export const ServiceStatus = z.object({
  name: Name,
  mode: z.enum(["replicated", "global"]),
  image: z.string(),
  digest: z.string().nullable(),
  wanted: z.number().int(),
  running: z.number().int(),
  ready: z.number().int(),
  ports: z.array(z.object({ target: z.number().int(), protocol: z.string(), published: z.number().int().nullable() })),
  removed: z.boolean(),
});
export const App = z.object({
  id: AppId,
  namespace: Name,
  name: Name,
  revision: Rev,
  deleting: z.boolean(),
  /** Nobody deploys it, scales it or rolls it back while it is locked. */
  lock: z.object({ by: z.string(), message: z.string(), since: Time }).nullable(),
  services: z.array(ServiceStatus),
  deployment: Deployment.nullable(),
  volumes: z.array(z.object({ name: z.string(), service: z.string(), slot: z.string(), node: z.string() })),
  created: Time,
});
export type App = z.infer<typeof App>;
export const AppDetail = App.extend({ spec: AppSpec });

export const Revision = z.object({ revision: Rev, createdBy: z.string(), created: Time, message: z.string(), current: z.boolean() });
export const RevisionDetail = Revision.extend({ spec: AppSpec });

export const RollbackPost = z.strictObject({
  /** Absent: the newest before the current whose deployment did not fail. */ toRevision: Rev.optional(),
});
/** Why nobody may deploy it for now, for those who try. */
export const LockPut = z.strictObject({ message: Words(256).min(1) });

/** Of one service between two revisions, in words; `changed` with none: only what moves no replica. */
export const ServiceDiff = z.object({ service: Name, change: z.enum(["added", "removed", "changed"]), differences: z.array(z.string()) });
export const RevisionDiff = z.object({ from: Rev, to: Rev, services: z.array(ServiceDiff), others: z.array(z.string()) });
export type RevisionDiff = z.infer<typeof RevisionDiff>;

export const ServicePatch = z.strictObject({ replicas: z.number().int().min(0).max(REPLICAS_MAX) });

export const Replica = z.object({
  id: ReplicaId,
  namespace: Name,
  app: Name,
  service: Name,
  slot: z.string(),
  node: z.object({
    id: NodeId,
    name: z.string(),
    site: z.string(),
    status: z.enum(["ready", "unreachable", "lost", "removed"]),
    /** False: nothing is known of its containers until the engine answers again. */
    engineReachable: z.boolean(),
    addresses: z.array(z.string()),
  }),
  revision: Rev,
  desired: z.enum(["run", "stop"]),
  state: z.enum(REPLICA_STATES),
  reason: z.string(),
  message: z.string(),
  health: z.enum(HEALTH),
  readySince: Time.nullable(),
  restarts: z.number().int(),
  exitCode: z.number().int().nullable(),
  oomKilled: z.boolean(),
  ports: z.array(PortBinding),
  pull: z.object({ currentBytes: z.number().int(), totalBytes: z.number().int() }).nullable(),
  logTail: z.array(z.string()),
  containerId: z.string().nullable(),
  assigned: Time,
  ended: Time.nullable(),
  /** When this was last known to be so: while its node and engine answer, the node's last poll. */
  asOf: Time.nullable(),
});
export type Replica = z.infer<typeof Replica>;

export const Event = z.object({
  id: z.number().int(),
  at: Time,
  namespace: Name.nullable(),
  object: z.object({ kind: z.string(), id: z.string() }),
  app: z.string().nullable(),
  type: z.string(),
  level: z.enum(["info", "warning", "error"]),
  message: z.string(),
});
export type Event = z.infer<typeof Event>;

/** One mutation that was carried out. `hash` chains it to the row before (shared/audit/chain.ts); null until then. */
export const AuditEntry = z.object({
  rev: Rev,
  at: Time,
  actor: z.string(),
  verb: z.string(),
  namespace: Name.nullable(),
  object: z.string(),
  detail: z.string(),
  hash: z.string().nullable(),
});
export type AuditEntry = z.infer<typeof AuditEntry>;

/** The newest chained row. `signed`: the same as a compact JWS under a key of the key set (`GET /agent/v1/keys`). */
export const AuditHead = z.object({ rev: Rev, rows: z.number().int(), hash: z.string(), signed: z.string() });
export type AuditHead = z.infer<typeof AuditHead>;

export const Why = z.object({ app: Name, service: Name, explanation: Explanation.nullable(), at: Time.nullable() });
export type Why = z.infer<typeof Why>;

/** One line of `GET …/logs`, as newline-delimited JSON. */
export const LogLine = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("line"),
    replica: z.string(),
    service: z.string(),
    slot: z.string(),
    node: z.string(),
    stream: z.enum(["stdout", "stderr"]),
    at: z.string().nullable(),
    text: z.string(),
    cut: z.boolean(),
  }),
  /** A node that could not answer, or a replica with no container. Never fails the call. */
  z.object({
    kind: z.literal("missing"),
    replica: z.string(),
    service: z.string(),
    slot: z.string(),
    node: z.string(),
    message: z.string(),
  }),
]);
export type LogLine = z.infer<typeof LogLine>;
