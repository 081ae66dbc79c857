/**
 * The cluster's state: one way to read it and one way to change it.
 *
 * Reads are built with drizzle and run as one consistent read transaction a call. Writes are mutations; `commit` sends
 * each as one BEGIN IMMEDIATE batch that takes the next rev or changes nothing.
 */
import type { BatchItem, BatchResponse } from "drizzle-orm/batch";
import { drizzle, type SqliteRemoteDatabase } from "drizzle-orm/sqlite-proxy";
import type { InArgs, InStatement } from "@libsql/client";
import type { Ed25519Jwk } from "../../shared/wire/keys.ts";
import type { Database, SqlResult } from "../ports.ts";
import { assert } from "./assert.ts";
import { CLOCK_STEP, CLOCK_STEP_MAX_MS, commitStatements, DATABASE_NOW_SQL, type Statement } from "./commit-statements.ts";
import type { CommitResult, Mutation, Row } from "./commit-types.ts";
import { conflictOf, duplicateKey } from "./commit-conflict.ts";
import { migrate } from "./migrator.ts";
import { type Compiled, compile, type PreparedRead } from "./prepared-read.ts";
import { cluster } from "./schema.ts";

export interface ClusterIdentity {
  readonly clusterId: string;
  readonly era: string;
  readonly rootKey: Ed25519Jwk;
  /** Root-signed key set, compact JWS. */
  readonly keySet: string;
  readonly keySetVersion: number;
}

/** Where a read stands: rev for rows, observed for what agents saw, and the database's clock, all of one instant. */
export interface Marks {
  readonly rev: number;
  readonly observed: number;
  readonly nowMs: number;
}

export interface Tick {
  /** False: less than 2 s since the last, nothing was written. */
  readonly moved: boolean;
  readonly clockMs: number;
  readonly nowMs: number;
  /** The database's clock jumped: the cluster clock counted less than it showed. */
  readonly clamped: boolean;
}

/** Query building only: no insert, update, delete, batch or transaction (`commit` is the one write path). */
export type Query = Pick<SqliteRemoteDatabase, "select" | "selectDistinct" | "with" | "$with" | "$count">;

const MARKS = `select rev, observed, ${DATABASE_NOW_SQL} as now from cluster where id = 1`;
/** A tick commits only when this much has passed or the clock went back. */
const TICK_MIN_MS = 2_000;

export class Store {
  readonly database: Database;
  /** Builds typed queries; awaiting one runs it alone. Several at once: `selectAll`, or `read` for what happens often. */
  readonly db: Query;
  readonly #remote: SqliteRemoteDatabase;
  readonly #compiled = new Map<object, readonly Compiled[]>();

