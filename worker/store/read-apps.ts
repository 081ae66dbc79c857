/** Apps: as operators see them, and as a deploy needs them. */
import { and, asc, count, desc, eq, inArray, isNotNull, lt, max, notExists, or, type SQL, sql } from "drizzle-orm";
import type { Workload } from "../../shared/model/app.ts";
import type { Row } from "./commit-types.ts";
import { preparedRead } from "./prepared-read.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import {
  appRevisions,
  apps,
  bodies,
  deployments,
  images,
  namespaces,
  nodes,
  observations,
  registries,
  replicas,
  services,
  volumes,
} from "./schema.ts";
import type { Marks, Store } from "./store.ts";

export interface ServiceView {
  readonly service: Row<"services">;
  readonly ports: Workload["ports"];
  readonly digest: string | null;
  readonly wanted: number;
  readonly running: number;
  readonly ready: number;
}
export interface AppView {
  readonly app: Row<"apps">;
  readonly services: readonly ServiceView[];
  /** The newest. */
  readonly deployment: Row<"deployments"> | null;
  readonly volumes: readonly { readonly name: string; readonly service: string; readonly slot: string; readonly node: string }[];
}

/** `app`: that one alone. Null: there is no such namespace. */
export async function readApps(store: Store, namespace: string, app?: string): Promise<{ marks: Marks; exists: boolean; apps: AppView[] }> {
  const { db } = store;
  const isIn = app === undefined ? eq(apps.namespace, namespace) : and(eq(apps.namespace, namespace), eq(apps.name, app));
  const [namespaceRows, appRows, serviceRows, imageRows, counts, deploymentRows, volumeRows, marks] = await store.selectAll([
    db.select({ name: namespaces.name }).from(namespaces).where(eq(namespaces.name, namespace)),
    db.select().from(apps).where(isIn).orderBy(asc(apps.name)),
    db
      .select({ service: services, ports: sql<string | null>`json_extract(${bodies.body}, '$.workload.ports')` })
      .from(services)
      .innerJoin(apps, eq(apps.id, services.appId))
      .leftJoin(bodies, eq(bodies.hash, services.spec))
      .where(isIn)
      .orderBy(asc(services.name)),
    db
      .select({
        appId: images.appId,
        revision: images.revision,
        reference: images.reference,
        digest: images.digest,
        imageId: images.imageId,
      })
      .from(images)
      .innerJoin(
        services,
        and(
          eq(services.appId, images.appId),
          eq(services.revision, images.revision),
          // Without it every service of a revision meets every image of it: 250,000 rows for an app of 500.
          eq(images.reference, sql`json_extract(${services.planning}, '$.imageReference')`),
        ),
      )
      .innerJoin(apps, eq(apps.id, images.appId))
      .where(isIn),
    db
      .select({
        appId: replicas.appId,
        service: replicas.service,
        assigned: count(),
        running: sql<number>`sum(${observations.state} = 'running')`,
        ready: sql<number>`sum(${observations.readySinceMs} is not null and ${nodes.status} = 'ready')`,
      })
      .from(replicas)
      .innerJoin(apps, eq(apps.id, replicas.appId))
      .leftJoin(observations, eq(observations.replica, replicas.id))
      .leftJoin(nodes, eq(nodes.id, replicas.nodeId))
      .where(and(isIn, eq(replicas.desired, "run")))
      .groupBy(replicas.appId, replicas.service),
    db
      .select({ deployment: deployments })
      .from(deployments)
      .innerJoin(apps, eq(apps.id, deployments.appId))
      .where(and(isIn, sql`${deployments.revision} = (select max(d.revision) from deployments d where d.app_id = ${apps.id})`)),
    db
      .select({
        appId: apps.id,
        name: volumes.volume,
        service: volumes.service,
        slot: volumes.slot,
        nodeId: volumes.nodeId,
        node: nodes.name,
      })
      .from(volumes)
      .innerJoin(apps, and(eq(apps.namespace, volumes.namespace), eq(apps.name, volumes.app)))
      .leftJoin(nodes, eq(nodes.id, volumes.nodeId))
      .where(isIn)
      .orderBy(asc(volumes.service), asc(volumes.slot), asc(volumes.volume)),
    marksQuery(store.db),
  ]);
  const countsOf = new Map(counts.map((row) => [keyOf(row.appId, row.service), row]));
  const imageOf = new Map(imageRows.map((row) => [keyOf(row.appId, row.revision, row.reference), row]));
  const servicesOf = grouped(serviceRows, ({ service }) => service.appId);
  const deploymentOf = new Map(deploymentRows.map(({ deployment }) => [deployment.appId, deployment]));
  const volumesOf = grouped(volumeRows, ({ appId }) => appId);
  const serviceView = ({ service, ports }: (typeof serviceRows)[number]): ServiceView => {
    const { appId, name, revision, planning } = service;
    const seen = countsOf.get(keyOf(appId, name));
    const image = imageOf.get(keyOf(appId, revision, planning.imageReference));
    return {
      service,
      ports: ports === null ? [] : (JSON.parse(ports) as Workload["ports"]),
      digest: image?.digest ?? image?.imageId ?? null,
      wanted: service.removed ? 0 : service.mode === "global" ? (seen?.assigned ?? 0) : service.replicas,
      running: seen?.running ?? 0,
      ready: seen?.ready ?? 0,
    };
  };
  return {
    marks: marksIn(marks),
    exists: namespaceRows.length > 0,
    apps: appRows.map((row) => ({
      app: row,
      services: (servicesOf.get(row.id) ?? []).map(serviceView),
      deployment: deploymentOf.get(row.id) ?? null,
      volumes: (volumesOf.get(row.id) ?? []).map(({ name, service, slot, node, nodeId }) => ({
        name,
        service,
        slot,
        node: node ?? nodeId,
      })),
    })),
  };
}

