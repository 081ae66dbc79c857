/** Everything that happens in a world, as lines: their hash tells two runs apart, those that are kept show a person what happened. */
import { createHash } from "node:crypto";

/** Hashed at once: a call of the hash for each line takes longer than the hashing. */
const CHUNK_CHARS = 65_536;

export class Trace {
  readonly #hash = createHash("sha256");
  readonly #keeps: number;
  readonly #kept: string[] = [];
  #next = 0;
  #chunk = "";
  lines = 0;

  /** Keeps the newest `keeps` lines. */
  constructor(keeps: number) {
    this.#keeps = keeps;
  }

  add(atMs: number, who: string, what: string): void {
    const line = `${atMs.toFixed(3)} ${who}: ${what}`;
    this.#chunk += `${line}\n`;
    if (this.#chunk.length > CHUNK_CHARS) this.#hashChunk();
    this.lines++;
    if (this.#keeps === 0) return;
    this.#kept[this.#next] = line;
    this.#next = (this.#next + 1) % this.#keeps;
  }

  #hashChunk(): void {
    this.#hash.update(this.#chunk);
    this.#chunk = "";
  }

  /** Of every line so far. */
  digest(): string {
    this.#hashChunk();
    return this.#hash.copy().digest("hex");
  }

  /** Those that are kept, oldest first. */
  kept(): string[] {
    return [...this.#kept.slice(this.#next), ...this.#kept.slice(0, this.#next)];
  }
}
