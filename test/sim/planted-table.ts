/** The table of planted bugs in a document: one row for each, which is made anew when it is tried again. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";

const HEAD = "| planted bug | found by | seeds |";

export interface Found {
  readonly name: string;
  /** Seeds until it was found; null: it escaped. */
  readonly seeds: number | null;
  /** Invariants that broke, or why it could not be tried. */
  readonly by: string;
}

export class PlantedTable {
  readonly #file: string;

  /** Throws if the document has no such table. */
  constructor(file: string) {
    this.#file = file;
    this.#read();
  }

  /** Other rows stay as they are. */
  write({ name, seeds, by }: Found): void {
    const { before, rows, after } = this.#read();
    rows.set(name, `| ${name} | ${seeds === null ? "escaped" : by} | ${seeds ?? ""} |`);
    const table = [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => `\n${row}`);
    writeFileSync(`${this.#file}.new`, `${before}${table.join("")}${after}`);
    renameSync(`${this.#file}.new`, this.#file);
  }

  #read(): { readonly before: string; readonly rows: Map<string, string>; readonly after: string } {
    const text = readFileSync(this.#file, "utf8");
    const start = text.indexOf(HEAD);
    if (start < 0) throw new Error(`${this.#file} has no table "${HEAD}"`);
    const lines = text.slice(start).split("\n");
    const length = lines.findIndex((line) => !line.startsWith("|"));
    const table = length < 0 ? lines : lines.slice(0, length);
    const [head = "", rule = "", ...rows] = table;
    return {
      before: `${text.slice(0, start)}${head}\n${rule}`,
      rows: new Map(rows.map((row) => [row.split("|")[1]?.trim() ?? "", row])),
      after: text.slice(start + table.join("\n").length),
    };
  }
}
