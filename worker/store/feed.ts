/**
 * The change feed: what differs from where a reader stands, table by table, as pages.
 *
 * A reader's cursor in a table is (rev, rowid) of the last row it was given, or (next rev, 0) after all of them; what observations and reports say moves
 * by `mark` instead of rev. Rows are states, not events, so it does no harm to be given one early or twice, and a full
 * load is nothing but the feed from zero. A page is one JSON text: a tenth of the time that a row object a row takes,
 * and under the 2 MB at which answers from a database over HTTP are cut.
 */
import type { InStatement } from "@libsql/client";
import { IMAGE_REFUSALS } from "../../shared/wire/report.ts";
import { assert } from "./assert.ts";
import type { Store } from "./store.ts";

/** Rows a page, at about 200 bytes of JSON each: 2 MB. */
const SMALL_ROWS = 10_000;
/** For rows of about 1 kB: nodes with labels, services with their planning. */
const LARGE_ROWS = 2_000;

/** Values of one row in the order of the table's columns below. */
export type FeedRow = readonly unknown[];

interface FeedTable {
  /** SQL expressions over `t` (and `o`), named by their place. */
  readonly columns: readonly string[];
  readonly from: string;
  /** Column that rises with each change. */
  readonly order: "rev" | "mark";
  readonly pageRows: number;
}

/** Why its node cannot run it: what a rejection said, or why the image cannot be had. */
const faultSql = (of: "o" | "t") =>
  `case when ${of}.state = 'rejected' or ${of}.state = 'preparing' and ${of}.reason in (${IMAGE_REFUSALS.map((reason) => `'${reason}'`).join(", ")}) then ${of}.message end`;
const json = (column: string) => `json(t.${column})`;
const plain = (...columns: string[]) => columns.map((column) => `t.${column}`);

/** Order matters to readers: a row's referents come before it. */
export const FEED_TABLES = {
  sites: { columns: ["t.name", json("labels")], from: "sites t", order: "rev", pageRows: SMALL_ROWS },
  nodes: {
    columns: [
      ...plain("id", "name", "site"),
      json("labels"),
      json("taints"),
      ...plain("availability", "status", "status_ms", "session", "quarantined", "admission"),
      "json(json_object('labels', json(t.facts->'$.labels'), 'devices', json(t.facts->'$.devices'), 'arch', t.facts->>'$.arch', 'hostname', t.facts->>'$.hostname', 'cpuMillis', t.facts->>'$.cpuMillis', 'memoryMiB', t.facts->>'$.memoryMiB'))",
    ],
    from: "nodes t",
    order: "rev",
    pageRows: LARGE_ROWS,
  },
  nodeReports: {
    columns: plain("node_id", "session", "complete", "engine_reachable"),
    from: "node_reports t",
    order: "mark",
    pageRows: SMALL_ROWS,
  },
  apps: { columns: plain("id", "namespace", "name", "revision", "deleting"), from: "apps t", order: "rev", pageRows: SMALL_ROWS },
  images: {
    columns: plain("app_id", "revision", "reference", "digest", "image_id", "resolver"),
    from: "images t",
    order: "rev",
    pageRows: SMALL_ROWS,
  },
  services: {
    columns: [...plain("app_id", "name", "mode", "replicas", "spec", "revision"), json("reservation"), json("planning"), "t.removed"],
    from: "services t",
    order: "rev",
    pageRows: LARGE_ROWS,
  },
  deployments: {
    columns: plain(
      "id",
      "app_id",
      "revision",
      "from_revision",
      "kind",
      "state",
      "started_ms",
      "rollback_to",
      "halted",
      "paused_by",
      "resumed_ms",
      "canaries_healthy",
      "promoted",
    ),
    from: "deployments t",
    order: "rev",
    pageRows: SMALL_ROWS,
  },
  volumes: {
    columns: plain("namespace", "app", "service", "slot", "volume", "node_id"),
    from: "volumes t",
    order: "rev",
    pageRows: SMALL_ROWS,
  },
  volumeDrops: { columns: plain("node_id", "engine_name"), from: "volume_drops t", order: "rev", pageRows: SMALL_ROWS },
  replicas: {
    columns: [
      ...plain("id", "app_id", "service", "slot", "node_id", "spec", "revision"),
      "t.desired = 'run'",
      ...plain("assigned_ms", "attempt"),
      "o.state",
      "o.ready_since_ms",
      "o.restarts",
      faultSql("o"),
    ],
    from: "replicas t left join observations o on o.replica = t.id",
    order: "rev",
    pageRows: SMALL_ROWS,
  },
  observations: {
    columns: [...plain("replica", "state", "ready_since_ms", "restarts"), faultSql("t")],
    from: "observations t",
    order: "mark",
    pageRows: SMALL_ROWS,
  },
} as const satisfies Record<string, FeedTable>;
export type FeedName = keyof typeof FEED_TABLES;
export const FEED_NAMES = Object.keys(FEED_TABLES) as FeedName[];

