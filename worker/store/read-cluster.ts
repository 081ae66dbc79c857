/** The cluster, its namespaces and its sites. */
import { asc, count, eq } from "drizzle-orm";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { apps, cluster, joinTokens, namespaces, nodes, registries, sites, tokens, volumes } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

/** Apps are counted in `namespace` alone, where it is given: what others have is not this caller's to know. */
export async function readClusterInfo(
  store: Store,
  namespace: string | null,
): Promise<{ marks: Marks; cluster: Row<"cluster">; nodes: number; apps: number }> {
  const { db } = store;
  const [rows, [nodeCount], [appCount], marks] = await store.selectAll([
    db.select().from(cluster),
    db.select({ count: count() }).from(nodes),
    namespace === null
      ? db.select({ count: count() }).from(apps)
      : db.select({ count: count() }).from(apps).where(eq(apps.namespace, namespace)),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), cluster: rows[0]!, nodes: nodeCount?.count ?? 0, apps: appCount?.count ?? 0 };
}

export async function readFeedFloor(store: Store): Promise<number> {
  const [row] = await store.db.select({ floor: cluster.feedFloor }).from(cluster);
  return row?.floor ?? 0;
}

export async function namespaceExists(store: Store, name: string): Promise<boolean> {
  const [row] = await store.db.select({ name: namespaces.name }).from(namespaces).where(eq(namespaces.name, name));
  return row !== undefined;
}

/** `only`: the one that the caller may see; null: all. */
export async function readNamespaces(store: Store, only: string | null): Promise<{ marks: Marks; namespaces: Row<"namespaces">[] }> {
  const query = store.db.select().from(namespaces).orderBy(asc(namespaces.name));
  const [rows, marks] = await store.selectAll([only === null ? query : query.where(eq(namespaces.name, only)), marksQuery(store.db)]);
  return { marks: marksIn(marks), namespaces: rows };
}

export interface NamespaceView {
  readonly marks: Marks;
  readonly namespace: Row<"namespaces"> | null;
  /** What still belongs to it, by name. */
  readonly apps: readonly string[];
  readonly tokens: readonly string[];
  readonly registries: readonly string[];
  /** Data, also of apps that were removed. */
  readonly volumes: readonly { readonly app: string; readonly volume: string; readonly nodeId: string }[];
}

export async function readNamespace(store: Store, name: string): Promise<NamespaceView> {
  const { db } = store;
  const [rows, appRows, tokenRows, registryRows, volumeRows, marks] = await store.selectAll([
    db.select().from(namespaces).where(eq(namespaces.name, name)),
    db.select({ name: apps.name }).from(apps).where(eq(apps.namespace, name)).orderBy(asc(apps.name)),
    db.select({ id: tokens.id }).from(tokens).where(eq(tokens.namespace, name)).orderBy(asc(tokens.id)),
    db.select({ registry: registries.registry }).from(registries).where(eq(registries.namespace, name)).orderBy(asc(registries.registry)),
    db
      .select({ app: volumes.app, volume: volumes.volume, nodeId: volumes.nodeId })
      .from(volumes)
      .where(eq(volumes.namespace, name))
      .orderBy(asc(volumes.app), asc(volumes.volume)),
    marksQuery(store.db),
  ]);
  return {
    marks: marksIn(marks),
    namespace: rows[0] ?? null,
    apps: appRows.map((row) => row.name),
    tokens: tokenRows.map((row) => row.id),
    registries: registryRows.map((row) => row.registry),
    volumes: volumeRows,
  };
}

export interface SiteView extends Row<"sites"> {
  readonly nodes: number;
}

export async function readSites(store: Store): Promise<{ marks: Marks; sites: SiteView[] }> {
  const { db } = store;
  const [rows, counts, marks] = await store.selectAll([
    db.select().from(sites).orderBy(asc(sites.name)),
    db.select({ site: nodes.site, count: count() }).from(nodes).groupBy(nodes.site),
    marksQuery(store.db),
  ]);
  const nodesOf = new Map(counts.map((row) => [row.site, row.count]));
  return { marks: marksIn(marks), sites: rows.map((row) => ({ ...row, nodes: nodesOf.get(row.name) ?? 0 })) };
}

/** One site with what refers to it. */
export async function readSite(
  store: Store,
  name: string,
): Promise<{ marks: Marks; site: SiteView | null; joinTokens: readonly string[] }> {
  const { db } = store;
  const [rows, [nodeCount], tokenRows, marks] = await store.selectAll([
    db.select().from(sites).where(eq(sites.name, name)),
    db.select({ count: count() }).from(nodes).where(eq(nodes.site, name)),
    db.select({ id: joinTokens.id }).from(joinTokens).where(eq(joinTokens.site, name)).orderBy(asc(joinTokens.id)),
    marksQuery(store.db),
  ]);
  const [row] = rows;
  return {
    marks: marksIn(marks),
    site: row === undefined ? null : { ...row, nodes: nodeCount?.count ?? 0 },
    joinTokens: tokenRows.map(({ id }) => id),
  };
}
