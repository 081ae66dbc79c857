/**
 * One connection to a libSQL file, statement by statement as @libsql/client does it, with two differences: a statement is
 * prepared once and kept, and a row is an array. What that is worth: docs/adr/0006-prepared-statements.md.
 */
import { type InStatement, type InValue, LibsqlBatchError, LibsqlError, type Value } from "@libsql/client";
import Libsql from "libsql";
import type { SqlResult } from "../ports.ts";

const BEGIN = { read: "BEGIN TRANSACTION READONLY", write: "BEGIN IMMEDIATE" } as const;
/** More than the code has; those of one-off selects take turns. */
const STATEMENTS_MAX = 500;

interface Prepared {
  readonly statement: Libsql.Statement;
  readonly isReader: boolean;
  /** The places and names that were given values: what is given none later would keep the former. */
  readonly given: string;
}

export class Connection {
  readonly #database: Libsql.Database;
  /** By SQL, least recently used first. */
  readonly #prepared = new Map<string, Prepared>();

  /** Nothing waits inside SQLite: a locked file answers BUSY at once. */
  constructor(path: string) {
    this.#database = new Libsql(path, { timeout: 0 });
  }

  /** All or nothing. Throws LibsqlBatchError with the index of the statement that was refused, else LibsqlError. */
  batch(statements: readonly InStatement[], mode: keyof typeof BEGIN): SqlResult[] {
    this.execute(BEGIN[mode]);
    try {
      const results = statements.map((statement, index) => this.#inBatch(statement, index));
      this.execute("COMMIT");
      return results;
    } finally {
      if (this.#database.inTransaction) this.execute("ROLLBACK");
    }
  }

  execute(statement: InStatement): SqlResult {
    const { sql, args = [] } = typeof statement === "string" ? { sql: statement } : statement;
    const values = bound(args);
    try {
      // A refused one may stand in the middle of its rows: it is kept, and its next run begins it anew. Dropped, it would stand there.
      const prepared = this.#prepare(sql, Object.keys(values).join());
      const result = run(prepared, values);
      if (isLarge(values)) this.#prepared.delete(sql);
      return result;
    } catch (error) {
      throw asLibsqlError(error);
    }
  }

  close(): void {
    this.#prepared.clear();
    this.#database.close();
  }

  #inBatch(statement: InStatement, index: number): SqlResult {
    if (!this.#database.inTransaction) throw new LibsqlBatchError("The transaction has been rolled back", index, "TRANSACTION_CLOSED");
    try {
      return this.execute(statement);
    } catch (error) {
      if (!(error instanceof LibsqlError)) throw error;
      throw new LibsqlBatchError(error.message, index, error.code, error.extendedCode, error.rawCode, error);
    }
  }

  #prepare(sql: string, given: string): Prepared {
    const known = this.#prepared.get(sql);
    if (known?.given === given) {
      this.#prepared.delete(sql);
      this.#prepared.set(sql, known);
      return known;
    }
    const statement = this.#database.prepare(sql);
    statement.safeIntegers(true);
    const isReader = statement.reader;
    if (isReader) statement.raw(true);
    const prepared = { statement, isReader, given };
    this.#prepared.set(sql, prepared);
    const [oldest] = this.#prepared.keys();
    if (this.#prepared.size > STATEMENTS_MAX) this.#prepared.delete(oldest!);
    return prepared;
  }
}

/** The engine keeps what was bound until it binds again. */
const BOUND_CHARACTERS_KEPT = 65_536;
const isLarge = (values: object): boolean =>
  Object.values(values).some((value) => typeof value === "string" && value.length > BOUND_CHARACTERS_KEPT);

function run({ statement, isReader }: Prepared, args: unknown): SqlResult {
  // One array: given apart, a lone Buffer would end the process.
  if (!isReader) return { rows: [], rowsAffected: statement.run(args).changes };
  const rows = statement.all(args) as Value[][];
  for (const row of rows) for (let at = 0; at < row.length; at++) row[at] = toValue(row[at]!);
  return { rows, rowsAffected: 0 };
}

function toValue(value: unknown): Value {
  if (typeof value === "bigint") {
    const number = Number(value);
    if (!Number.isSafeInteger(number)) throw new RangeError("Received integer which cannot be safely represented as a JavaScript number");
    return number;
  }
  return value instanceof Buffer ? (value.buffer as ArrayBuffer) : (value as Value);
}

function bound(args: Exclude<InStatement, string>["args"]): object {
  if (args === undefined) return [];
  if (Array.isArray(args)) return args.map(toSql);
  const byName = Object.entries(args).map(([name, value]) => [name.replace(/^[@$:]/, ""), toSql(value as InValue)]);
  return Object.fromEntries(byName);
}

function toSql(value: InValue): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError("Only finite numbers can be passed as arguments");
  if (value === undefined) throw new TypeError("undefined cannot be passed as argument to the database");
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value === "object" && value !== null && "getTime" in value) return value.getTime();
  return value instanceof ArrayBuffer ? Buffer.from(value) : value;
}

/** Primary result codes by number, 0 to 28: https://sqlite.org/rescode.html. */
const PRIMARY =
  "OK ERROR INTERNAL PERM ABORT BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT NOTFOUND FULL CANTOPEN PROTOCOL EMPTY SCHEMA TOOBIG CONSTRAINT MISMATCH MISUSE NOLFS AUTH FORMAT RANGE NOTADB NOTICE WARNING".split(
    " ",
  );

function asLibsqlError(error: unknown): unknown {
  if (!(error instanceof Libsql.SqliteError)) return error;
  const { message, code: extendedCode, rawCode = 1 } = error as Error & { readonly code: string; readonly rawCode?: number };
  // An extended code is the primary one and more above its lowest byte.
  return new LibsqlError(message, `SQLITE_${PRIMARY[rawCode & 0xff] ?? "UNKNOWN"}`, extendedCode, rawCode, error as Error);
}
