/** Everything that happens in a world, as lines: their hash tells two runs apart, their end shows a person what happened. */
import { createHash } from "node:crypto";

const KEPT_LINES = 20_000;

export class Trace {
  readonly #hash = createHash("sha256");
  readonly #kept: string[] = [];
  #next = 0;
  lines = 0;

  add(atMs: number, who: string, what: string): void {
    const line = `${atMs.toFixed(3)} ${who}: ${what}`;
    this.#hash.update(line).update("\n");
    this.lines++;
    this.#kept[this.#next] = line;
    this.#next = (this.#next + 1) % KEPT_LINES;
  }

  /** Of every line so far. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  /** The newest lines, oldest first. */
  tail(count: number): string[] {
    const ordered = [...this.#kept.slice(this.#next), ...this.#kept.slice(0, this.#next)];
    return ordered.slice(-count);
  }
}
