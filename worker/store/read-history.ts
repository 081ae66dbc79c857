/** What happened: deployments, revisions, events, explanations. */
import { and, asc, desc, eq, gt, lt, type SQL } from "drizzle-orm";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { appRevisions, apps, deployments, events, explanations, services } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

export interface DeploymentView {
  readonly app: string;
  readonly namespace: string;
  readonly deployment: Row<"deployments">;
}

const EVENTS_MAX = 1_000;

export async function readDeployments(
  store: Store,
  filter: {
    readonly namespace: string;
    readonly app?: string | undefined;
    readonly id?: string | undefined;
    /** Older than this one's; no two deployments are of one revision. */
    readonly before?: number | undefined;
    readonly limit: number;
  },
): Promise<{ marks: Marks; deployments: DeploymentView[]; hasMore: boolean }> {
  const is: SQL[] = [eq(apps.namespace, filter.namespace)];
  if (filter.app !== undefined) is.push(eq(apps.name, filter.app));
  if (filter.id !== undefined) is.push(eq(deployments.id, filter.id));
  if (filter.before !== undefined) is.push(lt(deployments.revision, filter.before));
  const [rows, marks] = await store.selectAll([
    store.db
      .select({ app: apps.name, namespace: apps.namespace, deployment: deployments })
      .from(deployments)
      .innerJoin(apps, eq(apps.id, deployments.appId))
      .where(and(...is))
      .orderBy(desc(deployments.revision))
      .limit(filter.limit + 1),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), deployments: rows.slice(0, filter.limit), hasMore: rows.length > filter.limit };
}

/** A deployment and where its app is now; null: one of them is gone. */
export async function readDeploymentState(
  store: Store,
  id: string,
): Promise<{
  appId: string;
  namespace: string;
  app: string;
  appRevision: number;
  deleting: boolean;
  revision: number;
  rollbackTo: number | null;
} | null> {
  const [row] = await store.db
    .select({
      appId: apps.id,
      namespace: apps.namespace,
      app: apps.name,
      appRevision: apps.revision,
      deleting: apps.deleting,
      revision: deployments.revision,
      rollbackTo: deployments.rollbackTo,
    })
    .from(deployments)
    .innerJoin(apps, eq(apps.id, deployments.appId))
    .where(eq(deployments.id, id));
  return row ?? null;
}

export async function readRevisions(
  store: Store,
  filter: { readonly namespace: string; readonly app: string; readonly revision?: number | undefined },
): Promise<{ marks: Marks; app: Row<"apps"> | null; revisions: Row<"appRevisions">[] }> {
  const { db } = store;
  const isApp = and(eq(apps.namespace, filter.namespace), eq(apps.name, filter.app));
  const [appRows, rows, marks] = await store.selectAll([
    db.select().from(apps).where(isApp),
    db
      .select({ revision: appRevisions })
      .from(appRevisions)
      .innerJoin(apps, eq(apps.id, appRevisions.appId))
      .where(filter.revision === undefined ? isApp : and(isApp, eq(appRevisions.revision, filter.revision)))
      .orderBy(desc(appRevisions.revision)),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), app: appRows[0] ?? null, revisions: rows.map(({ revision }) => revision) };
}

export interface EventFilter {
  /** Null: of every namespace, and the cluster's own. */
  readonly namespace: string | null;
  readonly app?: string | undefined;
  /** Id of the last event that the caller has. */
  readonly after: number;
}

/** Oldest first; without `after` the newest ones. */
export async function readEvents(store: Store, filter: EventFilter): Promise<{ marks: Marks; events: Row<"events">[] }> {
  const is: SQL[] = [gt(events.id, filter.after)];
  if (filter.namespace !== null) is.push(eq(events.namespace, filter.namespace));
  if (filter.app !== undefined) is.push(eq(events.app, filter.app));
  const [rows, marks] = await store.selectAll([
    store.db
      .select()
      .from(events)
      .where(and(...is))
      .orderBy(filter.after === 0 ? desc(events.id) : asc(events.id))
      .limit(EVENTS_MAX),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), events: filter.after === 0 ? rows.reverse() : rows };
}

export interface WhyView {
  readonly service: string;
  readonly explanation: { readonly body: string; readonly atMs: number } | null;
}

/** Null: no such app. A service that the planner has said nothing about is there with no explanation. */
export async function readWhy(
  store: Store,
  filter: { readonly namespace: string; readonly app: string; readonly service?: string | undefined },
): Promise<{ marks: Marks; services: WhyView[] | null }> {
  const { db } = store;
  const isApp = and(eq(apps.namespace, filter.namespace), eq(apps.name, filter.app));
  const [appRows, rows, marks] = await store.selectAll([
    db.select({ id: apps.id }).from(apps).where(isApp),
    db
      .select({ service: services.name, explanation: { body: explanations.body, atMs: explanations.atMs } })
      .from(services)
      .innerJoin(apps, eq(apps.id, services.appId))
      .leftJoin(explanations, and(eq(explanations.appId, services.appId), eq(explanations.service, services.name)))
      .where(filter.service === undefined ? isApp : and(isApp, eq(services.name, filter.service)))
      .orderBy(asc(services.name)),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), services: appRows.length === 0 ? null : rows };
}
