/** What `commit` needs to know of each table, read once from the drizzle schema: names, keys, and how a value is bound. */
import { getTableColumns, is } from "drizzle-orm";
import { getTableConfig, SQLiteTable } from "drizzle-orm/sqlite-core";
import { assert } from "./assert.ts";
import type { TableName, Tables } from "./commit-types.ts";
import * as schema from "./schema.ts";

/** Bound as a JSON scalar inside one JSON array argument, so booleans are 0 or 1 and JSON columns are text. */
export type Scalar = string | number | null;

export interface ColumnShape {
  /** Property in rows. */
  readonly key: string;
  /** Name in SQL. */
  readonly name: string;
  readonly encode: (value: unknown) => Scalar;
}

export interface TableShape {
  readonly table: TableName;
  /** Name in SQL. */
  readonly name: string;
  readonly columns: ReadonlyMap<string, ColumnShape>;
  readonly primaryKey: readonly ColumnShape[];
  /** Has a rev column, stamped by commit. */
  readonly stamped: boolean;
  /** Deletes leave a tombstone, and rows take part in the change feed. */
  readonly versioned: boolean;
}

const TABLES: Tables = { ...schema };

/** Stamped, but logs: nobody reconstructs them from the feed. */
const LOGS: ReadonlySet<string> = new Set(["endedReplicas", "events", "audit", "ops", "tombstones", "cluster"]);

/** An integer column can hold what JavaScript can hold: past 2^53 the client throws on read. */
function encodeInteger(value: unknown): Scalar {
  if (value === null) return null;
  assert(typeof value === "number" && Number.isSafeInteger(value), `not an integer that survives storage: ${String(value)}`);
  return value;
}

function encodeText(value: unknown): Scalar {
  if (value === null) return null;
  assert(typeof value === "string", `not a string: ${typeof value}`);
  return value;
}

/** As JSON writes what SQLite cannot hold: NUL, and a surrogate without its other half. */
const SUSPECT = /\\u0000|\\u[dD][89a-fA-F]/;

/**
 * One JSON argument for many values. NUL cuts a string short in SQLite, and lone surrogates all become the same
 * replacement: two names would be one. JSON escapes both, so one look at the text finds them (a backslash that was there
 * already looks like it, and is looked at again).
 */
export function encodeRows(rows: readonly (readonly Scalar[])[]): string {
  const text = JSON.stringify(rows);
  if (SUSPECT.test(text)) for (const row of rows) for (const value of row) assertText(value);
  return text;
}

/** The same for a value that is bound by itself. */
export function assertText(value: Scalar): void {
  const isHarmless = typeof value !== "string" || (!value.includes("\0") && value.isWellFormed());
  assert(isHarmless, "a string with NUL or a lone surrogate reached the store");
}

function encodeBoolean(value: unknown): Scalar {
  if (value === null) return null;
  assert(typeof value === "boolean", `not a boolean: ${typeof value}`);
  return value ? 1 : 0;
}

/** `JSON.stringify` escapes both NUL and lone surrogates, so a JSON column holds them unharmed. */
const encodeJson = (value: unknown): Scalar => (value === null ? null : JSON.stringify(value));

function encoderOf(dataType: string): ColumnShape["encode"] {
  if (dataType === "json") return encodeJson;
  if (dataType === "boolean") return encodeBoolean;
  if (dataType === "number") return encodeInteger;
  assert(dataType === "string", `no encoding for columns of type ${dataType}`);
  return encodeText;
}

function shapeOf(table: TableName): TableShape {
  const source = TABLES[table];
  const columns = new Map<string, ColumnShape>();
  for (const [key, column] of Object.entries(getTableColumns(source)))
    columns.set(key, { key, name: column.name, encode: encoderOf(column.dataType) });
  const config = getTableConfig(source);
  const inline = config.columns.filter((column) => column.primary);
  const keyColumns = config.primaryKeys[0]?.columns ?? inline;
  const byName = new Map([...columns.values()].map((column) => [column.name, column]));
  const primaryKey = keyColumns.map((column) => byName.get(column.name)!);
  assert(primaryKey.length > 0, `table ${table} has no primary key`);
  const stamped = columns.has("rev");
  return { table, name: config.name, columns, primaryKey, stamped, versioned: stamped && !LOGS.has(table) };
}

export const TABLE_SHAPES: ReadonlyMap<TableName, TableShape> = new Map(
  (Object.keys(TABLES) as TableName[]).filter((name) => is(TABLES[name], SQLiteTable)).map((name) => [name, shapeOf(name)]),
);

export function shape(table: TableName): TableShape {
  const found = TABLE_SHAPES.get(table);
  assert(found, `no table ${table}`);
  return found;
}

/** Primary key of a row as the text that guards, tombstones and the change feed name it by. */
export function keyText(table: TableShape, row: Readonly<Record<string, unknown>>): string {
  const [only, ...rest] = table.primaryKey;
  return rest.length === 0 ? String(row[only!.key]) : JSON.stringify(table.primaryKey.map((column) => row[column.key]));
}
