/**
 * What nobody can need any more goes: every table stays bounded by the number of objects. Each call is one batch of
 * bounded size and takes no rev; call it again while it answers that there is more.
 *
 * Two tables only grow, a row for each deliberate act of an operator: the audit log, and `removed_nodes` (200 bytes a
 * machine), because the key of a removed machine may never enroll again.
 */
import type { InStatement } from "@libsql/client";
import { DATABASE_NOW_SQL } from "./commit-statements.ts";
import type { Store } from "./store.ts";

const DAY_MS = 86_400_000;
/** A watch that has been away longer than this reloads. */
const TOMBSTONES_KEPT_MS = DAY_MS;
/** An id may be a day ahead of the database's clock and is refused a day after its own time: two days cover both. */
const OPS_KEPT_MS = 2 * DAY_MS;
/** Long enough to ask on Monday what happened on Friday night. */
const EVENTS_KEPT_MS = 7 * DAY_MS;
/** A body is stored by the commit that refers to it, but a retried PUT may come a while after. */
const BODIES_KEPT_MS = 3_600_000;
/** Expired tokens: whoever asks why one stopped working finds it in the list for a month. */
const TOKENS_KEPT_MS = 30 * DAY_MS;
/** Deployments and revisions kept for each app, newest first: what a rollback may return to. */
export const HISTORY_AN_APP_MAX = 50;
/** Rows of each kind a call: about 20 ms of database work. */
const ROWS_A_CALL_MAX = 2_000;

export interface Collected {
  /** Rows that went, by kind. */
  readonly removed: Readonly<Record<string, number>>;
  /** Some kind was cut short. */
  readonly more: boolean;
}

const older = (column: string, ms: number) => `${column} < ${DATABASE_NOW_SQL} - ${ms}`;
const some = (table: string, where: string) =>
  `delete from ${table} where rowid in (select rowid from ${table} where ${where} limit ${ROWS_A_CALL_MAX})`;

/** With no token left, a restart would store the first admin's again, which may have been deleted on purpose. */
const HAS_GOOD_TOKEN = `exists (select 1 from tokens g where g.expires_ms is null or g.expires_ms > ${DATABASE_NOW_SQL})`;

/** Revisions that something still points at, beside the newest. */
const REVISION_IN_USE = `exists (select 1 from apps a where a.id = t.app_id and a.revision = t.revision)
  or exists (select 1 from services s where s.app_id = t.app_id and s.revision = t.revision)
  or exists (select 1 from replicas r where r.app_id = t.app_id and r.revision = t.revision)
  or exists (select 1 from deployments d where d.app_id = t.app_id and d.state = 'running' and (d.revision = t.revision or d.from_revision = t.revision))`;
/** Numbered from the newest of each app. */
const ranked = (table: string, order: string) =>
  `(select rowid as place, row_number() over (partition by app_id order by ${order} desc) as age from ${table})`;
const old = (table: string, order: string) => `rowid in (select place from ${ranked(table, order)} where age > ${HISTORY_AN_APP_MAX})`;

/** A rollback makes its bodies anew from the revision's spec, so only what runs or shall run keeps one; configs by their specs. */
const SPEC_IN_USE = `exists (select 1 from services s where s.spec = t.hash) or exists (select 1 from replicas r where r.spec = t.hash)`;
const USED_CONFIGS = `select c.value from bodies s, json_each(s.body, '$.configs') c where s.kind = 'spec'`;

function statements(): { readonly kind: string; readonly sql: string }[] {
  return [
    { kind: "tombstones", sql: some("tombstones", older("at_ms", TOMBSTONES_KEPT_MS)) },
    { kind: "ops", sql: some("ops", older("at_ms", OPS_KEPT_MS)) },
    { kind: "events", sql: some("events", older("at_ms", EVENTS_KEPT_MS)) },
    { kind: "tokens", sql: some("tokens", `${older("expires_ms", TOKENS_KEPT_MS)} and ${HAS_GOOD_TOKEN}`) },
    { kind: "joinTokens", sql: some("join_tokens", older("expires_ms", TOKENS_KEPT_MS)) },
    { kind: "observations", sql: some("observations", "not exists (select 1 from replicas r where r.id = observations.replica)") },
    { kind: "nodeReports", sql: some("node_reports", "not exists (select 1 from nodes n where n.id = node_reports.node_id)") },
    { kind: "volumeDrops", sql: some("volume_drops", "not exists (select 1 from nodes n where n.id = volume_drops.node_id)") },
    {
      kind: "endedReplicas",
      sql: some(
        "ended_replicas",
        `${older("ended_ms", EVENTS_KEPT_MS)} and not exists (select 1 from services s where s.app_id = ended_replicas.app_id and s.name = ended_replicas.service)`,
      ),
    },
    { kind: "deployments", sql: some("deployments", `state <> 'running' and ${old("deployments", "revision")}`) },
    {
      kind: "appRevisions",
      sql: `delete from app_revisions where rowid in (select t.rowid from app_revisions t where t.${old("app_revisions", "revision")} and not (${REVISION_IN_USE}) limit ${ROWS_A_CALL_MAX})`,
    },
    {
      kind: "images",
      sql: `delete from images where rowid in (select t.rowid from images t where not exists (select 1 from app_revisions v where v.app_id = t.app_id and v.revision = t.revision) and not (${REVISION_IN_USE}) limit ${ROWS_A_CALL_MAX})`,
    },
    {
      kind: "specs",
      sql: `delete from bodies where rowid in (select t.rowid from bodies t where t.kind = 'spec' and ${older("t.created_ms", BODIES_KEPT_MS)} and not (${SPEC_IN_USE}) limit ${ROWS_A_CALL_MAX})`,
    },
    {
      kind: "configs",
      sql: `delete from bodies where rowid in (select t.rowid from bodies t where t.kind = 'config' and ${older("t.created_ms", BODIES_KEPT_MS)} and t.hash not in (${USED_CONFIGS}) limit ${ROWS_A_CALL_MAX})`,
    },
  ];
}

/**
 * One round. Rows of the change feed that go here (old deployments, images) leave no tombstone: nothing that follows the
 * feed shows them any more.
 */
export async function collect(store: Store): Promise<Collected> {
  const kinds = statements();
  // The floor rises before the tombstones go, and with them: a watch below it is told to reload.
  const floor = `update cluster set feed_floor = max(feed_floor, coalesce((select max(rev) from tombstones where ${older("at_ms", TOMBSTONES_KEPT_MS)}), 0)) where id = 1`;
  const results = await store.database.write([floor, ...kinds.map(({ sql }): InStatement => sql)]);
  const removed: Record<string, number> = {};
  kinds.forEach(({ kind }, i) => {
    removed[kind] = results[i + 1]!.rowsAffected;
  });
  return { removed, more: Object.values(removed).some((count) => count === ROWS_A_CALL_MAX) };
}
