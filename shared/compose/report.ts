/** One line for each key a project uses: what berth does with it. */
import type { KeyStatus } from "./key-row.ts";
import { printable } from "./problem.ts";
import type { Mark } from "./tree.ts";

export type ReportLine = { path: string; status: KeyStatus; note: string; file: string; line: number; column: number };

/** Something the user should know that is no key of theirs, such as a variable that is not set. */
export type ComposeWarning = { code: "variable_unset" | "orphan"; message: string; file: string; line: number; column: number };

export class Report {
  readonly #lines = new Map<string, ReportLine>();
  readonly #warnings = new Map<string, ComposeWarning>();

  say(status: KeyStatus, at: Mark, words: { path: string; note: string }): void {
    this.#lines.set(words.path, {
      path: printable(words.path),
      status,
      note: printable(words.note),
      file: at.file,
      line: at.line,
      column: at.column,
    });
  }

  approximated(at: Mark, path: string, note: string): void {
    this.say("approximated", at, { path, note });
  }

  warn(code: ComposeWarning["code"], at: Mark, message: string): void {
    if (!this.#warnings.has(message))
      this.#warnings.set(message, { code, message: printable(message), file: at.file, line: at.line, column: at.column });
  }

  lines(): ReportLine[] {
    return [...this.#lines.values()];
  }

  warnings(): ComposeWarning[] {
    return [...this.#warnings.values()];
  }
}
