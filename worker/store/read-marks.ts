/** Where a read stands, as one more query of its batch: the counters and the database's clock of the same instant. */
import { sql } from "drizzle-orm";
import { DATABASE_NOW_SQL } from "./commit-statements.ts";
import { cluster } from "./schema.ts";
import type { Marks, Query } from "./store.ts";

const columns = { rev: cluster.rev, observed: cluster.observed, nowMs: sql<number>`${sql.raw(DATABASE_NOW_SQL)}` };

export const marksQuery = (db: Query) => db.select(columns).from(cluster);

export function marksIn(rows: readonly Marks[]): Marks {
  const [row] = rows;
  if (row === undefined) throw new Error("the database holds no cluster yet");
  return row;
}
