/**
 * The Database port over SQLite in memory, on the world's clock, with the faults of a database that is far away: BUSY,
 * acknowledgements that are lost, commits that come late.
 * It executes SQL for real: what the store relies on (guards, constraints, one batch or nothing) is SQLite's.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type InStatement, LibsqlBatchError, LibsqlError, type ResultSet, type Row } from "@libsql/client";
import type { Database } from "../../worker/ports.ts";
import { type Kernel, Process } from "./kernel.ts";
import type { Prng } from "./prng.ts";

export interface DatabaseFaults {
  /** Chances of one write: refused at begin; carried out and not acknowledged; given up and carried out later. */
  busy: number;
  ackLost: number;
  late: number;
  /** Chance that a read is answered by the replica, and how far that lags. */
  stale: number;
  lagMs: number;
  /** What happens when a batch has been carried out and nobody knows it yet. */
  onCarriedOut: (() => void) | null;
}

export const KIND_DATABASE: DatabaseFaults = { busy: 0, ackLost: 0, late: 0, stale: 0, lagMs: 0, onCarriedOut: null };

/** One file's content and the clock that its SQL sees. */
class Content {
  readonly #database = new DatabaseSync(":memory:");
  readonly #prepared = new Map<string, StatementSync>();
  nowMs = 0;

  constructor() {
    this.#database.exec("pragma foreign_keys = on");
    this.#database.function("unixepoch", { varargs: true }, () => this.nowMs / 1000);
  }

  run(statements: readonly InStatement[], mode: "read" | "write"): ResultSet[] {
    this.#database.exec(mode === "write" ? "begin immediate" : "begin");
    let index = 0;
    try {
      const results = statements.map((statement, at) => {
        index = at;
        return this.#one(statement);
      });
      this.#database.exec("commit");
      return results;
    } catch (error) {
      this.#database.exec("rollback");
      throw libsqlError(error, index);
    }
  }

  #one(statement: InStatement): ResultSet {
    const sql = typeof statement === "string" ? statement : statement.sql;
    const args = typeof statement === "string" ? [] : ((statement.args ?? []) as unknown[]);
    let prepared = this.#prepared.get(sql);
    if (prepared === undefined) {
      prepared = this.#database.prepare(sql);
      prepared.setReturnArrays(true);
      this.#prepared.set(sql, prepared);
    }
    const bound = args.map(toSqlite);
    const columns = prepared.columns().map(({ name }) => name);
    if (columns.length === 0) {
      const { changes, lastInsertRowid } = prepared.run(...bound);
      return resultOf([], [], Number(changes), BigInt(lastInsertRowid));
    }
    const rows = prepared.all(...bound) as unknown as unknown[][];
    return resultOf(columns, rows, 0, undefined);
  }

  /** Rows of a query as objects, outside of any batch: for checkers. */
  look(sql: string): Record<string, unknown>[] {
    return this.#database.prepare(sql).all() as Record<string, unknown>[];
  }
}

type Bound = null | number | bigint | string | Uint8Array;
function toSqlite(value: unknown): Bound {
  if (typeof value === "boolean") return value ? 1 : 0;
  if (value === undefined) return null;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (value instanceof Date) return value.getTime();
  return value as Bound;
}

function resultOf(columns: string[], rows: unknown[][], rowsAffected: number, lastInsertRowid: bigint | undefined): ResultSet {
  // By position alone: nothing of ours reads a column by its name.
  const shaped = rows.map(
    (values) => values.map((value) => (value instanceof Uint8Array ? value.slice().buffer : value)) as unknown as Row,
  );
  return {
    columns,
    columnTypes: columns.map(() => ""),
    rows: shaped,
    rowsAffected,
    lastInsertRowid,
    toJSON: () => ({ columns, rows: shaped }),
  };
}

