/**
 * `.env` and `env_file` texts, by the rules of Compose (05-services, env_file): `NAME=value` a line, `export ` allowed,
 * `#` comments, single quotes literal, double quotes with escapes, both over several lines; unquoted and double-quoted
 * values are interpolated. A name alone takes its value from the environment. `format: raw` takes lines as they are.
 */
import { interpolate } from "./interpolate.ts";

export type DotenvProblem = { line: number; reason: string };
export type DotenvFormat = "compose" | "raw";
export type Dotenv = { variables: Map<string, string>; problems: DotenvProblem[] };

/** `outer` is what substitutions and bare names look in before the file's own earlier lines. */
export function parseDotenv(text: string, outer: ReadonlyMap<string, string>, format: DotenvFormat = "compose"): Dotenv {
  const reader = new Reader(text.startsWith("\uFEFF") ? text.slice(1) : text, outer);
  return format === "raw" ? reader.raw() : reader.compose();
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", '"': '"', "\\": "\\", $: "$$" };

class Reader {
  readonly #text: string;
  readonly #outer: ReadonlyMap<string, string>;
  readonly #variables = new Map<string, string>();
  /** What substitutions see: the outer variables, which win, over the file's own. */
  readonly #known: Map<string, string>;
  readonly #problems: DotenvProblem[] = [];
  #at = 0;
  #line = 1;

  constructor(text: string, outer: ReadonlyMap<string, string>) {
    this.#text = text.replaceAll("\r\n", "\n");
    this.#outer = outer;
    this.#known = new Map(outer);
  }

  raw(): Dotenv {
    for (const line of this.#text.split("\n")) {
      const equals = line.indexOf("=");
      const name = (equals < 0 ? line : line.slice(0, equals)).trim();
      if (name !== "" && !name.startsWith("#")) this.#set(name, equals < 0 ? this.#outer.get(name) : line.slice(equals + 1));
      this.#line += 1;
    }
    return { variables: this.#variables, problems: this.#problems };
  }

  compose(): Dotenv {
    while (this.#at < this.#text.length) this.#assignment();
    return { variables: this.#variables, problems: this.#problems };
  }

  #assignment(): void {
    const line = this.#restOfLine();
    const startLine = this.#line;
    if (/^\s*(?:#|$)/.test(line)) {
      this.#skipLine();
      return;
    }
    const head = /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(=|:(?=[ \t]|$)|$|#)/.exec(line);
    const name = head?.[1];
    if (head === null || name === undefined) {
      this.#problems.push({ line: startLine, reason: "expected NAME=value" });
      this.#skipLine();
      return;
    }
    if (head[2] !== "=" && head[2] !== ":") {
      this.#set(name, this.#outer.get(name));
      this.#skipLine();
      return;
    }
    this.#at += head[0].length;
    while (this.#text[this.#at] === " " || this.#text[this.#at] === "\t") this.#at += 1;
    const quote = this.#text[this.#at];
    const value = quote === '"' || quote === "'" ? this.#quoted(quote) : this.#unquoted();
    if (value === undefined) {
      this.#problems.push({ line: startLine, reason: `the value of ${name} has an opening ${quote} but no closing one` });
      this.#skipLine();
      return;
    }
    this.#set(name, quote === "'" ? value : this.#substituted(value, startLine));
  }

  #quoted(quote: string): string | undefined {
    const parts: string[] = [];
    for (let at = this.#at + 1; at < this.#text.length; at += 1) {
      const character = this.#text[at] as string;
      if (character === quote) {
        this.#line += this.#text.slice(this.#at, at).split("\n").length - 1;
        this.#at = at + 1;
        const rest = this.#restOfLine();
        if (!/^\s*(?:#|$)/.test(rest)) this.#problems.push({ line: this.#line, reason: `unexpected text after the closing ${quote}` });
        this.#skipLine();
        return parts.join("");
      }
      if (character !== "\\") {
        parts.push(character);
        continue;
      }
      at += 1;
      const next = this.#text[at] ?? "";
      if (quote === "'") parts.push(next === "'" ? "'" : `\\${next}`);
      else parts.push(ESCAPES[next] ?? `\\${next}`);
    }
    return undefined;
  }

  #unquoted(): string {
    const line = this.#restOfLine();
    const comment = /(?:^|[ \t])#/.exec(line);
    this.#skipLine();
    return (comment === null ? line : line.slice(0, comment.index)).trim();
  }

  #substituted(value: string, line: number): string {
    const outcome = interpolate(value, this.#known);
    if (outcome.kind === "text") return outcome.text;
    this.#problems.push({ line, reason: outcome.kind === "required" ? `${outcome.name} is required` : outcome.reason });
    return value;
  }

  #set(name: string, value: string | undefined): void {
    if (value === undefined) return;
    this.#variables.set(name, value);
    if (!this.#outer.has(name)) this.#known.set(name, value);
  }

  #restOfLine(): string {
    const end = this.#text.indexOf("\n", this.#at);
    return this.#text.slice(this.#at, end < 0 ? undefined : end);
  }

  #skipLine(): void {
    const end = this.#text.indexOf("\n", this.#at);
    this.#at = end < 0 ? this.#text.length : end + 1;
    this.#line += 1;
  }
}
