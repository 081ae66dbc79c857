/** What the agent-facing half of the control plane reads: each function is one round trip and one consistent view. */
import { and, eq, gt, like, or, sql } from "drizzle-orm";
import type { NodeId } from "../../shared/model/name.ts";
import type { LinkRow } from "../shard/link.ts";
import type { Row } from "./commit-types.ts";
import { DATABASE_NOW_SQL } from "./commit-statements.ts";
import {
  apps,
  audit,
  auditHead,
  bodies,
  cluster,
  images,
  joinTokens,
  nodeReports,
  nodes,
  registries,
  removedNodes,
  replicas,
  sites,
  tombstones,
  volumeDrops,
} from "./schema.ts";
import type { Store } from "./store.ts";
import { preparedRead } from "./prepared-read.ts";

const now = sql<number>`${sql.raw(DATABASE_NOW_SQL)}`;
const linkColumns = {
  id: sql<NodeId>`${nodes.id}`,
  name: nodes.name,
  site: nodes.site,
  session: nodes.session,
  generation: nodes.generation,
  status: nodes.status,
  statusMs: nodes.statusMs,
  quarantined: nodes.quarantined,
  rev: nodes.rev,
};

/** Who this cluster is, as every answer to an agent says. */
export interface ClusterFacts {
  readonly clusterId: string;
  readonly era: string;
  readonly rev: number;
  readonly keySet: string;
  readonly keySetVersion: number;
}

export interface LinkChanges {
  /** Counter of what agents observed. */
  readonly observed: number;
  /** Audit rows wait to be chained. */
  readonly isAuditWaiting: boolean;
  readonly cluster: ClusterFacts;
  readonly rows: readonly LinkRow[];
  readonly removed: readonly NodeId[];
}

const LINK_CHANGES = preparedRead<{ sinceRev: number }>()((db, value) => [
  db
    .select({
      clusterId: cluster.clusterId,
      era: cluster.era,
      rev: cluster.rev,
      keySet: cluster.keySet,
      keySetVersion: cluster.keySetVersion,
    })
    .from(cluster),
  db
    .select({
      observed: cluster.observed,
      unchained: sql<number>`coalesce((select max(${audit.rev}) from ${audit}), 0) > coalesce((select ${auditHead.upToRev} from ${auditHead}), 0)`,
    })
    .from(cluster),
  db
    .select(linkColumns)
    .from(nodes)
    .where(gt(nodes.rev, value("sinceRev"))),
  db
    .select({ id: sql<NodeId>`${tombstones.key}` })
    .from(tombstones)
    .where(and(eq(tombstones.kind, "nodes"), gt(tombstones.rev, value("sinceRev")))),
]);

/** Nodes that changed after `sinceRev` and those that were removed; 0 reads all. */
export async function readLinkChanges(store: Store, sinceRev: number): Promise<LinkChanges> {
  const [facts, [pending], rows, gone] = await store.read(LINK_CHANGES, { sinceRev });
  const [only] = facts;
  if (only === undefined || pending === undefined) throw new Error("the database holds no cluster yet");
  return { cluster: only, observed: pending.observed, isAuditWaiting: pending.unchained === 1, rows, removed: gone.map(({ id }) => id) };
}

export async function readLink(store: Store, id: NodeId): Promise<LinkRow | null> {
  const [row] = await store.db.select(linkColumns).from(nodes).where(eq(nodes.id, id));
  return row ?? null;
}

export interface EnrolmentView {
  readonly nowMs: number;
  readonly token: Row<"joinTokens"> | null;
  readonly site: Row<"sites"> | null;
  /** The node that already has this key. */
  readonly node: Row<"nodes"> | null;
  /** This key belonged to a node that an operator removed. */
  readonly isRemoved: boolean;
  /** Names that begin like the wanted one, for a suffix. */
  readonly names: ReadonlySet<string>;
}

export async function readEnrolment(
  store: Store,
  asked: { readonly token: string; readonly thumbprint: string; readonly name: string },
): Promise<EnrolmentView> {
  const { db } = store;
  const [[clock], [token], [node], [removed], taken] = await store.selectAll([
    db.select({ nowMs: now }).from(cluster),
    db
      .select({ token: joinTokens, site: sites })
      .from(joinTokens)
      .leftJoin(sites, eq(sites.name, joinTokens.site))
      .where(eq(joinTokens.id, asked.token)),
    db.select().from(nodes).where(eq(nodes.thumbprint, asked.thumbprint)),
    db.select({ id: removedNodes.id }).from(removedNodes).where(eq(removedNodes.thumbprint, asked.thumbprint)),
    // `_` in a name matches any character here: a few names more are read, none is missed.
    db
      .select({ name: nodes.name })
      .from(nodes)
      .where(or(eq(nodes.name, asked.name), like(nodes.name, `${asked.name}-%`))),
  ]);
  return {
    nowMs: clock?.nowMs ?? 0,
    token: token?.token ?? null,
    site: token?.site ?? null,
    node: node ?? null,
    isRemoved: removed !== undefined,
    names: new Set(taken.map(({ name }) => name)),
  };
}

export interface SessionView {
  readonly nowMs: number;
  readonly node: Row<"nodes"> | null;
  readonly isRemoved: boolean;
  /** The newest session that its node has reported in; 0: none. */
  readonly reportedSession: number;
}

const SESSION = preparedRead<{ node: NodeId }>()((db, value) => [
  db.select({ nowMs: now }).from(cluster),
  db
    .select()
    .from(nodes)
    .where(eq(nodes.id, value("node"))),
  db
    .select({ id: removedNodes.id })
    .from(removedNodes)
    .where(eq(removedNodes.id, value("node"))),
  db
    .select({ session: nodeReports.session })
    .from(nodeReports)
    .where(eq(nodeReports.nodeId, value("node"))),
]);

