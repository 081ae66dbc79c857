/** The table of the seeds that were played so far, in a document: one row for each slice. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";

const HEAD = "| date | commit | seeds | cluster-hours | faults | broken |";

export interface Slice {
  readonly commit: string;
  readonly from: number;
  /** The last seed up to which all were played. */
  readonly to: number;
  readonly clusterHours: number;
  readonly faults: number;
  /** With the invariants that broke. */
  readonly broken: readonly string[];
}

export class Campaign {
  readonly #file: string;
  readonly #before: string;
  readonly #after: string;

  /** Throws if the document has no such table. */
  constructor(file: string) {
    const text = readFileSync(file, "utf8");
    const start = text.indexOf(HEAD);
    if (start < 0) throw new Error(`${file} has no table "${HEAD}"`);
    const end = /\n(?!\|)|$/.exec(text.slice(start))?.index ?? 0;
    this.#file = file;
    this.#before = text.slice(0, start + end);
    this.#after = text.slice(start + end);
  }

  /** Up to which the newest slice got; 0 if there is none. */
  get lastSeed(): number {
    const [, last] = /\| \d+–(\d+) \|[^\n]*$/.exec(this.#before) ?? [];
    return last === undefined ? 0 : Number(last);
  }

  /** Makes the row of this slice, or makes it anew: whoever is killed has told how far it got. */
  write({ commit, from, to, clusterHours, faults, broken }: Slice): void {
    const date = new Date().toISOString().slice(0, 10);
    const row = `| ${date} | ${commit} | ${from}–${to} | ${clusterHours.toFixed(1)} | ${faults} | ${broken.length === 0 ? "none" : broken.join(", ")} |`;
    writeFileSync(`${this.#file}.new`, `${this.#before}\n${row}${this.#after}`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}
