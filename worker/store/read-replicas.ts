/** Replicas as operators see them: where, what was last observed, and those that have ended. */
import { and, asc, desc, eq, type SQL } from "drizzle-orm";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { apps, endedReplicas, nodes, observations, replicas } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

export interface ReplicaFilter {
  readonly namespace: string;
  readonly app?: string | undefined;
  readonly service?: string | undefined;
  readonly id?: string | undefined;
}

type NodePart = Pick<Row<"nodes">, "id" | "name" | "site" | "status" | "facts">;

export interface LiveReplica {
  readonly app: string;
  readonly replica: Row<"replicas">;
  readonly observation: Row<"observations"> | null;
  /** Null: removed. */
  readonly node: NodePart | null;
}
export interface EndedReplica {
  readonly app: string;
  readonly ended: Row<"endedReplicas">;
  readonly node: NodePart | null;
}

/** Bounds one answer to about 10 MB; a cluster's whole list is read app by app. */
const REPLICAS_MAX = 10_000;
const nodePart = { id: nodes.id, name: nodes.name, site: nodes.site, status: nodes.status, facts: nodes.facts };

export async function readReplicas(
  store: Store,
  filter: ReplicaFilter,
  withEnded: boolean,
): Promise<{ marks: Marks; live: LiveReplica[]; ended: EndedReplica[] }> {
  const { db } = store;
  const isIn: SQL[] = [eq(apps.namespace, filter.namespace)];
  if (filter.app !== undefined) isIn.push(eq(apps.name, filter.app));
  const liveIs = [...isIn];
  const endedIs = [...isIn];
  if (filter.service !== undefined) {
    liveIs.push(eq(replicas.service, filter.service));
    endedIs.push(eq(endedReplicas.service, filter.service));
  }
  if (filter.id !== undefined) {
    liveIs.push(eq(replicas.id, filter.id));
    endedIs.push(eq(endedReplicas.id, filter.id));
  }
  const [live, ended, marks] = await store.selectAll([
    db
      .select({ app: apps.name, replica: replicas, observation: observations, node: nodePart })
      .from(replicas)
      .innerJoin(apps, eq(apps.id, replicas.appId))
      .leftJoin(observations, eq(observations.replica, replicas.id))
      .leftJoin(nodes, eq(nodes.id, replicas.nodeId))
      .where(and(...liveIs))
      .orderBy(asc(apps.name), asc(replicas.service), asc(replicas.slot), asc(replicas.assignedMs))
      .limit(REPLICAS_MAX),
    db
      .select({ app: apps.name, ended: endedReplicas, node: nodePart })
      .from(endedReplicas)
      .innerJoin(apps, eq(apps.id, endedReplicas.appId))
      .leftJoin(nodes, eq(nodes.id, endedReplicas.nodeId))
      .where(and(...endedIs))
      .orderBy(asc(apps.name), asc(endedReplicas.service), asc(endedReplicas.slot), desc(endedReplicas.endedMs))
      .limit(withEnded ? REPLICAS_MAX : 0),
    marksQuery(store),
  ]);
  return { marks: marksIn(marks), live, ended };
}
