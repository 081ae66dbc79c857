/**
 * Reads that happen with every report, change and commit: drizzle writes their SQL once for each store, because writing it
 * again costs more than SQLite takes to answer (measured: 3 ms for the nine selects of a deploy).
 */
import { fillPlaceholders, type Placeholder, sql } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import type { Query } from "./store.ts";

type Queries = readonly [BatchItem<"sqlite">, ...BatchItem<"sqlite">[]];

/** Several selects as one consistent view; what `value` leaves open is given with each call. */
export interface PreparedRead<Values extends object, Selects extends Queries> {
  readonly build: (db: Query, value: (name: keyof Values & string) => Placeholder) => Selects;
}

/** `preparedRead<Values>()(build)`: the values by name, the selects as they are inferred. */
export const preparedRead =
  <Values extends object>() =>
  <const Selects extends Queries>(build: PreparedRead<Values, Selects>["build"]): PreparedRead<Values, Selects> => ({ build });

/** One select as drizzle keeps it: what it is in SQL, and how its rows become objects. */
export interface Compiled {
  readonly sql: string;
  readonly args: (values: object) => unknown[];
  readonly rows: (rows: readonly unknown[]) => unknown;
}

/** What drizzle calls when it runs a batch itself; its types keep it to themselves. */
interface Preparable {
  _prepare(): {
    getQuery(): { sql: string; params: unknown[] };
    mapResult(result: { rows: readonly unknown[] }, isFromBatch: true): unknown;
  };
}

export function compile<Values extends object, Selects extends Queries>(db: Query, read: PreparedRead<Values, Selects>): Compiled[] {
  return read
    .build(db, (name) => sql.placeholder(name))
    .map((query) => {
      const prepared = (query as unknown as Preparable)._prepare();
      const { sql: text, params } = prepared.getQuery();
      return {
        sql: text,
        args: (values) => fillPlaceholders(params, values as Record<string, unknown>),
        rows: (rows) => prepared.mapResult({ rows }, true),
      };
    });
}
