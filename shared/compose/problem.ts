/**
 * Everything wrong with a Compose project, collected: one run shows every error, each with its place, a stable code,
 * and what to do about it.
 */
import type { Mark } from "./tree.ts";

export const COMPOSE_ERROR_CODES = [
  "yaml_syntax",
  "yaml_duplicate_key",
  "yaml_limit",
  "file_missing",
  "file_unreadable",
  "file_too_large",
  "file_not_text",
  "interpolation_syntax",
  "variable_required",
  "env_file_syntax",
  "unknown_key",
  "wrong_type",
  "wrong_value",
  "refused",
  "build_refused",
  "extends_cycle",
  "extends_missing",
  "include_cycle",
  "include_conflict",
  "undefined_reference",
  "dependency_cycle",
  "no_services",
  "name_missing",
  "name_conflict",
] as const;
export type ComposeErrorCode = (typeof COMPOSE_ERROR_CODES)[number];

export type ComposeError = {
  code: ComposeErrorCode;
  /** What is wrong, with the values concerned. */
  message: string;
  /** What to write or do instead. */
  mend: string;
  /** Path of the key, e.g. `services.web.ports[0]`; empty for a whole file. */
  path: string;
  file: string;
  line: number;
  column: number;
};

/** A project with 10,000 errors is no more useful to read than one with 200, and costs memory. */
const PROBLEMS_MAX = 200;

export type Complaint = { code: ComposeErrorCode; at: Mark; path: string; message: string; mend: string };

export class Problems {
  readonly #errors: ComposeError[] = [];
  readonly #seen = new Set<string>();

  get count(): number {
    return this.#errors.length;
  }

  hasCode(code: ComposeErrorCode): boolean {
    return this.#errors.some((error) => error.code === code);
  }

  /**
   * Whether something at this key, below it or above it has been told of: a second complaint would only be its echo.
   * A complaint about a whole service says nothing of its keys.
   */
  hasAt(path: string): boolean {
    const within = (inner: string, outer: string): boolean =>
      inner === outer || inner.startsWith(`${outer}.`) || inner.startsWith(`${outer}[`);
    return this.#errors.some((error) => error.path.split(".").length > 2 && (within(error.path, path) || within(path, error.path)));
  }

  add(complaint: Complaint): void {
    const { at, ...rest } = complaint;
    const error = {
      ...rest,
      message: printable(rest.message),
      path: printable(rest.path),
      file: at.file,
      line: at.line,
      column: at.column,
    };
    // An anchor used in five services is one mistake in the file, not five: the paths differ, the place and the cure do not.
    const identity = `${error.code} ${error.file}:${error.line}:${error.column} ${error.mend}`;
    if (this.#errors.length >= PROBLEMS_MAX || this.#seen.has(identity)) return;
    this.#seen.add(identity);
    this.#errors.push(error);
  }

  /** In reading order: file by file as first met, then by line. */
  list(): ComposeError[] {
    const fileOrder = [...new Set(this.#errors.map((error) => error.file))];
    return this.#errors.toSorted((a, b) => fileOrder.indexOf(a.file) - fileOrder.indexOf(b.file) || a.line - b.line || a.column - b.column);
  }
}

/**
 * Messages quote what users wrote; control characters, and those that turn the direction of text, would reach a
 * terminal as they are. Written by code point: \p{Cc} is C0 and C1, \p{Cf} the invisible format characters.
 */
export function printable(text: string): string {
  const visible = text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
  return visible.length > 500 ? `${visible.slice(0, 497)}...` : visible;
}
