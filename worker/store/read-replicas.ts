/** Replicas as operators see them: where, what was last observed, and those that have ended. */
import { and, asc, eq, type SQL, sql } from "drizzle-orm";
import { z } from "zod";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { apps, endedReplicas, nodeReports, nodes, observations, replicas } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

export interface ReplicaFilter {
  readonly namespace: string;
  readonly app?: string | undefined;
  readonly service?: string | undefined;
  readonly slot?: string | undefined;
  readonly id?: string | undefined;
}

type NodePart = Pick<Row<"nodes">, "id" | "name" | "site" | "status" | "facts">;

export interface LiveReplica {
  readonly app: string;
  readonly replica: Row<"replicas">;
  readonly observation: Row<"observations"> | null;
  /** Null: removed. */
  readonly node: NodePart | null;
  /** Of its node's last report; null: none has come. */
  readonly engineReachable: boolean | null;
}
export interface EndedReplica {
  readonly app: string;
  readonly ended: Row<"endedReplicas">;
  readonly node: NodePart | null;
}

/** The last replica of a page: first come those that live, then those that have ended, each in the order of these columns. */
export const ReplicaPlace = z.tuple([
  z.enum(["live", "ended"]),
  z.string(),
  z.string(),
  z.string(),
  z.number().int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER),
  z.string(),
]);
type ReplicaPlace = z.infer<typeof ReplicaPlace>;

export interface ReplicaPage {
  readonly withEnded: boolean;
  readonly limit: number;
  readonly after: ReplicaPlace | null;
}

const nodePart = { id: nodes.id, name: nodes.name, site: nodes.site, status: nodes.status, facts: nodes.facts };

export async function readReplicas(
  store: Store,
  filter: ReplicaFilter,
  { withEnded, limit, after }: ReplicaPage,
): Promise<{ marks: Marks; live: LiveReplica[]; ended: EndedReplica[]; next: ReplicaPlace | null }> {
  const { db } = store;
  const isIn: SQL[] = [eq(apps.namespace, filter.namespace)];
  if (filter.app !== undefined) isIn.push(eq(apps.name, filter.app));
  const liveIs = [...isIn];
  const endedIs = [...isIn];
  if (filter.service !== undefined) {
    liveIs.push(eq(replicas.service, filter.service));
    endedIs.push(eq(endedReplicas.service, filter.service));
  }
  if (filter.slot !== undefined) {
    liveIs.push(eq(replicas.slot, filter.slot));
    endedIs.push(eq(endedReplicas.slot, filter.slot));
  }
  if (filter.id !== undefined) {
    liveIs.push(eq(replicas.id, filter.id));
    endedIs.push(eq(endedReplicas.id, filter.id));
  }
  // Newest first, among those of one slot that have ended.
  const endedOrder = sql`-${endedReplicas.endedMs}`;
  if (after !== null) {
    const [kind, ...place] = after;
    const beyond = sql`(${sql.join(
      place.map((value) => sql`${value}`),
      sql`, `,
    )})`;
    if (kind === "live")
      liveIs.push(sql`(${apps.name}, ${replicas.service}, ${replicas.slot}, ${replicas.assignedMs}, ${replicas.id}) > ${beyond}`);
    else endedIs.push(sql`(${apps.name}, ${endedReplicas.service}, ${endedReplicas.slot}, ${endedOrder}, ${endedReplicas.id}) > ${beyond}`);
  }
  // One more than asked for tells whether there is more.
  const [live, ended, marks] = await store.selectAll([
    db
      .select({
        app: apps.name,
        replica: replicas,
        observation: observations,
        node: nodePart,
        engineReachable: nodeReports.engineReachable,
      })
      .from(replicas)
      .innerJoin(apps, eq(apps.id, replicas.appId))
      .leftJoin(observations, eq(observations.replica, replicas.id))
      .leftJoin(nodes, eq(nodes.id, replicas.nodeId))
      .leftJoin(nodeReports, eq(nodeReports.nodeId, replicas.nodeId))
      .where(and(...liveIs))
      .orderBy(asc(apps.name), asc(replicas.service), asc(replicas.slot), asc(replicas.assignedMs), asc(replicas.id))
      .limit(after?.[0] === "ended" ? 0 : limit + 1),
    db
      .select({ app: apps.name, ended: endedReplicas, node: nodePart })
      .from(endedReplicas)
      .innerJoin(apps, eq(apps.id, endedReplicas.appId))
      .leftJoin(nodes, eq(nodes.id, endedReplicas.nodeId))
      .where(and(...endedIs))
      .orderBy(asc(apps.name), asc(endedReplicas.service), asc(endedReplicas.slot), endedOrder, asc(endedReplicas.id))
      .limit(withEnded ? limit + 1 : 0),
    marksQuery(store.db),
  ]);
  const page = { live: live.slice(0, limit), ended: ended.slice(0, Math.max(0, limit - live.length)) };
  const isLast = live.length + ended.length <= limit;
  return { marks: marksIn(marks), ...page, next: isLast ? null : placeOf(page) };
}

function placeOf({ live, ended }: { readonly live: readonly LiveReplica[]; readonly ended: readonly EndedReplica[] }): ReplicaPlace {
  const last = ended.at(-1);
  if (last !== undefined) return ["ended", last.app, last.ended.service, last.ended.slot, -last.ended.endedMs, last.ended.id];
  const { app, replica } = live.at(-1)!;
  return ["live", app, replica.service, replica.slot, replica.assignedMs, replica.id];
}