interface Cursor {
  readonly at: number;
  readonly rowid: number;
}
export type Cursors = { readonly [Name in FeedName | "tombstones"]: Cursor };

export interface FeedPage {
  readonly rev: number;
  readonly nowMs: number;
  /** Rows by table; each row ends with its rev (or mark). */
  readonly rows: { readonly [Name in FeedName]: readonly FeedRow[] };
  /** (table, key) of rows that were deleted; read again by key if they may have been made anew since. */
  readonly gone: readonly (readonly [kind: string, key: string])[];
  readonly cursors: Cursors;
  /** False: pages remain, and what was given so far is not one consistent view. */
  readonly isLast: boolean;
}

const START: Cursor = { at: 0, rowid: 0 };
/** Where a reader stands that holds nothing. */
export const CURSORS_AT_START: Cursors = {
  ...(Object.fromEntries(FEED_NAMES.map((name) => [name, START])) as Record<FeedName, Cursor>),
  tombstones: START,
};

const PAGE_SQL = new Map(FEED_NAMES.map((name) => [name, pageSql(FEED_TABLES[name])]));
const GONE_SQL = "select json_group_array(json_array(kind, key)) from tombstones where rev > ?";

function pageSql({ columns, from, order }: FeedTable): string {
  // JSON has to be made outermost: SQLite forgets that a column is JSON when it leaves a subquery.
  const inner = columns.map((column, i) => `${column.replace(/^json\((.*)\)$/, "$1")} as c${i}`);
  const outer = columns.map((column, i) => (column.startsWith("json(") ? `json(c${i})` : `c${i}`));
  return `select json_group_array(json_array(${outer.join(", ")}, at, place)) from (select ${inner.join(", ")}, t.${order} as at, t.rowid as place from ${from} where (t.${order}, t.rowid) > (?, ?) order by t.${order}, t.rowid limit ?)`;
}

/** One page from where `since` stands; "lost": the tombstones that it would need are gone, so begin again from the start. */
export async function readFeed(store: Store, since: Cursors, pageRowsMax = Number.POSITIVE_INFINITY): Promise<FeedPage | "lost"> {
  const rowsOf = (name: FeedName) => Math.min(FEED_TABLES[name].pageRows, pageRowsMax);
  const statements: InStatement[] = FEED_NAMES.map((name) => ({
    sql: PAGE_SQL.get(name)!,
    args: [since[name].at, since[name].rowid, rowsOf(name)],
  }));
  const { marks, results } = await store.readRaw([
    ...statements,
    { sql: GONE_SQL, args: [since.tombstones.at] },
    "select feed_floor from cluster",
  ]);
  const isFirst = since === CURSORS_AT_START;
  if (!isFirst && since.tombstones.at < Number(results.at(-1)!.rows[0]![0])) return "lost";
  let isLast = true;
  const rows = {} as Record<FeedName, readonly FeedRow[]>;
  const cursors = {} as Record<FeedName | "tombstones", Cursor>;
  FEED_NAMES.forEach((name, i) => {
    const page = JSON.parse(String(results[i]!.rows[0]![0])) as FeedRow[];
    rows[name] = page.map((row) => row.slice(0, -1));
    const isFull = page.length === rowsOf(name);
    if (isFull) isLast = false;
    // Not full: everything up to this read's marks was given, and what shares its rev or mark is all of one batch.
    const end = FEED_TABLES[name].order === "rev" ? marks.rev : marks.observed;
    cursors[name] = isFull ? lastOf(page) : { at: end + 1, rowid: 0 };
  });
  cursors.tombstones = { at: marks.rev, rowid: 0 };
  // Nothing held yet, so nothing to forget.
  const gone = isFirst ? [] : (JSON.parse(String(results[FEED_NAMES.length]!.rows[0]![0])) as [string, string][]);
  return { rev: marks.rev, nowMs: marks.nowMs, rows, gone, cursors, isLast };
}

function lastOf(page: readonly FeedRow[]): Cursor {
  const row = page.at(-1);
  assert(row, "a full page has rows");
  return { at: row.at(-2) as number, rowid: row.at(-1) as number };
}