  constructor(database: Database) {
    this.database = database;
    this.#remote = drizzle(
      async (sql, params, method) => {
        const [result] = await this.#select([{ sql, args: params }]);
        // drizzle maps `get` from one row, everything else from a list.
        return { rows: method === "get" ? (result!.rows[0] as unknown as unknown[]) : (result!.rows as unknown as unknown[][]) };
      },
      async (queries) => {
        const results = await this.#select(queries.map(({ sql, params }) => ({ sql, args: params })));
        return results.map(({ rows }) => ({ rows: rows as unknown as unknown[][] }));
      },
    );
    this.db = this.#remote;
  }

  /** The schema is this build's when it returns. Throws SchemaNewerError. */
  static async open(database: Database): Promise<Store> {
    await migrate(database);
    return new Store(database);
  }

  /** Makes the cluster with namespace and site `default`, unless there is one: then that one stays as it is. */
  async init(identity: ClusterIdentity): Promise<{ readonly created: boolean }> {
    const { clusterId, era, rootKey, keySet, keySetVersion } = identity;
    const insert = `insert into cluster (id, cluster_id, era, rev, plan_rev, observed, commit_ms, feed_floor, clock_ms, wall_ms, created_ms, root_key, key_set, key_set_version)
      select 1, ?, ?, 1, 0, 0, now, 0, now, now, now, ?, ?, ? from (select ${DATABASE_NOW_SQL} as now) where true on conflict (id) do nothing`;
    const first = (sql: string) => `${sql} from cluster where not exists (select 1 from namespaces) and rev = 1`;
    const results = await this.database.write([
      { sql: insert, args: [clusterId, era, JSON.stringify(rootKey), keySet, keySetVersion] },
      first("insert into sites (name, labels, created_ms, rev) select 'default', '{}', commit_ms, 1"),
      first("insert into namespaces (name, created_ms, rev) select 'default', commit_ms, 1"),
    ]);
    return { created: results[0]!.rowsAffected === 1 };
  }

  /** The cluster's row. Throws before `init`. */
  async cluster(): Promise<Row<"cluster">> {
    const [row] = await this.db.select().from(cluster);
    assert(row, "the database holds no cluster yet");
    return row;
  }

  /** Runs one drizzle select; columns come typed (JSON parsed, booleans). */
  async select<Result>(query: PromiseLike<Result>): Promise<Result> {
    return await query;
  }

  /** Several selects as one round trip and one consistent view. */
  async selectAll<First extends BatchItem<"sqlite">, const Queries extends readonly [First, ...First[]]>(
    queries: Queries,
  ): Promise<BatchResponse<Queries>> {
    return await this.#remote.batch<First, Queries>(queries);
  }

  /** `selectAll` with SQL that is written once. */
  async read<Values extends object, const Queries extends readonly [BatchItem<"sqlite">, ...BatchItem<"sqlite">[]]>(
    read: PreparedRead<Values, Queries>,
    values: Values,
  ): Promise<BatchResponse<Queries>> {
    let compiled = this.#compiled.get(read);
    if (compiled === undefined) {
      compiled = compile(this.db, read);
      for (const select of compiled) assertSelect(select.sql);
      this.#compiled.set(read, compiled);
    }
    const results = await this.database.read(compiled.map(({ sql, args }) => ({ sql, args: args(values) as InArgs })));
    return compiled.map(({ rows }, i) => rows(results[i]!.rows)) as BatchResponse<Queries>;
  }

  async marks(): Promise<Marks> {
    const [result] = await this.#select([MARKS]);
    return marksOf(result!);
  }

  /** Plain statements and where they stand, in one consistent view: for bulk reads that drizzle would slow down. */
  async readRaw(statements: readonly InStatement[]): Promise<{ readonly marks: Marks; readonly results: SqlResult[] }> {
    const [marks, ...results] = await this.#select([MARKS, ...statements]);
    return { marks: marksOf(marks!), results };
  }

  /**
   * One batch: the next rev, or nothing. Throws on a broken invariant and when the database cannot be reached; then
   * whether it was carried out is not known, and the same call again with the same opId finds out.
   */
  async commit(mutation: Mutation): Promise<CommitResult> {
    const statements = commitStatements(mutation);
    let results: SqlResult[];
    try {
      results = await this.database.write(statements.map(({ sql, args }) => ({ sql, args: [...args] })));
    } catch (error) {
      return await this.#refusal(mutation, statements, error);
    }
    const row = results.at(-1)!.rows[0];
    assert(row, "the database holds no cluster yet");
    return { kind: "committed", rev: Number(row[0]), nowMs: Number(row[1]), observed: Number(row[2]) };
  }

  /** Moves the cluster clock by what the database's has moved, at most 5 s. `also`: what the same batch writes besides. */
  async tick(also: readonly InStatement[] = []): Promise<Tick> {
    const step = `(${DATABASE_NOW_SQL} - wall_ms)`;
    const [before, moved, after] = await this.database.write([
      `select ${step} from cluster where id = 1`,
      `update cluster set clock_ms = clock_ms + ${CLOCK_STEP}, wall_ms = ${DATABASE_NOW_SQL} where id = 1 and (${step} >= ${TICK_MIN_MS} or ${step} < 0)`,
      `select clock_ms, ${DATABASE_NOW_SQL} from cluster where id = 1`,
      ...also,
    ]);
    const stepMs = Number(before!.rows[0]?.[0]);
    assert(Number.isFinite(stepMs), "the database holds no cluster yet");
    const isMoved = moved!.rowsAffected === 1;
    return {
      moved: isMoved,
      clockMs: Number(after!.rows[0]![0]),
      nowMs: Number(after!.rows[0]![1]),
      clamped: isMoved && (stepMs > CLOCK_STEP_MAX_MS || stepMs < 0),
    };
  }

  async #refusal(mutation: Mutation, statements: readonly Statement[], error: unknown): Promise<CommitResult> {
    const conflict = conflictOf(statements, error);
    if (conflict === null) throw error;
    if (conflict === "replay") return await this.#replay(mutation.opId!);
    // A row named twice in one update matches once: that is the caller's mistake and would be a conflict for ever.
    const twice = duplicateKey(mutation.changes);
    assert(twice === null, `one change updates ${twice} twice`);
    return conflict;
  }

  async #replay(opId: string): Promise<CommitResult> {
    const [result] = await this.#select([{ sql: "select rev, result from ops where op_id = ?", args: [opId] }]);
    const row = result!.rows[0];
    assert(row, `operation ${opId} was refused as done and is not recorded`);
    return { kind: "replayed", rev: Number(row[0]), result: JSON.parse(String(row[1])) as unknown };
  }

  async #select(statements: InStatement[]): Promise<SqlResult[]> {
    for (const statement of statements) assertSelect(typeof statement === "string" ? statement : statement.sql);
    return await this.database.read(statements);
  }
}

/** libSQL's READONLY transactions let writes through, so the words decide; values are bound and never among them. */
function assertSelect(sql: string): void {
  const isSelect = /^\s*(select|with)\s/i.test(sql) && !/\b(insert|replace|delete)\s+(into|from)\b|\bupdate\s+\S+\s+set\b/i.test(sql);
  assert(isSelect, "the read path runs selects only; changes go through commit");
}

function marksOf(result: SqlResult): Marks {
  const row = result.rows[0];
  assert(row, "the database holds no cluster yet");
  return { rev: Number(row[0]), observed: Number(row[1]), nowMs: Number(row[2]) };
}
