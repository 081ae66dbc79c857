/**
 * The Database port over SQLite in memory, on the world's clock, with the faults of a database that is far away: BUSY,
 * acknowledgements that are lost, commits that come late.
 * It executes SQL for real: what the store relies on (guards, constraints, one batch or nothing) is SQLite's. What the
 * client makes of it (rows, refusals, what may be bound) is held to the client's own by test/contract/database.ts.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type InStatement, LibsqlBatchError, LibsqlError, type ResultSet, type Row } from "@libsql/client";
import type { Database } from "../../worker/ports.ts";
import { type Kernel, Process } from "./kernel.ts";
import type { Prng } from "./prng.ts";

export const BUSY_AT = ["begin", "step", "commit"] as const;
export type BusyAt = (typeof BUSY_AT)[number];

export interface DatabaseFaults {
  /** Chance that a call finds the database locked: a write at one of `busyAt`, a read at its first step. */
  busy: number;
  busyAt: readonly BusyAt[];
  /** Chances of one write: carried out and not acknowledged; given up and carried out later. */
  ackLost: number;
  late: number;
  /** Chance that the stream of a call has expired before it, or is taken away in the middle of a write. */
  stolen: number;
  /** Why nothing can be written for now; null: it can. */
  refusesWrites: "SQLITE_FULL" | "SQLITE_READONLY" | "SQLITE_IOERR" | null;
  /** Longest that a call may wait for its turn besides. */
  slowMs: number;
  /** What happens when a batch has been carried out and nobody knows it yet. */
  onCarriedOut: (() => void) | null;
}

export const KIND_DATABASE: DatabaseFaults = {
  busy: 0,
  busyAt: BUSY_AT,
  ackLost: 0,
  late: 0,
  stolen: 0,
  refusesWrites: null,
  slowMs: 0,
  onCarriedOut: null,
};

/** A statement, and what is the same each time that it is carried out. */
interface Prepared {
  readonly statement: StatementSync;
  readonly answersRows: boolean;
  readonly changesRows: boolean;
  readonly changesTables: boolean;
  /** Of its rows. Null: to be asked for when it has been carried out, which alone notices that a table has changed. */
  shape: Shape | null;
}

/** A row as one statement of a batch left it, columns in the order that was asked for; of one that was deleted its last values. */
export interface WrittenRow {
  readonly table: string;
  readonly isGone: boolean;
  readonly values: readonly (string | number | null)[];
}

/** A batch that was carried out. */
export interface WrittenBatch {
  /** When its process asked for it: what it knew is from before. */
  readonly askedMs: number;
  readonly rows: readonly WrittenRow[];
}

/** One file's content and the clock that its SQL sees. */
class Content {
  readonly #database = new DatabaseSync(":memory:");
  readonly #prepared = new Map<string, Prepared>();
  readonly #looks = new Map<string, StatementSync>();
  /** The batch that is being carried out makes or alters tables. */
  #changesTables = false;
  #written: WrittenRow[] = [];
  nowMs = 0;

