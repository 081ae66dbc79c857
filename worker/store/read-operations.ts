import { eq } from "drizzle-orm";
import { ops } from "./schema.ts";
import type { Store } from "./store.ts";

/** What an operation did; null: not carried out as far as this read knows. */
export async function readOperation(store: Store, opId: string): Promise<{ rev: number; nowMs: number; result: unknown } | null> {
  const [row] = await store.db.select().from(ops).where(eq(ops.opId, opId));
  return row === undefined ? null : { rev: row.rev, nowMs: row.atMs, result: JSON.parse(row.result) as unknown };
}