/** No part holds a line break. */
const keyOf = (...parts: readonly (string | number)[]): string => parts.join("\n");

function grouped<Item>(items: readonly Item[], keyOfItem: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOfItem(item));
    if (group === undefined) groups.set(keyOfItem(item), [item]);
    else group.push(item);
  }
  return groups;
}

/** Everything that a deploy relies on, of one instant. */
export interface DeployView {
  readonly marks: Marks;
  readonly namespace: Row<"namespaces"> | null;
  readonly app: Row<"apps"> | null;
  readonly current: Row<"appRevisions"> | null;
  /** The newest before the current that has not failed: its deployment did not, nor does it scale one that did. */
  readonly good: Row<"appRevisions"> | null;
  /** The revision asked for (`target`), or `good`. */
  readonly target: Row<"appRevisions"> | null;
  readonly services: readonly Row<"services">[];
  /** Those that are resolved, of every revision, oldest first. */
  readonly images: readonly Row<"images">[];
  /** Running ones. */
  readonly deployments: readonly Row<"deployments">[];
  /** The deployment of the current revision failed, or scales one that did: what is asked for is not what runs. */
  readonly hasFailed: boolean;
  /** The revision that the app is to be rolled back to and is not yet; null: none. */
  readonly rollbackTo: number | null;
  /** Also those that an earlier app of the name left behind. */
  readonly volumes: readonly Row<"volumes">[];
  readonly registries: readonly Row<"registries">[];
  /** Of the nodes that hold the app's volumes, by id; a removed one by its id. */
  readonly nodeNames: ReadonlyMap<string, string>;
}