  constructor() {
    this.#database.exec("pragma foreign_keys = on");
    // SQLite's own says one time throughout a statement too.
    this.#database.function("unixepoch", { varargs: true, deterministic: true }, (...args) => {
      if (args.length !== 1 || args[0] !== "subsec") throw new Error("the world's clock answers unixepoch('subsec') only");
      return this.nowMs / 1000;
    });
  }

  /** One batch or nothing. Refusals are the client's: of a statement with its index, of begin and commit without. */
  run(statements: readonly InStatement[], { mode, busyAt = null }: { mode: "read" | "write"; busyAt?: BusyAt | null }): ResultSet[] {
    const database = this.#database;
    if (busyAt === "begin") throw locked();
    // Nothing comes between statements that only read: they are one view without a transaction too.
    const isView = mode === "read" && busyAt === null && statements.every((statement) => !this.#prepare(sqlOf(statement)).changesRows);
    if (!isView) this.#prepare(mode === "write" ? "begin immediate" : "begin").statement.run();
    try {
      const results: ResultSet[] = [];
      for (const [index, statement] of statements.entries()) {
        if (!isView && !database.isTransaction)
          throw new LibsqlBatchError("The transaction has been rolled back", index, "TRANSACTION_CLOSED");
        if (busyAt === "step" && (mode === "read" || index === statements.length - 1)) throw ofStatement(locked(), index);
        try {
          results.push(this.#one(statement));
        } catch (error) {
          throw ofStatement(toLibsqlError(error), index);
        }
      }
      if (busyAt === "commit") throw locked();
      if (isView) return results;
      try {
        this.#prepare("commit").statement.run();
      } catch (error) {
        throw toLibsqlError(error);
      }
      return results;
    } finally {
      if (database.isTransaction) {
        this.#prepare("rollback").statement.run();
        this.#written = [];
      }
      if (this.#changesTables) for (const prepared of this.#prepared.values()) prepared.shape = null;
      this.#changesTables = false;
    }
  }

  /** From here on rows of these tables are remembered as they are written: triggers see what no reader of SQL could tell. */
  follow(tables: readonly { readonly name: string; readonly columns: readonly string[] }[]): void {
    this.#database.function("berth_written", { varargs: true }, (table, isGone, ...values) => {
      this.#written.push({ table: table as string, isGone: isGone === 1, values: values as WrittenRow["values"] });
      return null;
    });
    for (const { name, columns } of tables)
      for (const [event, row] of [
        ["insert", "new"],
        ["update", "new"],
        ["delete", "old"],
      ] as const) {
        const values = columns.map((column) => `${row}."${column}"`).join(", ");
        this.#database.exec(
          `create temp trigger written_${name}_${event} after ${event} on main."${name}" begin select berth_written('${name}', ${event === "delete" ? 1 : 0}, ${values}); end`,
        );
      }
  }

  /** What was written since it was last asked. */
  takeWritten(): readonly WrittenRow[] {
    const written = this.#written;
    this.#written = [];
    return written;
  }

  #one(statement: InStatement): ResultSet {
    const bound = argsOf(statement).map(toSqlite);
    const prepared = this.#prepare(sqlOf(statement));
    if (prepared.changesTables) this.#changesTables = true;
    if (!prepared.answersRows) {
      const { changes, lastInsertRowid } = prepared.statement.run(...bound);
      // SQLite counts what the last insert, update or delete changed, whatever has run since.
      return resultOf(NO_ROWS, [], { rowsAffected: prepared.changesRows ? Number(changes) : 0, lastInsertRowid: BigInt(lastInsertRowid) });
    }
    const rows = prepared.statement.all(...bound) as unknown as unknown[][];
    const shape = (this.#changesTables ? null : prepared.shape) ?? shapeOf(prepared.statement.columns());
    prepared.shape = shape;
    return resultOf(shape, rows, { rowsAffected: 0, lastInsertRowid: undefined });
  }

  #prepare(sql: string): Prepared {
    let prepared = this.#prepared.get(sql);
    if (prepared === undefined) {
      // A limit that is bound bare makes SQLite plan the statement anew each time that it is carried out.
      const statement = this.#database.prepare(sql.replaceAll(/\blimit \?/g, "limit +?"));
      statement.setReturnArrays(true);
      prepared = {
        statement,
        answersRows: statement.columns().length > 0,
        changesRows: CHANGES_ROWS.test(sql),
        changesTables: CHANGES_TABLES.test(sql),
        shape: null,
      };
      this.#prepared.set(sql, prepared);
    }
    return prepared;
  }

  /** Rows of a query as objects, outside of any batch: for checkers. */
  look(sql: string): Record<string, unknown>[] {
    let statement = this.#looks.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#looks.set(sql, statement);
    }
    return statement.all() as Record<string, unknown>[];
  }
}

const CHANGES_ROWS = /^\s*(?:insert|update|delete|replace|with)\b/i;
const CHANGES_TABLES = /^\s*(?:create|alter|drop)\b/i;

const sqlOf = (statement: InStatement): string => (typeof statement === "string" ? statement : statement.sql);

function argsOf(statement: InStatement): readonly unknown[] {
  const args = typeof statement === "string" ? [] : (statement.args ?? []);
  if (!Array.isArray(args)) throw new TypeError("values are bound by position here");
  return args;
}

