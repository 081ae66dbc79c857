/** The audit log's chain in the database: what waits to be chained, the statements that chain it, and reading it. */
import { asc, desc, gt } from "drizzle-orm";
import type { InStatement } from "@libsql/client";
import { CHAIN_START, type ChainHead, chainRows } from "../../shared/audit/chain.ts";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { audit, auditHead } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

/** A tick chains so many at most, which hashes for about 10 ms: at a tick in 3 s still 160 operator's changes a second. */
const ROWS_A_TICK_MAX = 500;
/** A page of the log is under 1 MB with details of everyday length. */
const ROWS_A_PAGE_MAX = 1_000;

const headOf = (row: Row<"auditHead"> | undefined): ChainHead =>
  row === undefined ? CHAIN_START : { rev: row.upToRev, rows: row.rowCount, hash: row.hash };

export interface ChainStep {
  readonly from: ChainHead;
  readonly to: ChainHead;
  readonly hashes: readonly { readonly rev: number; readonly hash: string }[];
  /** More rows wait than one tick takes. */
  readonly more: boolean;
}

/** What the next tick chains; null: nothing waits. */
export async function nextChainStep(store: Store): Promise<ChainStep | null> {
  const { db } = store;
  const [newest] = await store.select(db.select().from(auditHead));
  const from = headOf(newest);
  // Rows are never added behind one that is there, so the two reads need not be of one moment.
  const rows = await store.select(db.select().from(audit).where(gt(audit.rev, from.rev)).orderBy(asc(audit.rev)).limit(ROWS_A_TICK_MAX));
  if (rows.length === 0) return null;
  const { hashes, head: to } = chainRows(from, rows);
  return { from, to, hashes, more: rows.length === ROWS_A_TICK_MAX };
}

/** For the tick's batch. They do nothing when another tick has chained meanwhile. `signed`: compact JWS of the new head. */
export function chainStatements({ from, to, hashes }: ChainStep, signed: string): InStatement[] {
  const isStillHead = "coalesce((select up_to_rev from audit_head where id = 1), 0) = ?";
  return [
    {
      sql: `update audit set hash = v.value->>1 from json_each(?) as v where audit.rev = v.value->>0 and ${isStillHead}`,
      args: [JSON.stringify(hashes.map(({ rev, hash }) => [rev, hash])), from.rev],
    },
    {
      sql: `insert into audit_head (id, up_to_rev, row_count, hash, signed) select 1, ?, ?, ?, ? where ${isStillHead}
        on conflict (id) do update set up_to_rev = excluded.up_to_rev, row_count = excluded.row_count, hash = excluded.hash, signed = excluded.signed`,
      args: [to.rev, to.rows, to.hash, signed, from.rev],
    },
  ];
}

/** Oldest first: those after `after`, or without it the newest ones. `head`: null while nothing has been chained. */
export async function readAudit(
  store: Store,
  after: number | null,
): Promise<{ readonly marks: Marks; readonly rows: readonly Row<"audit">[]; readonly head: Row<"auditHead"> | null }> {
  const { db } = store;
  const [rows, heads, marks] = await store.selectAll([
    db
      .select()
      .from(audit)
      .where(gt(audit.rev, after ?? 0))
      .orderBy(after === null ? desc(audit.rev) : asc(audit.rev))
      .limit(ROWS_A_PAGE_MAX),
    db.select().from(auditHead),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), rows: after === null ? rows.reverse() : rows, head: heads[0] ?? null };
}
