import { asc, desc, eq, inArray, isNull } from "drizzle-orm";
import type { Row } from "./commit-types.ts";
import { marksIn, marksQuery } from "./read-marks.ts";
import { preparedRead } from "./prepared-read.ts";
import { joinTokens, namespaces, sites, tokens } from "./schema.ts";
import type { Marks, Store } from "./store.ts";

export interface TokenView extends Row<"tokens"> {
  readonly nowMs: number;
}

const TOKEN = preparedRead<{ hash: string }>()((db, value) => [
  db
    .select()
    .from(tokens)
    .where(eq(tokens.hash, value("hash"))),
  marksQuery(db),
]);

/** The token with this hash; null: there is none. */
export async function readToken(store: Store, hash: string): Promise<TokenView | null> {
  const [rows, marks] = await store.read(TOKEN, { hash });
  const [row] = rows;
  return row === undefined ? null : { ...row, nowMs: marksIn(marks).nowMs };
}

/** `only`: those bound to it; null: all. */
export async function readTokens(store: Store, only: string | null): Promise<{ marks: Marks; tokens: Row<"tokens">[] }> {
  const query = store.db.select().from(tokens).orderBy(desc(tokens.createdMs), tokens.id);
  const [rows, marks] = await store.selectAll([only === null ? query : query.where(eq(tokens.namespace, only)), marksQuery(store.db)]);
  return { marks: marksIn(marks), tokens: rows };
}

/** Those of these tokens that are there and have not expired. */
export async function readGoodTokens(
  store: Store,
  ids: readonly string[],
): Promise<{ marks: Marks; tokens: Pick<Row<"tokens">, "id" | "expiresMs">[] }> {
  const columns = { id: tokens.id, expiresMs: tokens.expiresMs };
  const [rows, marks] = await store.selectAll([
    store.db
      .select(columns)
      .from(tokens)
      .where(inArray(tokens.id, [...ids])),
    marksQuery(store.db),
  ]);
  const { nowMs } = marksIn(marks);
  return { marks: marksIn(marks), tokens: rows.filter(({ expiresMs }) => expiresMs === null || expiresMs > nowMs) };
}

export interface NewTokenView {
  readonly marks: Marks;
  /** The one that it is to be bound to; null: it is to be of all, or there is none of this name. */
  readonly namespace: Row<"namespaces"> | null;
  /** Those bound alike: to this namespace, or to none. */
  readonly good: number;
  /** The longest expired first. */
  readonly expired: readonly string[];
}

/** What a new token relies on. */
export async function readForNewToken(store: Store, namespace: string | null): Promise<NewTokenView> {
  const { db } = store;
  const [found, rows, marks] = await store.selectAll([
    db
      .select()
      .from(namespaces)
      .where(eq(namespaces.name, namespace ?? "")),
    db
      .select({ id: tokens.id, expiresMs: tokens.expiresMs })
      .from(tokens)
      .where(namespace === null ? isNull(tokens.namespace) : eq(tokens.namespace, namespace))
      .orderBy(asc(tokens.expiresMs), asc(tokens.id)),
    marksQuery(store.db),
  ]);
  const { nowMs } = marksIn(marks);
  const expired = rows.filter(({ expiresMs }) => expiresMs !== null && expiresMs <= nowMs);
  return {
    marks: marksIn(marks),
    namespace: found[0] ?? null,
    good: rows.length - expired.length,
    expired: expired.map(({ id }) => id),
  };
}

export async function readTokenById(store: Store, id: string): Promise<{ marks: Marks; token: Row<"tokens"> | null }> {
  const [rows, marks] = await store.selectAll([store.db.select().from(tokens).where(eq(tokens.id, id)), marksQuery(store.db)]);
  return { marks: marksIn(marks), token: rows[0] ?? null };
}

export async function readJoinTokens(store: Store): Promise<{ marks: Marks; joinTokens: Row<"joinTokens">[] }> {
  const [rows, marks] = await store.selectAll([
    store.db.select().from(joinTokens).orderBy(desc(joinTokens.createdMs), joinTokens.id),
    marksQuery(store.db),
  ]);
  return { marks: marksIn(marks), joinTokens: rows };
}

export async function readJoinToken(store: Store, id: string): Promise<{ marks: Marks; joinToken: Row<"joinTokens"> | null }> {
  const [rows, marks] = await store.selectAll([store.db.select().from(joinTokens).where(eq(joinTokens.id, id)), marksQuery(store.db)]);
  return { marks: marksIn(marks), joinToken: rows[0] ?? null };
}

/** What a new join token relies on. */
export async function readForJoinToken(store: Store, site: string) {
  const [rows, marks] = await store.selectAll([store.db.select().from(sites).where(eq(sites.name, site)), marksQuery(store.db)]);
  return { marks: marksIn(marks), site: rows[0] ?? null };
}