/** Of one result: no select of ours has more. */
const COLUMNS_MAX = 100;
type Bound = null | number | bigint | string | Uint8Array;
const INTEGER_MAX = 2n ** 63n - 1n;
/** With the client's own refusals. */
function toSqlite(value: unknown): Bound {
  switch (typeof value) {
    case "boolean":
      return value ? 1 : 0;
    case "number":
      if (!Number.isFinite(value)) throw new RangeError("Only finite numbers (not Infinity or NaN) can be passed as arguments");
      return value;
    case "bigint":
      if (value < -INTEGER_MAX - 1n || value > INTEGER_MAX)
        throw new RangeError("bigint is too large to be represented as a 64-bit integer and passed as argument");
      return value;
    case "string":
      // libSQL binds text up to its first NUL.
      return value.includes("\0") ? value.slice(0, value.indexOf("\0")) : value;
    case "undefined":
      throw new TypeError("undefined cannot be passed as argument to the database");
    default:
  }
  if (value === null || value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (value instanceof Date) return value.getTime();
  throw new Error("SQLite3 can only bind numbers, strings, bigints, buffers, and null");
}

/** Of a select's rows: its columns, and at which place each name stands first. */
interface Shape {
  readonly columns: string[];
  readonly columnTypes: string[];
  readonly places: readonly (readonly [name: string, at: number])[];
}

function shapeOf(described: readonly { readonly name: string; readonly type: string | null }[]): Shape {
  const columns = described.map(({ name }) => name);
  const places = [...new Set(columns)].map((name) => [name, columns.indexOf(name)] as const);
  return { columns, columnTypes: described.map(({ type }) => type ?? ""), places };
}

const NO_ROWS = shapeOf([]);

/** As the client makes a row: no array, so it has a length and no iterator; columns by place and by name. */
class SimRow {
  readonly #values: readonly unknown[];

  constructor({ places }: Shape, values: readonly unknown[]) {
    this.#values = values;
    const named = this as Record<string, unknown>;
    for (const [name, at] of places) named[name] = values[at];
  }
  get length(): number {
    return this.#values.length;
  }
  static {
    for (let at = 0; at < COLUMNS_MAX; at++)
      Object.defineProperty(SimRow.prototype, at, {
        get(this: SimRow) {
          return this.#values[at];
        },
      });
  }
}

interface Effect {
  readonly rowsAffected: number;
  readonly lastInsertRowid: bigint | undefined;
}

function resultOf(shape: Shape, found: readonly unknown[][], { rowsAffected, lastInsertRowid }: Effect): ResultSet {
  const rows = found.map((values) => {
    for (let at = 0; at < values.length; at++) {
      const value = values[at];
      if (value instanceof Uint8Array) values[at] = value.slice().buffer;
    }
    return new SimRow(shape, values) as unknown as Row;
  });
  // Whoever gets it may change it.
  const columns = [...shape.columns];
  const columnTypes = [...shape.columnTypes];
  return {
    columns,
    columnTypes,
    rows,
    rowsAffected,
    lastInsertRowid,
    toJSON: () => ({
      columns,
      columnTypes,
      rows: rows.map((row) => Array.from(row as ArrayLike<unknown>, toJson)),
      rowsAffected,
      lastInsertRowid: lastInsertRowid === undefined ? null : String(lastInsertRowid),
    }),
  };
}

const toJson = (value: unknown): unknown => (value instanceof ArrayBuffer ? Buffer.from(value).toString("base64") : value);

const NAMES: Readonly<Record<number, string>> = {
  1: "SQLITE_ERROR",
  5: "SQLITE_BUSY",
  19: "SQLITE_CONSTRAINT",
  275: "SQLITE_CONSTRAINT_CHECK",
  787: "SQLITE_CONSTRAINT_FOREIGNKEY",
  1299: "SQLITE_CONSTRAINT_NOTNULL",
  1555: "SQLITE_CONSTRAINT_PRIMARYKEY",
  1811: "SQLITE_CONSTRAINT_TRIGGER",
  2067: "SQLITE_CONSTRAINT_UNIQUE",
};

const locked = (): LibsqlError => new LibsqlError("database is locked", "SQLITE_BUSY", "SQLITE_BUSY", 5);

/** Whoever keeps the streams of a remote database ends those that are silent or in the way; what was not committed is undone. */
const EXPIRED = new LibsqlError("The stream has expired due to inactivity", "STREAM_EXPIRED");
const stolen = (random: Prng, statements: number): LibsqlError =>
  random.chance(0.5)
    ? EXPIRED
    : new LibsqlBatchError("The transaction has been rolled back", random.int(0, statements - 1), "TRANSACTION_CLOSED");

const REFUSALS: Readonly<Record<NonNullable<DatabaseFaults["refusesWrites"]>, string>> = {
  SQLITE_FULL: "database or disk is full",
  SQLITE_READONLY: "attempt to write a readonly database",
  SQLITE_IOERR: "disk I/O error",
};
const refused = (code: NonNullable<DatabaseFaults["refusesWrites"]>): LibsqlError => new LibsqlBatchError(REFUSALS[code], 0, code, code);

/** What SQLite says, as the client says it; other errors (a value that cannot be bound) stay what they are. */
function toLibsqlError(error: unknown): unknown {
  if (!(error instanceof Error && "errcode" in error)) return error;
  const raw = Number(error.errcode);
  const code = NAMES[raw & 0xff] ?? `SQLITE_UNKNOWN_${raw & 0xff}`;
  return new LibsqlError(error.message, code, NAMES[raw] ?? `UNKNOWN_SQLITE_ERROR_${raw}`, raw, error);
}

/** The client says the code twice then. */
function ofStatement(error: unknown, index: number): unknown {
  if (!(error instanceof LibsqlError)) return error;
  return new LibsqlBatchError(error.message, index, error.code, error.extendedCode, error.rawCode, error.cause as Error | undefined);
}

/** What was asked of SQLite, and what it said: a refusal or what each statement answered. */
export interface CarriedOut {
  readonly mode: "read" | "write";
  readonly statements: readonly InStatement[];
  readonly clockMs: number;
  readonly answer: readonly ResultSet[] | { readonly refusal: unknown };
}

export class SimDatabase {
  /** Told of each batch that was asked of any of them and not refused by a fault: what another database is asked again. */
  static onBatch: (batch: CarriedOut, database: SimDatabase) => void = () => {};
  readonly process = new Process("db");
  readonly faults: DatabaseFaults = { ...KIND_DATABASE };
  /** What is wrong with the database's own clock: added to the true time. */
  clockErrorMs = 0;
  readonly #kernel: Kernel;
  readonly #random: Prng;
  readonly #epochMs: number;
  readonly #content = new Content();
  /** Called after each batch that was carried out, before its acknowledgement. */
  onWrite: (batch: WrittenBatch) => void = () => {};
  readonly injected = { busy: 0, busyReads: 0, ackLost: 0, late: 0, stolen: 0, refused: 0, plansLost: 0 };

  constructor(kernel: Kernel, epochMs: number) {
    this.#kernel = kernel;
    this.#random = kernel.random.fork("db");
    this.#epochMs = epochMs;
  }

  look(sql: string): Record<string, unknown>[] {
    return this.#content.look(sql);
  }

  /** `onWrite` is told of every row of these tables that is written from here on. */
  follow(tables: readonly { readonly name: string; readonly columns: readonly string[] }[]): void {
    this.#content.follow(tables);
  }

  get clockMs(): number {
    return Math.floor(this.#epochMs + this.#kernel.nowMs + this.clockErrorMs);
  }

  /** The port as one process of the control plane has it. */
  portOf(caller: Process): Database {
    const random = this.#random;
    return {
      read: (statements) =>
        this.#kernel.call(
          { caller, target: this.process, what: "", thereMs: random.between(0.1, 2) + this.#waitMs(), backMs: random.between(0.1, 2) },
          () => this.#read(statements),
        ),
      write: (statements) => this.#write(caller, statements),
      reconnect: () => {},
    };
  }

  #waitMs(): number {
    return this.faults.slowMs === 0 ? 0 : this.#random.between(0, this.faults.slowMs);
  }

  #read(statements: InStatement[]): ResultSet[] {
    if (this.#random.chance(this.faults.stolen)) {
      this.injected.stolen++;
      throw EXPIRED;
    }
    const isBusy = this.#random.chance(this.faults.busy);
    if (isBusy) this.injected.busyReads++;
    return this.#run(statements, { mode: "read", busyAt: isBusy ? "step" : null });
  }

  #run(statements: readonly InStatement[], how: { readonly mode: "read" | "write"; readonly busyAt: BusyAt | null }): ResultSet[] {
    const { clockMs } = this;
    const tell = (answer: CarriedOut["answer"]) => {
      if (how.busyAt === null) SimDatabase.onBatch({ mode: how.mode, statements, clockMs, answer }, this);
    };
    this.#content.nowMs = clockMs;
    try {
      const answer = this.#content.run(statements, how);
      tell(answer);
      return answer;
    } catch (refusal) {
      tell({ refusal });
      throw refusal;
    }
  }

  #write(caller: Process, statements: InStatement[]): Promise<ResultSet[]> {
    const random = this.#random;
    const { faults, injected } = this;
    const askedMs = this.#kernel.nowMs;
    const carryOut = (busyAt: BusyAt | null = null) => this.#carryOut(statements, { askedMs, busyAt });
    const fate = random.fraction();
    const thereMs = random.between(0.2, 3) + this.#waitMs();
    const backMs = random.between(0.2, 3);
    const call = { caller, target: this.process, what: "", thereMs, backMs };
    if (faults.refusesWrites !== null || random.chance(faults.stolen)) {
      const refusal = faults.refusesWrites === null ? stolen(random, statements.length) : refused(faults.refusesWrites);
      if (faults.refusesWrites === null) injected.stolen++;
      else injected.refused++;
      return this.#kernel.call(call, () => {
        throw refusal;
      });
    }
    if (fate < faults.busy) {
      injected.busy++;
      const busyAt = random.pick(faults.busyAt);
      return this.#kernel.call(call, () => carryOut(busyAt));
    }
    if (fate < faults.busy + faults.ackLost) {
      injected.ackLost++;
      return this.#kernel.call({ ...call, backMs: backMs + 5_000 }, () => {
        // A refusal is lost like any other answer.
        try {
          carryOut();
        } catch (error) {
          this.#kernel.log("db", `nobody hears that it refused: ${String(error)}`);
        }
        throw new LibsqlError("fetch failed", "HRANA_WEBSOCKET_ERROR");
      });
    }
    if (fate < faults.busy + faults.ackLost + faults.late) {
      injected.late++;
      this.#kernel.after(random.between(6_000, 20_000), this.process, "a write that was given up comes late", () => {
        try {
          carryOut();
        } catch {
          this.#kernel.log("db", "the late write was refused");
        }
      });
      return this.#kernel.call({ ...call, backMs: 5_000 }, () => {
        throw new LibsqlError("fetch failed", "HRANA_WEBSOCKET_ERROR");
      });
    }
    return this.#kernel.call(call, () => carryOut());
  }

  #carryOut(
    statements: readonly InStatement[],
    { askedMs, busyAt }: { readonly askedMs: number; readonly busyAt: BusyAt | null },
  ): ResultSet[] {
    const results = this.#runWrite(statements, busyAt);
    this.#kernel.log("db", `wrote ${statements.map(describe).join(STATEMENT_END)}`);
    this.onWrite({ askedMs, rows: this.#content.takeWritten() });
    this.faults.onCarriedOut?.();
    return results;
  }

  #runWrite(statements: readonly InStatement[], busyAt: BusyAt | null): ResultSet[] {
    try {
      return this.#run(statements, { mode: "write", busyAt });
    } catch (error) {
      // Something that it relies on has moved since its snapshot.
      if (busyAt === null && statements.some((statement) => typeof statement !== "string" && statement.sql.includes(PLAN)))
        this.injected.plansLost++;
      throw error;
    }
  }
}

/** Between two statements in a line of the trace; no SQL of ours has it. */
export const STATEMENT_END = ";\t";
/** What only the commit of a plan says. */
const PLAN = "plan_rev = rev + 1";

function describe(statement: InStatement): string {
  return `${sqlOf(statement)} ${JSON.stringify(argsOf(statement), (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))}`;
}
