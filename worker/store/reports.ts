/**
 * Applies a report: each at most once, in (session, seq) order, the acknowledgement in the same batch as what it
 * acknowledges. Whatever races with it (a plan, the same report sent twice) makes it look again.
 */
import { and, eq, isNull, sql } from "drizzle-orm";
import type { ReportRequest } from "../../shared/wire/report.ts";
import { assert } from "./assert.ts";
import { DATABASE_NOW_SQL } from "./commit-statements.ts";
import { type Guard, MARK, type Mutation, NOW, type RowChange } from "./commit-types.ts";
import { bumpGenerations } from "./generation.ts";
import { preparedRead } from "./prepared-read.ts";
import { digestReport, type ObservationRow, type ReportDigest, type ReportState } from "./report-digest.ts";
import { apps, cluster, images, nodeReports, nodes, observations, replicas, volumeDrops } from "./schema.ts";
import type { Store } from "./store.ts";

export interface AppliedReport {
  /** Highest seq of this session that is stored; 0: the session is not the node's any more, nothing was stored. */
  readonly ackSeq: number;
  /** A plan made now could differ: ring the planner. */
  readonly dirty: boolean;
  /** The commit's rev when rows of the change feed moved (ends, images, node facts); null: none did. */
  readonly rev: number | null;
  /** The observation counter when what was seen has changed: watches want to know; null: it has not. */
  readonly observed: number | null;
  /** Observations as written. */
  readonly rows: readonly ObservationRow[];
}

/** Others commit between our read and our write at most now and then; more losses in a row are a crowd, and the agent may come again. */
const TRIES_MAX = 5;

/** Null: it lost to other commits TRIES_MAX times and nothing was stored. */
export async function applyReport(
  store: Store,
  { node, report }: { readonly node: string; readonly report: ReportRequest },
): Promise<AppliedReport | null> {
  for (let attempt = 1; attempt <= TRIES_MAX; attempt++) {
    const state = await readState(store, node, report);
    if (state === null || report.session < state.node.session) return nothing(0);
    const stored = state.report;
    if (stored && (stored.session > report.session || (stored.session === report.session && stored.seq >= report.seq)))
      return nothing(stored.session === report.session ? stored.seq : 0);
    const digest = digestReport(state, report);
    const mutation = mutationOf(state, report, digest);
    const result = await store.commit(mutation);
    if (result.kind === "committed") {
      const { dirty, observations: rows } = digest;
      const moved = mutation.advance === "both" ? result.rev : null;
      return { ackSeq: report.seq, dirty, rev: moved, observed: mutation.advance === "none" ? null : result.observed, rows };
    }
  }
  return null;
}

const nothing = (ackSeq: number): AppliedReport => ({ ackSeq, dirty: false, rev: null, observed: null, rows: [] });

const STATE = preparedRead<{ node: string; resolver: string }>()((db, value) => [
  db.select({ nowMs: sql<number>`${sql.raw(DATABASE_NOW_SQL)}` }).from(cluster),
  db
    .select({ id: nodes.id, name: nodes.name, session: nodes.session, facts: nodes.facts })
    .from(nodes)
    .where(eq(nodes.id, value("node"))),
  db
    .select()
    .from(nodeReports)
    .where(eq(nodeReports.nodeId, value("node"))),
  db
    .select({ replica: replicas, observation: observations, namespace: apps.namespace, app: apps.name })
    .from(replicas)
    .innerJoin(apps, eq(apps.id, replicas.appId))
    .leftJoin(observations, eq(observations.replica, replicas.id))
    .where(eq(replicas.nodeId, value("node"))),
  db
    .select({ appId: images.appId, namespace: apps.namespace, app: apps.name, revision: images.revision, reference: images.reference })
    .from(images)
    .innerJoin(apps, eq(apps.id, images.appId))
    .where(and(eq(images.resolver, value("resolver")), isNull(images.digest), isNull(images.imageId))),
  db
    .select({ engineName: volumeDrops.engineName, rev: volumeDrops.rev })
    .from(volumeDrops)
    .where(eq(volumeDrops.nodeId, value("node"))),
]);

async function readState(store: Store, id: string, report: ReportRequest): Promise<ReportState | null> {
  // Only a node that was asked resolves an image, and only while nobody has.
  const resolver = report.images.length === 0 ? "" : id;
  const [[clock], [node], [stored], known, unresolved, drops] = await store.read(STATE, { node: id, resolver });
  assert(clock, "the database holds no cluster yet");
  if (!node) return null;
  return {
    nowMs: clock.nowMs,
    node,
    report: stored ?? null,
    replicas: known,
    images: unresolved,
    volumeDrops: drops,
  };
}

function mutationOf({ node, report: stored }: ReportState, report: ReportRequest, digest: ReportDigest): Mutation {
  const { ended, images: resolved, droppedVolumes, facts } = digest;
  const changes: RowChange[] = [
    {
      op: "insert",
      table: "nodeReports",
      onConflict: "replace",
      rows: [
        {
          nodeId: node.id,
          session: report.session,
          seq: report.seq,
          generation: report.generation,
          complete: digest.isComplete,
          engineReachable: report.engine.reachable,
          engineMessage: report.engine.message,
          asOfMs: NOW,
          mark: digest.isReportNews || stored === null ? MARK : stored.mark,
        },
      ],
    },
  ];
  if (digest.observations.length > 0)
    changes.push({ op: "insert", table: "observations", onConflict: "replace", rows: digest.observations });
  if (ended.length > 0) {
    changes.push({ op: "insert", table: "endedReplicas", onConflict: "keep", rows: ended });
    changes.push({ op: "delete", table: "replicas", keys: ended.map(({ id }) => ({ id })) });
    changes.push({ op: "delete", table: "observations", keys: ended.map(({ id }) => ({ replica: id })) });
  }
  if (resolved.length > 0) changes.push({ op: "update", table: "images", rows: resolved });
  if (droppedVolumes.length > 0) {
    changes.push({ op: "delete", table: "volumeDrops", keys: droppedVolumes.map((engineName) => ({ nodeId: node.id, engineName })) });
    // The manifest names them: it is another one now.
    changes.push(bumpGenerations([node.id]));
  }
  if (facts !== null) changes.push({ op: "update", table: "nodes", rows: [{ id: node.id, facts }] });
  const movesRev = ended.length > 0 || resolved.length > 0 || droppedVolumes.length > 0 || facts !== null;
  const isSeen = digest.observations.length > 0 || digest.isReportNews;
  return {
    guards: [acknowledged(node.id, stored)],
    advance: movesRev ? "both" : isSeen ? "observed" : "none",
    changes,
    ...(resolved.length > 0 ? { bumpNodesOf: resolved } : {}),
    events: digest.events,
  };
}

/** Nobody else has stored a report of this node since this one was read. */
function acknowledged(nodeId: string, stored: ReportState["report"]): Guard {
  const key = { nodeId };
  return stored === null
    ? { table: "nodeReports", key, rev: null }
    : { table: "nodeReports", key, equals: { session: stored.session, seq: stored.seq } };
}