const DEPLOY_VIEW = preparedRead<{ namespace: string; app: string; target: number | null }>()((db, value) => {
  const isApp = and(eq(apps.namespace, value("namespace")), eq(apps.name, value("app"))) as SQL;
  const isFailed = or(eq(deployments.state, "failed"), deployments.halted) as SQL;
  const failed = db
    .select({ id: deployments.id })
    .from(deployments)
    .where(and(eq(deployments.appId, appRevisions.appId), eq(deployments.revision, appRevisions.revision), isFailed));
  const previous = db
    .select({ revision: max(appRevisions.revision) })
    .from(appRevisions)
    .innerJoin(apps, eq(apps.id, appRevisions.appId))
    .where(and(isApp, lt(appRevisions.revision, apps.revision), notExists(failed)));
  const isGood = inArray(appRevisions.revision, previous);
  const isTarget = eq(appRevisions.revision, sql`${value("target")}`);
  return [
    db
      .select()
      .from(namespaces)
      .where(eq(namespaces.name, value("namespace"))),
    db.select().from(apps).where(isApp),
    db
      .select({ revision: appRevisions, isGood: sql<number>`${isGood}` })
      .from(appRevisions)
      .innerJoin(apps, eq(apps.id, appRevisions.appId))
      .where(and(isApp, or(eq(appRevisions.revision, apps.revision), isGood, isTarget))),
    db.select({ service: services }).from(services).innerJoin(apps, eq(apps.id, services.appId)).where(isApp).orderBy(asc(services.name)),
    db
      .select({ image: images })
      .from(images)
      .innerJoin(apps, eq(apps.id, images.appId))
      .where(and(isApp, or(isNotNull(images.digest), isNotNull(images.imageId))))
      .orderBy(asc(images.revision)),
    db
      .select({ deployment: deployments })
      .from(deployments)
      .innerJoin(apps, eq(apps.id, deployments.appId))
      .where(and(isApp, or(eq(deployments.state, "running"), and(isFailed, eq(deployments.revision, apps.revision)))))
      .orderBy(desc(deployments.revision)),
    db
      .select({ volume: volumes, node: nodes.name })
      .from(volumes)
      .leftJoin(nodes, eq(nodes.id, volumes.nodeId))
      .where(and(eq(volumes.namespace, value("namespace")), eq(volumes.app, value("app"))))
      .orderBy(asc(volumes.service), asc(volumes.slot), asc(volumes.volume)),
    db
      .select()
      .from(registries)
      .where(eq(registries.namespace, value("namespace"))),
    marksQuery(db),
  ];
});

export async function readForDeploy(
  store: Store,
  asked: { readonly namespace: string; readonly app: string; readonly target?: number | undefined },
): Promise<DeployView> {
  const { namespace, app: name, target = null } = asked;
  const [namespaceRows, appRows, revisionRows, serviceRows, imageRows, deploymentRows, volumeRows, registryRows, marks] = await store.read(
    DEPLOY_VIEW,
    { namespace, app: name, target },
  );
  const [app] = appRows;
  const revisions = revisionRows.map(({ revision }) => revision);
  const good = revisionRows.find(({ isGood }) => isGood === 1)?.revision ?? null;
  const failures = deploymentRows.filter(({ deployment }) => deployment.state === "failed" || deployment.halted);
  return {
    marks: marksIn(marks),
    namespace: namespaceRows[0] ?? null,
    app: app ?? null,
    current: revisions.find(({ revision }) => revision === app?.revision) ?? null,
    good,
    target: target === null ? good : (revisions.find(({ revision }) => revision === target) ?? null),
    services: serviceRows.map(({ service }) => service),
    images: imageRows.map(({ image }) => image),
    deployments: deploymentRows.flatMap(({ deployment }) => (deployment.state === "running" ? [deployment] : [])),
    hasFailed: failures.length > 0,
    rollbackTo: failures.find(({ deployment }) => deployment.rollbackTo !== null)?.deployment.rollbackTo ?? null,
    volumes: volumeRows.map(({ volume }) => volume),
    registries: registryRows,
    nodeNames: new Map(volumeRows.map(({ volume, node }) => [volume.nodeId, node ?? volume.nodeId])),
  };
}
