/**
 * The one write path. A mutation is a list of row writes with the revs they relied on; `commit` sends it as one
 * BEGIN IMMEDIATE batch that takes the next rev, or changes nothing.
 */
import type { SQLiteTable } from "drizzle-orm/sqlite-core";
import type * as schema from "./schema.ts";

/** `{ rev: REV }` in a row means the rev of this commit. */
export const REV: unique symbol = Symbol("rev of this commit");
/** Cluster time of this commit, milliseconds. */
export const NOW: unique symbol = Symbol("cluster time of this commit");
type Stamped<Row> = { [K in keyof Row]: Row[K] | (number extends Row[K] ? typeof REV | typeof NOW : never) };

export type Tables = typeof schema;
export type TableName = { [K in keyof Tables]: Tables[K] extends SQLiteTable ? K : never }[keyof Tables];
export type Row<T extends TableName> = Tables[T] extends SQLiteTable ? Tables[T]["$inferSelect"] : never;
export type NewRow<T extends TableName> = Tables[T] extends SQLiteTable ? Stamped<Tables[T]["$inferInsert"]> : never;

/** `rev` columns are stamped by commit: leave them out. Rows of one change all have the same keys. */
export type RowChange = {
  [T in TableName]:
    | { readonly op: "insert"; readonly table: T; readonly rows: readonly Omit<NewRow<T>, "rev">[]; /** What a row that is there already does: fail the commit (default), or stay or be replaced. */ readonly onConflict?: "fail" | "keep" | "replace" }
    /** Every row names its primary key and the columns to set. */
    | { readonly op: "update"; readonly table: T; readonly rows: readonly Partial<Omit<NewRow<T>, "rev">>[] }
    /** Rows are named by their primary key; versioned tables leave a tombstone. */
    | { readonly op: "delete"; readonly table: T; readonly keys: readonly Partial<Row<T>>[] };
}[TableName];

/** A row whose value was relied on: by primary key, at this rev; null: must not exist. */
export interface Guard {
  readonly table: TableName;
  readonly key: Readonly<Record<string, string | number>>;
  readonly rev: number | null;
}

export interface NewEvent {
  readonly namespace: string | null;
  readonly objectKind: "node" | "site" | "app" | "service" | "replica" | "deployment" | "volume" | "token";
  readonly objectId: string;
  readonly app: string | null;
  readonly type: string;
  readonly level: "info" | "warning" | "error";
  readonly message: string;
}

export interface Mutation {
  /** At most once: the same id again answers what the first did. `<unix ms>-<random>`. */
  readonly opId?: string;
  readonly guards?: readonly Guard[];
  /** Cluster rev that must still be the current one (the planner's). */
  readonly atRev?: number;
  readonly changes: readonly RowChange[];
  readonly events?: readonly NewEvent[];
  readonly audit?: { readonly actor: string; readonly verb: string; readonly namespace: string | null; readonly object: string; readonly detail: string };
  /** Stored with opId and given back on a replay. */
  readonly result?: unknown;
}

export type CommitResult =
  | { readonly kind: "committed"; readonly rev: number; readonly nowMs: number }
  | { readonly kind: "replayed"; readonly rev: number; readonly result: unknown }
  /** A guard missed or a unique value was taken; nothing was written. */
  | { readonly kind: "conflict"; readonly what: "guard" | "rev" | "unique"; readonly message: string };
