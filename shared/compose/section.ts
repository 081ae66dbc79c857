/**
 * Reads the keys of one mapping with their places. The key check has already reported wrong forms, so a value of
 * another form is simply absent here.
 */
import { parseDurationMs } from "./durations.ts";
import { parseBoolean, parseNumber } from "./plain.ts";
import type { ComposeErrorCode, Problems } from "./problem.ts";
import type { Report } from "./report.ts";
import { parseBytes } from "./sizes.ts";
import { isNull, type Mark, scalarText, type Tree } from "./tree.ts";

export type Found<T> = { value: T; at: Mark; path: string };
type Telling = { problems: Problems; report: Report };

export class Section {
  readonly #tree: Tree | undefined;
  readonly path: string;
  readonly #telling: Telling;

  constructor(tree: Tree | undefined, path: string, telling: Telling) {
    this.#tree = tree;
    this.path = path;
    this.#telling = telling;
  }

  get at(): Mark | undefined {
    return this.#tree?.at;
  }

  has(key: string): boolean {
    return this.tree(key) !== undefined;
  }

  tree(key: string): Found<Tree> | undefined {
    const entry = this.#tree?.kind === "mapping" ? this.#tree.entries.get(key) : undefined;
    if (entry === undefined || isNull(entry.value)) return undefined;
    return { value: entry.value, at: entry.value.at, path: this.path === "" ? key : `${this.path}.${key}` };
  }

  section(key: string): Section {
    return new Section(this.tree(key)?.value, `${this.path}.${key}`, this.#telling);
  }

  /** Sections of a mapping whose keys are names, e.g. `depends_on`. */
  named(key: string): { name: string; at: Mark; section: Section }[] {
    const found = this.tree(key);
    if (found?.value.kind !== "mapping") return [];
    return [...found.value.entries].map(([name, entry]) => ({
      name,
      at: entry.at,
      section: new Section(entry.value, `${found.path}.${name}`, this.#telling),
    }));
  }

  text(key: string): Found<string> | undefined {
    const found = this.tree(key);
    if (found?.value.kind !== "scalar") return undefined;
    return { ...found, value: scalarText(found.value) };
  }

  boolean(key: string): boolean | undefined {
    const found = this.tree(key);
    return found?.value.kind === "scalar" ? parseBoolean(found.value.value) : undefined;
  }

  number(key: string): Found<number> | undefined {
    const found = this.tree(key);
    const value = found?.value.kind === "scalar" ? parseNumber(found.value.value) : undefined;
    return found === undefined || value === undefined ? undefined : { ...found, value };
  }

  integer(key: string): Found<number> | undefined {
    const found = this.number(key);
    if (found === undefined || Number.isSafeInteger(found.value)) return found;
    this.wrong(found, `${found.value} is no whole number`, "write a whole number");
    return undefined;
  }

  durationMs(key: string): Found<number> | undefined {
    const found = this.text(key);
    if (found === undefined) return undefined;
    const value = parseDurationMs(found.value);
    if (value !== undefined) return { ...found, value };
    this.wrong(found, `"${found.value}" is no duration`, "write it like 30s, 1m30s, 500ms or 2h");
    return undefined;
  }

  bytes(key: string): Found<number> | undefined {
    const found = this.tree(key);
    if (found?.value.kind !== "scalar") return undefined;
    const value = parseBytes(found.value.value);
    if (value !== undefined) return { ...found, value };
    this.wrong(found, `"${scalarText(found.value)}" is no size`, "write it like 512m, 2g or 1048576");
    return undefined;
  }

  /** CPUs, e.g. 0.5, in thousandths. */
  cpuMillis(key: string): Found<number> | undefined {
    const found = this.number(key);
    return found === undefined ? undefined : { ...found, value: Math.round(found.value * 1000) };
  }

  /** A list of strings, or one string where a list may stand. */
  strings(key: string): Found<string>[] {
    const found = this.tree(key);
    if (found?.value.kind === "scalar") return [{ ...found, value: scalarText(found.value) }];
    if (found?.value.kind !== "sequence") return [];
    return found.value.items.flatMap((item, index) =>
      item.kind === "scalar" ? [{ value: scalarText(item), at: item.at, path: `${found.path}[${index}]` }] : [],
    );
  }

  items(key: string): Found<Tree>[] {
    const found = this.tree(key);
    if (found?.value.kind !== "sequence") return [];
    return found.value.items.map((value, index) => ({ value, at: value.at, path: `${found.path}[${index}]` }));
  }

  /** The pairs of a mapping of plain values; null where a key has no value. */
  pairs(key: string): { key: string; value: string | null; at: Mark }[] {
    const found = this.tree(key);
    if (found?.value.kind !== "mapping") return [];
    return [...found.value.entries].flatMap(([name, entry]) =>
      entry.value.kind === "scalar" ? [{ key: name, value: isNull(entry.value) ? null : scalarText(entry.value), at: entry.at }] : [],
    );
  }

  entries(): { key: string; at: Mark }[] {
    return this.#tree?.kind === "mapping" ? [...this.#tree.entries].map(([key, entry]) => ({ key, at: entry.at })) : [];
  }

  within(found: Found<Tree>): Section {
    return new Section(found.value, found.path, this.#telling);
  }

  wrong(found: { at: Mark; path: string }, message: string, mend: string): void {
    this.complain("wrong_value", found, { message, mend });
  }

  refuse(found: { at: Mark; path: string }, message: string, mend: string): void {
    this.complain("refused", found, { message, mend });
  }

  complain(code: ComposeErrorCode, found: { at: Mark; path: string }, words: { message: string; mend: string }): void {
    if (code === "refused" || code === "build_refused")
      this.#telling.report.say("refused", found.at, { path: found.path, note: words.message });
    this.#telling.problems.add({ code, at: found.at, path: found.path, message: `${found.path}: ${words.message}`, mend: words.mend });
  }

  /** Refused elsewhere: the report must not call it applied here. */
  refusedElsewhere(found: { at: Mark; path: string }, note: string): void {
    this.#telling.report.say("refused", found.at, { path: found.path, note });
  }

  approximated(found: { at: Mark; path: string }, note: string): void {
    this.#telling.report.approximated(found.at, found.path, note);
  }
}
