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
/** The observation counter after this commit. */
export const MARK: unique symbol = Symbol("observation mark of this commit");
type Stamp = typeof REV | typeof NOW | typeof MARK;
type Stamped<Row> = { [K in keyof Row]: Row[K] | (number extends Row[K] ? Stamp : never) };

export type Tables = typeof schema;
export type TableName = { [K in keyof Tables]: Tables[K] extends SQLiteTable ? K : never }[keyof Tables];
export type Row<T extends TableName> = Tables[T] extends SQLiteTable ? Tables[T]["$inferSelect"] : never;
export type NewRow<T extends TableName> = Tables[T] extends SQLiteTable ? Stamped<Tables[T]["$inferInsert"]> : never;

/**
 * `rev` columns are stamped by commit: leave them out. Rows of one change may differ in the keys they set; each set of
 * keys becomes its own statement, so bulk changes should not.
 */
export type RowChange = {
  [T in TableName]: InsertRows<T> | UpdateRows<T> | DeleteRows<T>;
}[TableName];

export interface InsertRows<T extends TableName> {
  readonly op: "insert";
  readonly table: T;
  readonly rows: readonly Omit<NewRow<T>, "rev">[];
  /** What a row that is there already (same primary key) does: fail the commit (default), stay, or be replaced. */
  readonly onConflict?: "fail" | "keep" | "replace";
}

/** Every row names its whole primary key and the columns to set. */
export interface UpdateRows<T extends TableName> {
  readonly op: "update";
  readonly table: T;
  readonly rows: readonly Partial<Omit<NewRow<T>, "rev">>[];
  /** What a row that is not there does: make the commit a conflict (default), or nothing. */
  readonly onMissing?: "fail" | "skip";
}

/** Rows that equal a key in all the columns it names; versioned tables leave a tombstone each. Gone already is fine. */
export interface DeleteRows<T extends TableName> {
  readonly op: "delete";
  readonly table: T;
  readonly keys: readonly Partial<Row<T>>[];
}

/** What was relied on: a row's value, by primary key, or that there is no row of a kind. */
export type Guard = RevGuard | ValueGuard | EmptyGuard;
/** Still at this rev; null: still not there. */
export interface RevGuard {
  readonly table: TableName;
  readonly key: Readonly<Record<string, string | number>>;
  readonly rev: number | null;
}
/** Still has these values: for tables without a rev, and where the rest of the row may move. */
export interface ValueGuard {
  readonly table: TableName;
  readonly key: Readonly<Record<string, string | number>>;
  readonly equals: Readonly<Record<string, string | number | boolean>>;
}

/** No row has these values: what is deleted must not have got children since it was read. */
export interface EmptyGuard {
  readonly table: TableName;
  readonly none: Readonly<Record<string, string | number | boolean>>;
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
  /**
   * At most once: the same id again answers what the first did. `<unix ms>-<random>`, at most 200 characters. Whoever
   * takes part of it from a caller puts the caller's identity in too: a replay shows the stored result.
   */
  readonly opId?: string;
  readonly guards?: readonly Guard[];
  /** This is a plan: no other plan may have been committed after this rev, and it becomes the last one. */
  readonly atRev?: number;
  /** Advance the cluster clock too: a commit that fences counts from its own time, not from the last tick's. */
  readonly tick?: true;
  /**
   * Which counter the commit takes: `rev` (default) for what people and planners write; `observed` for what agents saw;
   * `both` when a report also ends or resolves something; `none` for a bare acknowledgement. Without rev no versioned
   * table may be changed.
   */
  readonly advance?: "rev" | "observed" | "both" | "none";
  readonly changes: readonly RowChange[];
  /**
   * Also bump the generation of every node that runs a replica of these revisions, as the database has them at the
   * commit: what their manifests say of an image has changed.
   */
  readonly bumpNodesOf?: readonly { readonly appId: string; readonly revision: number }[];
  readonly events?: readonly NewEvent[];
  readonly audit?: {
    readonly actor: string;
    readonly verb: string;
    readonly namespace: string | null;
    readonly object: string;
    readonly detail: string;
  };
  /** Stored with opId and given back on a replay. */
  readonly result?: unknown;
}

export type CommitResult =
  | { readonly kind: "committed"; readonly rev: number; readonly observed: number; readonly nowMs: number }
  | { readonly kind: "replayed"; readonly rev: number; readonly result: unknown }
  /**
   * Nothing was written. guard: a row relied on has changed, or an updated one is gone; rev: another plan came first;
   * unique: the value is taken; op: the operation id is older than a day, so whether it was carried out is not known.
   */
  | { readonly kind: "conflict"; readonly what: "guard" | "rev" | "unique" | "op"; readonly message: string };