export async function readForSession(store: Store, id: NodeId): Promise<SessionView> {
  const [[clock], [node], [removed], [report]] = await store.read(SESSION, { node: id });
  return { nowMs: clock?.nowMs ?? 0, node: node ?? null, isRemoved: removed !== undefined, reportedSession: report?.session ?? 0 };
}

export interface ManifestView {
  readonly generation: number;
  readonly quarantined: boolean;
  readonly replicas: readonly {
    readonly id: string;
    readonly namespace: string;
    readonly app: string;
    readonly service: string;
    readonly slot: string;
    readonly revision: number;
    readonly spec: string;
    readonly reference: string;
    readonly digest: string | null;
    readonly imageId: string | null;
    readonly resolver: string | null;
  }[];
  /** Of the namespaces that have a replica here. */
  readonly registries: readonly { readonly namespace: string; readonly registry: string; readonly version: number }[];
  readonly dropVolumes: readonly string[];
}

const imageReference = sql<string>`json_extract(${bodies.body}, '$.workload.image')`;

const MANIFEST = preparedRead<{ node: NodeId }>()((db, value) => {
  const isHere = and(eq(replicas.nodeId, value("node")), eq(replicas.desired, "run"));
  return [
    db
      .select({ generation: nodes.generation, quarantined: nodes.quarantined })
      .from(nodes)
      .where(eq(nodes.id, value("node"))),
    db
      .select({
        id: replicas.id,
        namespace: apps.namespace,
        app: apps.name,
        service: replicas.service,
        slot: replicas.slot,
        revision: replicas.revision,
        spec: replicas.spec,
        reference: imageReference,
        digest: images.digest,
        imageId: images.imageId,
        resolver: images.resolver,
      })
      .from(replicas)
      .innerJoin(apps, eq(apps.id, replicas.appId))
      .innerJoin(bodies, eq(bodies.hash, replicas.spec))
      .leftJoin(images, and(eq(images.appId, replicas.appId), eq(images.revision, replicas.revision), eq(images.reference, imageReference)))
      .where(isHere)
      .orderBy(replicas.id),
    db
      .selectDistinct({ namespace: registries.namespace, registry: registries.registry, version: registries.rev })
      .from(registries)
      .innerJoin(apps, eq(apps.namespace, registries.namespace))
      .innerJoin(replicas, eq(replicas.appId, apps.id))
      .where(isHere)
      .orderBy(registries.namespace, registries.registry),
    db
      .select({ engineName: volumeDrops.engineName })
      .from(volumeDrops)
      .where(eq(volumeDrops.nodeId, value("node")))
      .orderBy(volumeDrops.engineName)
      // As many as a manifest may name; the next ones are named when these are gone.
      .limit(1000),
  ];
});

/** The node's whole set; null: there is no such node. */
export async function readManifest(store: Store, id: NodeId): Promise<ManifestView | null> {
  const [[node], set, credentials, drops] = await store.read(MANIFEST, { node: id });
  if (node === undefined) return null;
  return { ...node, replicas: set, registries: credentials, dropVolumes: drops.map(({ engineName }) => engineName) };
}

export interface BodyRow {
  readonly kind: "spec" | "config";
  readonly body: string;
}

/** A body that a replica assigned to this node refers to; any other is null, whether it exists or not. */
export async function readAssignedBody(store: Store, id: NodeId, hash: string): Promise<BodyRow | null> {
  const { results } = await store.readRaw([
    {
      sql: `select kind, body from bodies where hash = ?2 and (
        exists (select 1 from replicas where node_id = ?1 and desired = 'run' and spec = ?2)
        or exists (
          select 1 from replicas r join bodies s on s.hash = r.spec join json_each(s.body, '$.configs') c
          where r.node_id = ?1 and r.desired = 'run' and c.value = ?2))`,
      args: [id, hash],
    },
  ]);
  const row = results[0]?.rows[0];
  return row === undefined ? null : { kind: row[0] === "config" ? "config" : "spec", body: String(row[1]) };
}

export interface CredentialView {
  readonly username: string;
  readonly sealed: string;
  readonly kid: string;
  readonly version: number;
  readonly sealKey: Row<"nodes">["sealKey"];
  /** Image references of the namespace's replicas on this node. */
  readonly references: readonly string[];
}

export async function readCredential(
  store: Store,
  id: NodeId,
  asked: { readonly namespace: string; readonly registry: string },
): Promise<CredentialView | null> {
  const { db } = store;
  const [[node], [row], used] = await store.selectAll([
    db.select({ sealKey: nodes.sealKey }).from(nodes).where(eq(nodes.id, id)),
    db
      .select({ username: registries.username, sealed: registries.sealed, kid: registries.kid, version: registries.rev })
      .from(registries)
      .where(and(eq(registries.namespace, asked.namespace), eq(registries.registry, asked.registry))),
    db
      .selectDistinct({ reference: imageReference })
      .from(replicas)
      .innerJoin(apps, eq(apps.id, replicas.appId))
      .innerJoin(bodies, eq(bodies.hash, replicas.spec))
      .where(and(eq(replicas.nodeId, id), eq(replicas.desired, "run"), eq(apps.namespace, asked.namespace))),
  ]);
  if (node === undefined || row === undefined) return null;
  return { ...row, sealKey: node.sealKey, references: used.map(({ reference }) => reference) };
}
