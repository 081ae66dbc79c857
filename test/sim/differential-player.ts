/** A process that plays a history and asks the real database everything again that the simulated one was asked: see differential.test.ts. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { InStatement } from "@libsql/client";
import type { SqlResult } from "../../worker/ports.ts";
import { type EmbeddedDatabase, openDatabaseFile } from "../../worker/store/database-embedded.ts";
import { type CarriedOut, SimDatabase } from "./database.ts";
import { type HistoryOptions, playHistory } from "./history.ts";

export interface DifferentialOptions extends HistoryOptions {
  /** Text in the real one's SQL that is replaced: a difference that has to be found. */
  readonly spoil?: readonly [from: string, to: string];
}

export interface Differential {
  readonly batches: number;
  /** Of these. */
  readonly refusals: number;
  /** Rows of all tables in the end. */
  readonly rows: number;
  readonly differences: readonly string[];
}

const DIFFERENCES_MAX = 20;

async function compare({ spoil = ["", ""], ...history }: DifferentialOptions): Promise<Differential> {
  const batches: CarriedOut[] = [];
  let simulated: SimDatabase | null = null;
  SimDatabase.onBatch = (batch, database) => {
    simulated = database;
    batches.push(batch);
  };
  await playHistory(history);
  const directory = mkdtempSync(join(tmpdir(), "berth-differential-"));
  const real = await openDatabaseFile(join(directory, "berth.db"));
  try {
    const differences: string[] = [];
    for (const [at, batch] of batches.entries()) {
      const statements = batch.statements.map((statement) => timed(statement, batch.clockMs, spoil));
      const answer = await real[batch.mode](statements).catch((refusal: unknown) => ({ refusal }));
      const [ours, theirs] = [wordsOf(batch.answer), wordsOf(answer)];
      if (ours !== theirs) differences.push(`batch ${at}: ${sqlOf(batch.statements[0]!).slice(0, 200)}: simulated ${ours}, real ${theirs}`);
      if (differences.length >= DIFFERENCES_MAX) break;
    }
    const rows = await compareTables(simulated!, real, differences);
    const refusals = batches.filter(({ answer }) => "refusal" in answer).length;
    return { batches: batches.length, refusals, rows, differences: differences.map((text) => text.slice(0, 2_000)) };
  } finally {
    await real.close();
    rmSync(directory, { recursive: true });
  }
}

const sqlOf = (statement: InStatement): string => (typeof statement === "string" ? statement : statement.sql);

/** At the moment at which the simulated one was asked. */
function timed(statement: InStatement, clockMs: number, [from, to]: readonly [string, string]): InStatement {
  const sql = sqlOf(statement).replaceAll("unixepoch('subsec')", `(${clockMs} / 1000.0)`).replaceAll(from, to);
  return { sql, args: typeof statement === "string" ? [] : (statement.args ?? []) };
}

/** Rows as values in their order, changes by their number, refusals by their code and statement. */
function wordsOf(answer: readonly SqlResult[] | { readonly refusal: unknown }): string {
  if (!("refusal" in answer))
    return JSON.stringify(
      answer.map(({ rows, rowsAffected }) => [rowsAffected, ...rows.map((row) => Array.from(row as ArrayLike<unknown>, plain))]),
    );
  const { code, extendedCode, statementIndex, message } = answer.refusal as Record<string, unknown>;
  return `refused: ${JSON.stringify([code, extendedCode, statementIndex, code === undefined ? message : null])}`;
}

const plain = (value: unknown): unknown =>
  value instanceof ArrayBuffer || value instanceof Uint8Array
    ? Buffer.from(value as ArrayBuffer).toString("hex")
    : typeof value === "bigint"
      ? String(value)
      : value;

/** Every row of every table; how many there are. */
async function compareTables(simulated: SimDatabase, real: EmbeddedDatabase, differences: string[]): Promise<number> {
  const tables = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name";
  const [found] = await real.read([tables]);
  const names = found!.rows.map((row) => String(row[0]));
  if (
    simulated
      .look(tables)
      .map(({ name }) => name)
      .join() !== names.join()
  )
    differences.push(`tables of the real one: ${names.join(" ")}`);
  let count = 0;
  for (const name of names) {
    const [result] = await real.read([`select * from "${name}"`]);
    const theirs = result!.rows.map((row) => JSON.stringify(Array.from(row as ArrayLike<unknown>, plain))).sort();
    const ours = simulated
      .look(`select * from "${name}"`)
      .map((row) => JSON.stringify(Object.values(row).map(plain)))
      .sort();
    count += ours.length;
    if (ours.length !== theirs.length) differences.push(`${name}: simulated ${ours.length} rows, real ${theirs.length}`);
    else for (const [at, row] of ours.entries()) if (row !== theirs[at]) differences.push(`${name}: simulated ${row}, real ${theirs[at]}`);
  }
  return count;
}

process.on("message", (options: DifferentialOptions) => {
  compare(options).then(
    (differential) => process.send?.(differential),
    (error: unknown) => {
      throw error;
    },
  );
});
