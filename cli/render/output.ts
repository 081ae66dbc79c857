/** `-o`: the API's resources as they are, or what people read. */
import type { Removed } from "../../shared/api/resources.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { type Column, tableLines } from "./table.ts";
import { isUnsafe, visible, visibleQuoted } from "./visible.ts";

/** Prints `value` as JSON or YAML, or calls `human`. */
export async function emit(shell: Pick<Shell, "output" | "terminal">, value: unknown, human: () => void): Promise<void> {
  if (shell.output === "table") {
    human();
    return;
  }
  if (shell.output === "json") {
    line(shell.terminal, visibleQuoted(JSON.stringify(value, null, 2)));
    return;
  }
  shell.terminal.out(await yamlOf(value));
}

/** One of many that come one by one: JSON on a line, or YAML as a document. */
export async function emitItem(shell: Pick<Shell, "output" | "terminal">, value: unknown): Promise<void> {
  if (shell.output === "json") {
    line(shell.terminal, visibleQuoted(JSON.stringify(value)));
    return;
  }
  shell.terminal.out(`---\n${await yamlOf(value)}`);
}

/** What the library writes plainly and does not read back as it was: text that begins with white space, and byte order marks. */
const UNSTABLE = /^\s|\ufeff/;

/** Strings that a terminal would obey are quoted, and escaped in their quotes. */
async function yamlOf(value: unknown): Promise<string> {
  const { Document, Scalar, visit } = await import("yaml");
  const document = new Document(value);
  visit(document, {
    Scalar(_, scalar) {
      if (typeof scalar.value === "string" && (isUnsafe(scalar.value) || UNSTABLE.test(scalar.value))) scalar.type = Scalar.QUOTE_DOUBLE;
    },
  });
  return visibleQuoted(document.toString());
}

/** A table, or one sentence where there is nothing. */
export function printTable<Row>(shell: Shell, columns: readonly Column<Row>[], rows: readonly Row[], empty: string): void {
  if (rows.length === 0) {
    line(shell.terminal, empty);
    return;
  }
  const { terminal } = shell;
  for (const text of tableLines(columns, rows, { style: terminal.style, columns: terminal.isTty ? terminal.columns : null }))
    line(terminal, text);
}

/** Names and values under each other, aligned. */
export function printFields(shell: Shell, fields: readonly (readonly [string, string | number])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length));
  for (const [name, value] of fields)
    line(shell.terminal, `${shell.terminal.style.quiet(`${name}:`.padEnd(width + 2))}${visible(String(value))}`);
}

/** The answer of a delete: what it did, then what it left behind. */
export const emitRemoved = (shell: Shell, removed: Removed, sentence: string): Promise<void> =>
  emit(shell, removed, () => {
    line(shell.terminal, sentence);
    for (const note of removed.notes) line(shell.terminal, `  ${visible(note)}`);
  });
