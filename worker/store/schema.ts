/**
 * The cluster's tables. Times are cluster milliseconds (the database primary's clock). Every row of a versioned table
 * carries `rev`, the number of the commit that last touched it; the change feed is `rev > ?` plus `tombstones`.
 * JSON columns hold values that are read and written whole.
 *
 * What agents observe lives in `observations` and does not move `rev`.
 */
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { AppSpec, Reservation } from "../../shared/model/app.ts";
import type { Ed25519Jwk, X25519Jwk } from "../../shared/wire/keys.ts";
import type { NodeFacts, PortBinding } from "../../shared/wire/report.ts";

const json = <T>(name: string) => text(name, { mode: "json" }).$type<T>();
const bool = (name: string) => integer(name, { mode: "boolean" });
const rev = () => integer("rev").notNull();

/** One row (id 1): the counter, the cluster clock and the cluster's identity. */
export const cluster = sqliteTable("cluster", {
  id: integer("id").primaryKey(),
  clusterId: text("cluster_id").notNull(),
  era: text("era").notNull(),
  rev: rev(),
  /** Rev of the last planner's commit: of two plans made from the same snapshot, the second one is refused. */
  planRev: integer("plan_rev").notNull(),
  /** Counter of reports that changed an observation: `observations.mark > ?` is their change feed, beside rev. */
  observed: integer("observed").notNull(),
  /** Database time of the last commit; every time that the commit stamped is this one. */
  commitMs: integer("commit_ms").notNull(),
  /** Lowest rev from which a watch can still be answered; older tombstones are gone. */
  feedFloor: integer("feed_floor").notNull(),
  clockMs: integer("clock_ms").notNull(),
  wallMs: integer("wall_ms").notNull(),
  createdMs: integer("created_ms").notNull(),
  rootKey: json<Ed25519Jwk>("root_key").notNull(),
  /** Root-signed key set (compact JWS) and its version. */
  keySet: text("key_set").notNull(),
  keySetVersion: integer("key_set_version").notNull(),
});

export const namespaces = sqliteTable("namespaces", {
  name: text("name").primaryKey(),
  createdMs: integer("created_ms").notNull(),
  rev: rev(),
});

/** API tokens. `hash` is SHA-256 of the whole token; a null namespace means all of them. */
export const tokens = sqliteTable("tokens", {
  id: text("id").primaryKey(),
  hash: text("hash").notNull().unique(),
  name: text("name").notNull(),
  role: text("role", { enum: ["admin", "deployer", "viewer"] }).notNull(),
  namespace: text("namespace"),
  createdMs: integer("created_ms").notNull(),
  expiresMs: integer("expires_ms"),
  rev: rev(),
});

export const joinTokens = sqliteTable("join_tokens", {
  id: text("id").primaryKey(),
  publicKey: json<Ed25519Jwk>("public_key").notNull(),
  site: text("site").notNull(),
  labels: json<Record<string, string>>("labels").notNull(),
  namePattern: text("name_pattern"),
  needsApproval: bool("needs_approval").notNull(),
  usesMax: integer("uses_max").notNull(),
  uses: integer("uses").notNull(),
  createdMs: integer("created_ms").notNull(),
  expiresMs: integer("expires_ms").notNull(),
  rev: rev(),
});

export const sites = sqliteTable("sites", {
  name: text("name").primaryKey(),
  labels: json<Record<string, string>>("labels").notNull(),
  createdMs: integer("created_ms").notNull(),
  rev: rev(),
});

export const nodes = sqliteTable(
  "nodes",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull().unique(),
    site: text("site").notNull(),
    /** RFC 7638 thumbprint of signKey: the node's identity. */
    thumbprint: text("thumbprint").notNull().unique(),
    signKey: json<Ed25519Jwk>("sign_key").notNull(),
    sealKey: json<X25519Jwk>("seal_key").notNull(),
    joinToken: text("join_token").notNull(),
    admission: text("admission", { enum: ["admitted", "pending"] }).notNull(),
    /** The operator's; what the node declares of itself is in facts.labels. */
    labels: json<Record<string, string>>("labels").notNull(),
    taints: json<{ key: string; value: string }[]>("taints").notNull(),
    availability: text("availability", { enum: ["active", "cordoned"] }).notNull(),
    status: text("status", { enum: ["ready", "unreachable", "lost"] }).notNull(),
    statusMs: integer("status_ms").notNull(),
    facts: json<NodeFacts>("facts").notNull(),
    session: integer("session").notNull(),
    instance: text("instance").notNull(),
    bootId: text("boot_id").notNull(),
    hardware: text("hardware").notNull(),
    /** Times of the last instance changes, newest last, at most 4: alternation is a clone. */
    instanceChangesMs: json<number[]>("instance_changes_ms").notNull(),
    quarantined: bool("quarantined").notNull(),
    /** Rev of the last commit that changed this node's set. */
    generation: integer("generation").notNull(),
    enrolledMs: integer("enrolled_ms").notNull(),
    rev: rev(),
  },
  (t) => [index("nodes_rev").on(t.rev), index("nodes_site").on(t.site)],
);

