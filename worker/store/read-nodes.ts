/** Nodes as operators see them: the row, the last report, and what is set aside on each. */
import { asc, count, eq, or, sql } from "drizzle-orm";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { bodies, nodeReports, nodes, replicas, volumeDrops, volumes } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

export interface NodeView {
  readonly node: Row<"nodes">;
  /** Null: it has not reported yet. */
  readonly report: Row<"nodeReports"> | null;
  readonly replicas: number;
  readonly reserved: { readonly cpuMillis: number; readonly memoryMiB: number };
}

const NOTHING = { replicas: 0, cpuMillis: 0, memoryMiB: 0 };

/** What each node's replicas set aside, from the bodies that they run: the service may have changed since. */
function usageQuery(store: Store) {
  // Each body is read once and not for each replica. The limit is what keeps SQLite from folding this into the join.
  const reserved = store.db
    .select({
      hash: bodies.hash,
      cpuMillis: sql<number>`json_extract(${bodies.body}, '$.reservation.cpuMillis')`.as("cpu_millis"),
      memoryMiB: sql<number>`json_extract(${bodies.body}, '$.reservation.memoryMiB')`.as("memory_mib"),
    })
    .from(bodies)
    .where(eq(bodies.kind, "spec"))
    .limit(-1)
    .as("reserved");
  return store.db
    .select({
      nodeId: replicas.nodeId,
      replicas: count(),
      cpuMillis: sql<number>`coalesce(sum(${reserved.cpuMillis}), 0)`,
      memoryMiB: sql<number>`coalesce(sum(${reserved.memoryMiB}), 0)`,
    })
    .from(replicas)
    .leftJoin(reserved, eq(reserved.hash, replicas.spec))
    .groupBy(replicas.nodeId);
}

/** What a token of one namespace may see of nodes. */
export async function readNodeNames(store: Store): Promise<{ marks: Marks; nodes: { name: string; site: string }[] }> {
  const [rows, marks] = await store.selectAll([
    store.db.select({ name: nodes.name, site: nodes.site }).from(nodes).orderBy(asc(nodes.name)),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), nodes: rows };
}

export async function readNodes(store: Store): Promise<{ marks: Marks; nodes: NodeView[] }> {
  const { db } = store;
  const [rows, usage, marks] = await store.selectAll([
    db
      .select({ node: nodes, report: nodeReports })
      .from(nodes)
      .leftJoin(nodeReports, eq(nodeReports.nodeId, nodes.id))
      .orderBy(asc(nodes.name)),
    usageQuery(store),
    marksQuery(store.db),
  ]);
  const usageOf = new Map(usage.map((row) => [row.nodeId, row]));
  return { marks: marksIn(marks), nodes: rows.map((row) => withUsage(row, usageOf.get(row.node.id))) };
}

function withUsage(row: { node: Row<"nodes">; report: Row<"nodeReports"> | null }, usage: typeof NOTHING | undefined): NodeView {
  const { replicas: total, cpuMillis, memoryMiB } = usage ?? NOTHING;
  return { ...row, replicas: total, reserved: { cpuMillis, memoryMiB } };
}

export interface NodeDetail {
  readonly marks: Marks;
  readonly view: NodeView | null;
  /** Data that only this node has. */
  readonly volumes: readonly {
    readonly namespace: string;
    readonly app: string;
    readonly service: string;
    readonly slot: string;
    readonly volume: string;
  }[];
  readonly drops: readonly Row<"volumeDrops">[];
}

/** By id or by name, exactly; an id wins. */
export async function readNode(store: Store, idOrName: string): Promise<NodeDetail> {
  const { db } = store;
  const isIt = or(eq(nodes.id, idOrName), eq(nodes.name, idOrName));
  const [rows, usage, volumeRows, drops, marks] = await store.selectAll([
    db
      .select({ node: nodes, report: nodeReports })
      .from(nodes)
      .leftJoin(nodeReports, eq(nodeReports.nodeId, nodes.id))
      .where(isIt)
      .orderBy(sql`${nodes.id} = ${idOrName} desc`),
    usageQuery(store).innerJoin(nodes, eq(nodes.id, replicas.nodeId)).where(isIt),
    db
      .select({
        nodeId: volumes.nodeId,
        namespace: volumes.namespace,
        app: volumes.app,
        service: volumes.service,
        slot: volumes.slot,
        volume: volumes.volume,
      })
      .from(volumes)
      .innerJoin(nodes, eq(nodes.id, volumes.nodeId))
      .where(isIt)
      .orderBy(asc(volumes.namespace), asc(volumes.app), asc(volumes.service), asc(volumes.slot), asc(volumes.volume)),
    db.select({ drop: volumeDrops }).from(volumeDrops).innerJoin(nodes, eq(nodes.id, volumeDrops.nodeId)).where(isIt),
    marksQuery(store.db),
  ]);
  const [row] = rows;
  if (row === undefined) return { marks: marksIn(marks), view: null, volumes: [], drops: [] };
  return {
    marks: marksIn(marks),
    view: withUsage(
      row,
      usage.find(({ nodeId }) => nodeId === row.node.id),
    ),
    volumes: volumeRows.filter(({ nodeId }) => nodeId === row.node.id),
    drops: drops.map(({ drop }) => drop).filter(({ nodeId }) => nodeId === row.node.id),
  };
}
