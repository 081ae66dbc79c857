/** Which expectation a failed batch missed. Everything else that can fail is a fault, not an outcome. */
import { LibsqlBatchError } from "@libsql/client";
import type { Conflict, Statement } from "./commit-statements.ts";
import { noun } from "./commit-statements.ts";
import type { RowChange } from "./commit-types.ts";
import { keyText, shape, TABLE_SHAPES } from "./table-shape.ts";

/** The conflict that `error` stands for; "replay": the operation is recorded already; null: it is a fault. */
export function conflictOf(statements: readonly Statement[], error: unknown): Conflict | "replay" | null {
  if (!(error instanceof LibsqlBatchError)) return null;
  const statement = statements[error.statementIndex];
  if (!statement) return null;
  if (statement.onMiss && /malformed JSON/.test(error.message)) return statement.onMiss;
  const taken = /UNIQUE constraint failed: ([a-z_."]+(?:, [a-z_."]+)*)/.exec(error.message)?.[1];
  if (taken === undefined || statement.onTaken === undefined) return null;
  if (statement.onTaken === "replay") return "replay";
  return { kind: "conflict", what: "unique", message: takenMessage(statement.onTaken.change, taken.split(", ")) };
}

/** `nodes.name` → "a node with this name (berlin-1) exists already". */
function takenMessage(change: RowChange, columns: readonly string[]): string {
  const table = shape(change.table);
  const names = columns.map((column) => column.split(".").at(-1)!.replaceAll('"', ""));
  const rows: readonly object[] = change.op === "delete" ? [] : change.rows;
  const row = (rows.length === 1 ? rows[0] : {}) as Readonly<Record<string, unknown>>;
  const values = names.flatMap((name) => {
    const key = [...table.columns.values()].find((column) => column.name === name)?.key;
    const value = key === undefined ? undefined : row[key];
    return typeof value === "string" || typeof value === "number" ? [String(value)] : [];
  });
  const shown = values.length === 0 ? "" : ` (${values.join(", ")})`;
  const kind = noun(table);
  return `${/^[aeiou]/.test(kind) ? "an" : "a"} ${kind} with this ${names.map((name) => name.replaceAll("_", " ")).join(" and ")}${shown} exists already`;
}

/** The first row that one update names twice, or null. */
export function duplicateKey(changes: readonly RowChange[]): string | null {
  for (const change of changes) {
    if (change.op !== "update") continue;
    const table = TABLE_SHAPES.get(change.table)!;
    const seen = new Set<string>();
    for (const row of change.rows as readonly Readonly<Record<string, unknown>>[]) {
      const key = keyText(table, row);
      if (seen.has(key)) return `${noun(table)} ${key}`;
      seen.add(key);
    }
  }
  return null;
}
