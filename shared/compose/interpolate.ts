/**
 * `$VAR`, `${VAR}` and the operators of the Compose specification (12-interpolation): `:-` `-` `:?` `?` `:+` `+`, the
 * right side of which may hold further substitutions. `$$` is a dollar sign. One pass over the text by hand: a regular
 * expression with nested braces is where other implementations hang.
 *
 * Invariants: a substituted value is never read again for `$`, and the result is at most RESULT_CHARS_MAX long.
 */
import type { Problems } from "./problem.ts";
import type { Mark, Tree } from "./tree.ts";

export type Variables = ReadonlyMap<string, string>;

/** A variable that is not set and has no default becomes the empty string; the user is told. */
export type UnsetVariable = { name: string; at: Mark; path: string };

/** Defaults inside defaults, as in `${A:-${B:-c}}`: people write 3. */
const NESTING_MAX = 16;
/** As long as a whole file may be. */
const RESULT_CHARS_MAX = 1_000_000;

export type Outcome =
  | { kind: "text"; text: string; unset: string[] }
  | { kind: "syntax"; offset: number; reason: string }
  | { kind: "required"; name: string; message: string };

class Failed extends Error {
  readonly outcome: Exclude<Outcome, { kind: "text" }>;
  constructor(outcome: Exclude<Outcome, { kind: "text" }>) {
    super(outcome.kind);
    this.outcome = outcome;
  }
}

export function interpolate(text: string, variables: Variables): Outcome {
  if (!text.includes("$")) return { kind: "text", text, unset: [] };
  const scan = new Scan(text, variables);
  try {
    return { kind: "text", text: scan.until(false, 0, true), unset: [...scan.unset] };
  } catch (error) {
    if (error instanceof Failed) return error.outcome;
    throw error;
  }
}

const isNameStart = (character: string | undefined): boolean => character !== undefined && /^[A-Za-z_]$/.test(character);
const isNamePart = (character: string | undefined): boolean => character !== undefined && /^[A-Za-z0-9_]$/.test(character);

class Scan {
  readonly #text: string;
  readonly #variables: Variables;
  readonly unset = new Set<string>();
  #at = 0;
  #produced = 0;

  constructor(text: string, variables: Variables) {
    this.#text = text;
    this.#variables = variables;
  }

  /**
   * Text up to the end, or up to the closing brace when `inBraces`. `live` is false for a side that is not taken:
   * it is read for its syntax, but a required variable in it is not missed and an unset one is not reported.
   */
  until(inBraces: boolean, depth: number, live: boolean): string {
    const parts: string[] = [];
    let literalFrom = this.#at;
    for (;;) {
      const character = this.#text[this.#at];
      if (character === undefined) {
        if (inBraces) this.#fail("a substitution has no closing }");
        break;
      }
      if (inBraces && character === "}") break;
      if (character !== "$") {
        this.#at += 1;
        continue;
      }
      parts.push(this.#text.slice(literalFrom, this.#at));
      const part = this.#dollar(depth, live);
      // Counted before joining: 400,000 times a variable of 1 MB is 400 GB.
      this.#produced += part.length;
      if (this.#produced > RESULT_CHARS_MAX) this.#fail(`the result is longer than ${RESULT_CHARS_MAX} characters`);
      parts.push(part);
      literalFrom = this.#at;
    }
    parts.push(this.#text.slice(literalFrom, this.#at));
    if (inBraces) this.#at += 1;
    return parts.join("");
  }

  #dollar(depth: number, live: boolean): string {
    const start = this.#at;
    const next = this.#text[this.#at + 1];
    if (next === "$") {
      this.#at += 2;
      return "$";
    }
    if (isNameStart(next)) {
      this.#at += 1;
      return this.#plain(this.#name(), live);
    }
    if (next !== "{") this.#fail("a $ is not followed by a variable's name", start);
    if (depth >= NESTING_MAX) this.#fail(`substitutions are nested more than ${NESTING_MAX} deep`, start);
    this.#at += 2;
    if (!isNameStart(this.#text[this.#at])) this.#fail("a ${ is not followed by a variable's name", start);
    const name = this.#name();
    const operator = this.#operator(start);
    if (operator === "") return this.#plain(name, live);
    const value = this.#variables.get(name);
    const isGiven = operator.startsWith(":") ? value !== undefined && value !== "" : value !== undefined;
    const takesRight = operator.endsWith("+") ? isGiven : !isGiven;
    const right = this.until(true, depth + 1, live && takesRight);
    if (operator.endsWith("+")) return isGiven ? right : "";
    if (isGiven) return value as string;
    if (operator.endsWith("-")) return right;
    if (live) throw new Failed({ kind: "required", name, message: right });
    return "";
  }

  #name(): string {
    const from = this.#at;
    while (isNamePart(this.#text[this.#at])) this.#at += 1;
    return this.#text.slice(from, this.#at);
  }

  #operator(start: number): string {
    const two = this.#text.slice(this.#at, this.#at + 2);
    const operator = two[0] === "}" ? "}" : /^:[-?+]$/.test(two) ? two : /^[-?+]/.test(two) ? two.slice(0, 1) : undefined;
    if (operator === undefined) {
      if (two === "") this.#fail("a substitution has no closing }", start);
      this.#fail(`"${two[0]}" is no operator; known are :- - :? ? :+ +`, start);
    }
    this.#at += operator.length;
    return operator === "}" ? "" : operator;
  }

  #plain(name: string, live: boolean): string {
    const value = this.#variables.get(name);
    if (value === undefined && live) this.unset.add(name);
    return value ?? "";
  }

  #fail(reason: string, offset = this.#at): never {
    throw new Failed({ kind: "syntax", offset, reason });
  }
}

export type TreeInterpolation = { variables: Variables; problems: Problems; onUnset: (variable: UnsetVariable) => void };

/** The tree with every string value interpolated; keys are left as they are, as the specification says. */
export function interpolateTree(tree: Tree, path: string, how: TreeInterpolation): Tree {
  if (tree.kind === "sequence") {
    return { ...tree, items: tree.items.map((item, index) => interpolateTree(item, `${path}[${index}]`, how)) };
  }
  if (tree.kind === "mapping") {
    const entries = [...tree.entries].map(
      ([key, entry]) => [key, { ...entry, value: interpolateTree(entry.value, path === "" ? key : `${path}.${key}`, how) }] as const,
    );
    return { ...tree, entries: new Map(entries) };
  }
  if (typeof tree.value !== "string") return tree;
  const outcome = interpolate(tree.value, how.variables);
  if (outcome.kind === "text") {
    for (const name of outcome.unset) how.onUnset({ name, at: tree.at, path });
    return outcome.text === tree.value ? tree : { ...tree, value: outcome.text };
  }
  if (outcome.kind === "required") {
    const reason = outcome.message === "" ? "is required" : `is required: ${outcome.message}`;
    how.problems.add({
      code: "variable_required",
      at: tree.at,
      path,
      message: `the variable ${outcome.name} ${reason}`,
      mend: `set ${outcome.name} in the environment or in .env`,
    });
  } else {
    how.problems.add({
      code: "interpolation_syntax",
      at: tree.at,
      path,
      message: `${outcome.reason}, at character ${outcome.offset + 1} of the value`,
      mend: "write $$ for a dollar sign that is not a variable",
    });
  }
  return tree;
}