/** SQLite's extended result codes that the store tells apart are in the message; the short code is the client's. */
function libsqlError(error: unknown, index: number): unknown {
  if (!(error instanceof Error) || !("errcode" in error)) return error;
  const code = Number(error.errcode) & 0xff;
  const names: Readonly<Record<number, string>> = { 1: "SQLITE_ERROR", 5: "SQLITE_BUSY", 19: "SQLITE_CONSTRAINT" };
  const name = names[code] ?? "SQLITE_ERROR";
  return new LibsqlBatchError(error.message, index, name, undefined, code, error);
}

export class SimDatabase {
  readonly process = new Process("db");
  readonly faults: DatabaseFaults = { ...KIND_DATABASE };
  /** What is wrong with the database's own clock: added to the true time. */
  clockErrorMs = 0;
  readonly #kernel: Kernel;
  readonly #random: Prng;
  readonly #epochMs: number;
  readonly #content = new Content();
  /** Called after each batch that changed something, before its acknowledgement. */
  onWrite: () => void = () => {};
  readonly injected = { busy: 0, ackLost: 0, late: 0 };

  constructor(kernel: Kernel, epochMs: number) {
    this.#kernel = kernel;
    this.#random = kernel.random.fork("db");
    this.#epochMs = epochMs;
  }

  look(sql: string): Record<string, unknown>[] {
    return this.#content.look(sql);
  }

  get clockMs(): number {
    return Math.floor(this.#epochMs + this.#kernel.nowMs + this.clockErrorMs);
  }

  /** The port as one process of the control plane has it. */
  portOf(caller: Process): Database {
    const random = this.#random;
    return {
      read: (statements) =>
        this.#kernel.call({ caller, target: this.process, what: "", thereMs: random.between(0.1, 2), backMs: random.between(0.1, 2) }, () =>
          this.#read(statements),
        ),
      write: (statements) => this.#write(caller, statements),
      reconnect: () => {},
    };
  }

  #read(statements: InStatement[]): ResultSet[] {
    this.#content.nowMs = this.clockMs;
    return this.#content.run(statements, "read");
  }

  #write(caller: Process, statements: InStatement[]): Promise<ResultSet[]> {
    const random = this.#random;
    const { faults, injected } = this;
    const fate = random.fraction();
    const thereMs = random.between(0.2, 3);
    const backMs = random.between(0.2, 3);
    const call = { caller, target: this.process, what: "", thereMs, backMs };
    if (fate < faults.busy) {
      injected.busy++;
      return this.#kernel.call(call, () => {
        throw new LibsqlError("database is locked", "SQLITE_BUSY", undefined, 5);
      });
    }
    if (fate < faults.busy + faults.ackLost) {
      injected.ackLost++;
      return this.#kernel.call({ ...call, backMs: backMs + 5_000 }, () => {
        this.#carryOut(statements);
        throw new LibsqlError("fetch failed", "HRANA_WEBSOCKET_ERROR");
      });
    }
    if (fate < faults.busy + faults.ackLost + faults.late) {
      injected.late++;
      this.#kernel.after(random.between(6_000, 20_000), this.process, "a write that was given up comes late", () => {
        try {
          this.#carryOut(statements);
        } catch {
          this.#kernel.log("db", "the late write was refused");
        }
      });
      return this.#kernel.call({ ...call, backMs: 5_000 }, () => {
        throw new LibsqlError("fetch failed", "HRANA_WEBSOCKET_ERROR");
      });
    }
    return this.#kernel.call(call, () => this.#carryOut(statements));
  }

  #carryOut(statements: readonly InStatement[]): ResultSet[] {
    this.#content.nowMs = this.clockMs;
    const results = this.#content.run(statements, "write");
    this.#kernel.log("db", `wrote ${statements.map(describe).join("; ")}`);
    this.onWrite();
    this.faults.onCarriedOut?.();
    return results;
  }
}

function describe(statement: InStatement): string {
  const sql = typeof statement === "string" ? statement : statement.sql;
  const args = typeof statement === "string" ? [] : ((statement.args ?? []) as unknown[]);
  return `${sql} ${JSON.stringify(args, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))}`;
}