/** Keys of removed nodes: the same key may not enroll again. */
export const removedNodes = sqliteTable("removed_nodes", {
  thumbprint: text("thumbprint").primaryKey(),
  id: text("id").notNull(),
  name: text("name").notNull(),
  removedMs: integer("removed_ms").notNull(),
});

export const apps = sqliteTable(
  "apps",
  {
    id: text("id").primaryKey(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    /** Current revision: the rev of the commit that made it. */
    revision: integer("revision").notNull(),
    /** True from `rm` until every replica is verified stopped; then the row goes. */
    deleting: bool("deleting").notNull(),
    /** With `deleting`: also drop the engine volumes. */
    deleteVolumes: bool("delete_volumes").notNull(),
    /** Who keeps others from deploying it; null: nobody. */
    lockedBy: text("locked_by"),
    lockMessage: text("lock_message").notNull(),
    lockedMs: integer("locked_ms"),
    createdMs: integer("created_ms").notNull(),
    rev: rev(),
  },
  (t) => [uniqueIndex("apps_name").on(t.namespace, t.name), index("apps_rev").on(t.rev)],
);

export const appRevisions = sqliteTable(
  "app_revisions",
  {
    appId: text("app_id").notNull(),
    revision: integer("revision").notNull(),
    spec: json<AppSpec>("spec").notNull(),
    createdBy: text("created_by").notNull(),
    createdMs: integer("created_ms").notNull(),
    /** e.g. `deploy`, `rollback to 12`, `scale web 3 → 5`. */
    message: text("message").notNull(),
    rev: rev(),
  },
  (t) => [primaryKey({ columns: [t.appId, t.revision] })],
);

/** What the current revision wants of one service; kept while `removed` until its replicas are gone. */
export const services = sqliteTable(
  "services",
  {
    appId: text("app_id").notNull(),
    name: text("name").notNull(),
    mode: text("mode", { enum: ["replicated", "global"] }).notNull(),
    replicas: integer("replicas").notNull(),
    /** Hash of the ReplicaSpec that replicas of this service shall run. */
    spec: text("spec").notNull(),
    /** App revision in which `spec` or the image last changed. */
    revision: integer("revision").notNull(),
    reservation: json<Reservation>("reservation").notNull(),
    /** The rest of the ServiceSpec that the planner reads: see ServicePlanning in shared/plan/snapshot.ts. */
    planning: json<import("../../shared/plan/snapshot.ts").ServicePlanning>("planning").notNull(),
    removed: bool("removed").notNull(),
    rev: rev(),
  },
  (t) => [primaryKey({ columns: [t.appId, t.name] }), index("services_rev").on(t.rev)],
);

/** Content-addressed bodies: replica specs and config contents. */
export const bodies = sqliteTable("bodies", {
  hash: text("hash").primaryKey(),
  kind: text("kind", { enum: ["spec", "config"] }).notNull(),
  body: text("body").notNull(),
  createdMs: integer("created_ms").notNull(),
});

/** What a tag meant when its revision was deployed. One row a (revision, reference). */
export const images = sqliteTable(
  "images",
  {
    appId: text("app_id").notNull(),
    revision: integer("revision").notNull(),
    reference: text("reference").notNull(),
    digest: text("digest"),
    imageId: text("image_id"),
    /** Node that resolves it while both are null: the first node that was assigned a replica with it. */
    resolver: text("resolver"),
    rev: rev(),
  },
  (t) => [primaryKey({ columns: [t.appId, t.revision, t.reference] }), index("images_rev").on(t.rev)],
);

/** One placed attempt at a slot. `desired` run → in the node's manifest; stop → not in it, waiting for the node's word. */
export const replicas = sqliteTable(
  "replicas",
  {
    id: text("id").primaryKey(),
    appId: text("app_id").notNull(),
    service: text("service").notNull(),
    /** Slot number as text, or the node id for a global service. */
    slot: text("slot").notNull(),
    nodeId: text("node_id").notNull(),
    spec: text("spec").notNull(),
    revision: integer("revision").notNull(),
    desired: text("desired", { enum: ["run", "stop"] }).notNull(),
    /** Why it was assigned, later why it was stopped: a word of PLAN_REASONS. */
    reason: text("reason").notNull(),
    assignedMs: integer("assigned_ms").notNull(),
    /** How many replicas of its slot were rejected in a row before it: the planner's back-off doubles with it. */
    attempt: integer("attempt").notNull(),
    stoppedMs: integer("stopped_ms"),
    rev: rev(),
  },
  (t) => [index("replicas_node").on(t.nodeId), index("replicas_app").on(t.appId), index("replicas_rev").on(t.rev)],
);

/** What was last seen of a replica. Written by reports only; does not move rev. */
export const observations = sqliteTable(
  "observations",
  {
    replica: text("replica").primaryKey(),
    nodeId: text("node_id").notNull(),
    session: integer("session").notNull(),
    seq: integer("seq").notNull(),
    state: text("state").notNull(),
    reason: text("reason").notNull(),
    message: text("message").notNull(),
    containerId: text("container_id"),
    health: text("health").notNull(),
    readySinceMs: integer("ready_since_ms"),
    restarts: integer("restarts").notNull(),
    exitCode: integer("exit_code"),
    oomKilled: bool("oom_killed").notNull(),
    ports: json<PortBinding[]>("ports").notNull(),
    pull: json<{ currentBytes: number; totalBytes: number } | null>("pull"),
    logTail: json<string[]>("log_tail").notNull(),
    asOfMs: integer("as_of_ms").notNull(),
    /** Value of cluster.observed when the row was last written. */
    mark: integer("mark").notNull(),
  },
  (t) => [index("observations_mark").on(t.mark)],
);

/** Last acknowledged report of each node and what it said of its engine; does not move rev. */
export const nodeReports = sqliteTable(
  "node_reports",
  {
    nodeId: text("node_id").primaryKey(),
    session: integer("session").notNull(),
    seq: integer("seq").notNull(),
    /** Generation that the agent has accepted. */
    generation: integer("generation").notNull(),
    /** First complete report of `session` has arrived. */
    complete: bool("complete").notNull(),
    engineReachable: bool("engine_reachable").notNull(),
    engineMessage: text("engine_message").notNull(),
    asOfMs: integer("as_of_ms").notNull(),
    /** Value of cluster.observed when something beside seq and asOfMs last changed. */
    mark: integer("mark").notNull(),
  },
  (t) => [index("node_reports_mark").on(t.mark)],
);

/** Replicas that ended, newest first, at most 10 a slot: for `ps -a`, `why` and `events`. */
export const endedReplicas = sqliteTable(
  "ended_replicas",
  {
    id: text("id").primaryKey(),
    appId: text("app_id").notNull(),
    service: text("service").notNull(),
    slot: text("slot").notNull(),
    nodeId: text("node_id").notNull(),
    revision: integer("revision").notNull(),
    state: text("state").notNull(),
    reason: text("reason").notNull(),
    message: text("message").notNull(),
    exitCode: integer("exit_code"),
    logTail: json<string[]>("log_tail").notNull(),
    endedMs: integer("ended_ms").notNull(),
    rev: rev(),
  },
  (t) => [index("ended_slot").on(t.appId, t.service, t.slot)],
);

/**
 * Where a slot's named volumes are. Named as the engine's volumes are, by namespace and app: data that an app leaves
 * behind is there for the next app of that name. Goes with `--delete-data`, or with its node.
 */
export const volumes = sqliteTable(
  "volumes",
  {
    namespace: text("namespace").notNull(),
    app: text("app").notNull(),
    service: text("service").notNull(),
    slot: text("slot").notNull(),
    volume: text("volume").notNull(),
    nodeId: text("node_id").notNull(),
    engineName: text("engine_name").notNull(),
    rev: rev(),
  },
  (t) => [
    primaryKey({ columns: [t.namespace, t.app, t.service, t.slot, t.volume] }),
    index("volumes_node").on(t.nodeId),
    index("volumes_rev").on(t.rev),
  ],
);

/**
 * Volumes a node shall drop because their app was removed with its data. The row goes when the node says that the volume is
 * gone; until then nothing that uses one of that name is placed there.
 */
export const volumeDrops = sqliteTable(
  "volume_drops",
  { nodeId: text("node_id").notNull(), engineName: text("engine_name").notNull(), rev: rev() },
  (t) => [primaryKey({ columns: [t.nodeId, t.engineName] }), index("volume_drops_rev").on(t.rev)],
);

export const deployments = sqliteTable(
  "deployments",
  {
    id: text("id").primaryKey(),
    appId: text("app_id").notNull(),
    revision: integer("revision").notNull(),
    fromRevision: integer("from_revision"),
    kind: text("kind", { enum: ["deploy", "scale", "rollback"] }).notNull(),
    state: text("state", { enum: ["running", "succeeded", "failed", "superseded"] }).notNull(),
    message: text("message").notNull(),
    createdBy: text("created_by").notNull(),
    startedMs: integer("started_ms").notNull(),
    finishedMs: integer("finished_ms"),
    /** Set as it fails: the revision to go back to. Owed while it is its app's newest deployment; null: nothing is owed. */
    rollbackTo: integer("rollback_to"),
    /** It scales an app whose deployment failed: it changes counts alone, and its revision has failed as much as that one. */
    halted: integer("halted", { mode: "boolean" }).notNull(),
    /** Who paused it; null: nobody. */
    pausedBy: text("paused_by"),
    /** When it was last resumed or promoted: deadlines run anew from then on; 0: never. */
    resumedMs: integer("resumed_ms").notNull(),
    canariesHealthy: integer("canaries_healthy", { mode: "boolean" }).notNull(),
    promoted: integer("promoted", { mode: "boolean" }).notNull(),
    rev: rev(),
  },
  (t) => [index("deployments_app").on(t.appId), index("deployments_rev").on(t.rev), index("deployments_state").on(t.state)],
);

/** The planner's last explanation of each service: an Explanation of shared/plan/explanation.ts. */
export const explanations = sqliteTable(
  "explanations",
  { appId: text("app_id").notNull(), service: text("service").notNull(), body: text("body").notNull(), atMs: integer("at_ms").notNull() },
  (t) => [primaryKey({ columns: [t.appId, t.service] })],
);

/** Sealed registry credentials: compact JWE under the cluster's sealing key. */
export const registries = sqliteTable(
  "registries",
  {
    namespace: text("namespace").notNull(),
    registry: text("registry").notNull(),
    username: text("username").notNull(),
    sealed: text("sealed").notNull(),
    kid: text("kid").notNull(),
    createdMs: integer("created_ms").notNull(),
    rev: rev(),
  },
  (t) => [primaryKey({ columns: [t.namespace, t.registry] })],
);

/** Events, at most 200 an object. */
export const events = sqliteTable(
  "events",
  {
    id: integer("id").primaryKey({ autoIncrement: true }),
    /** Null: cluster-wide (nodes, sites). */
    namespace: text("namespace"),
    /** node | app | service | replica | deployment | volume */
    objectKind: text("object_kind").notNull(),
    objectId: text("object_id").notNull(),
    /** App name for objects inside one, for filtering. */
    app: text("app"),
    type: text("type").notNull(),
    level: text("level", { enum: ["info", "warning", "error"] }).notNull(),
    message: text("message").notNull(),
    atMs: integer("at_ms").notNull(),
    rev: rev(),
  },
  (t) => [
    index("events_object").on(t.objectKind, t.objectId),
    index("events_namespace").on(t.namespace, t.id),
    index("events_rev").on(t.rev),
  ],
);

/** Append-only: one row a committed operator mutation. `hash` is null until a tick chains it: see shared/audit/chain.ts. */
export const audit = sqliteTable("audit", {
  rev: integer("rev").primaryKey(),
  atMs: integer("at_ms").notNull(),
  actor: text("actor").notNull(),
  verb: text("verb").notNull(),
  namespace: text("namespace"),
  object: text("object").notNull(),
  detail: text("detail").notNull(),
  hash: text("hash"),
});

/** One row (id 1): the newest chained audit row, and the lease key's signature over it. */
export const auditHead = sqliteTable("audit_head", {
  id: integer("id").primaryKey(),
  upToRev: integer("up_to_rev").notNull(),
  rowCount: integer("row_count").notNull(),
  hash: text("hash").notNull(),
  /** Compact JWS, typ `auditHead`: SignedHead of shared/audit/chain.ts. */
  signed: text("signed").notNull(),
});

/** Operations already carried out: at most once, and a retry gets the same answer. Purged after 24 h. */
export const ops = sqliteTable(
  "ops",
  { opId: text("op_id").primaryKey(), atMs: integer("at_ms").notNull(), rev: integer("rev").notNull(), result: text("result").notNull() },
  (t) => [index("ops_at").on(t.atMs)],
);

export const tombstones = sqliteTable(
  "tombstones",
  { kind: text("kind").notNull(), key: text("key").notNull(), rev: integer("rev").notNull(), atMs: integer("at_ms").notNull() },
  (t) => [primaryKey({ columns: [t.kind, t.key] }), index("tombstones_rev").on(t.rev)],
);
