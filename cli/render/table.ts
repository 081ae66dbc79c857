/** Aligned columns under upper-case headers. Cells are made visible here, so no caller can forget it. */
import type { Style, StyleName } from "./style.ts";
import { visible } from "./visible.ts";
import { clip, padEnd, padStart, widthOf } from "./width.ts";

export interface Column<Row> {
  readonly header: string;
  readonly cell: (row: Row) => string | number;
  readonly align?: "left" | "right";
  readonly style?: (row: Row) => StyleName | undefined;
}

export interface TableOptions {
  readonly style: Style;
  /** Columns of the terminal: the last column is cut to fit; null: nothing is cut. */
  readonly columns: number | null;
}

const GAP = "  ";

/** The lines of a table, header first. */
export function tableLines<Row>(columns: readonly Column<Row>[], rows: readonly Row[], options: TableOptions): string[] {
  const texts = rows.map((row) => columns.map((column) => visible(String(column.cell(row)))));
  const widths = columns.map((column, at) =>
    texts.reduce((width, cells) => Math.max(width, widthOf(cells[at] ?? "")), widthOf(column.header)),
  );
  const line = (cells: readonly string[], row: Row | null): string => {
    const padded = cells.map((cell, at) => {
      const column = columns[at];
      const width = widths[at] ?? 0;
      const isLast = at === cells.length - 1;
      const text = column?.align === "right" ? padStart(cell, width) : isLast ? cell : padEnd(cell, width);
      const name = row === null ? undefined : column?.style?.(row);
      return name === undefined ? text : options.style[name](text);
    });
    const joined = padded.join(GAP).trimEnd();
    return options.columns === null ? joined : clip(joined, options.columns);
  };
  return [
    line(
      columns.map((column) => column.header.toUpperCase()),
      null,
    ),
    ...rows.map((row, at) => line(texts[at] ?? [], row)),
  ];
}
