/** How many columns text takes on a terminal. */

/** East Asian wide and full-width ranges and the pictographs that terminals draw over two columns. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const ZERO = /\p{Mark}|\u200b|\u200d|\ufe0f/u;
export const ESCAPE = "\u001b";
const STYLE = new RegExp(`${ESCAPE}\\[[0-9;]*m`, "g");
const PIECES = new RegExp(`${ESCAPE}\\[[0-9;]*m|.`, "gsu");
const ASCII = /^[\u0020-\u007e]*$/;

/** Columns of `text`; our own colour sequences take none. */
export function widthOf(text: string): number {
  const bare = text.includes("\u001b") ? text.replace(STYLE, "") : text;
  if (ASCII.test(bare)) return bare.length;
  let width = 0;
  for (const character of bare) if (!ZERO.test(character)) width += WIDE.test(character) ? 2 : 1;
  return width;
}

export const padEnd = (text: string, width: number): string => text + " ".repeat(Math.max(0, width - widthOf(text)));
export const padStart = (text: string, width: number): string => " ".repeat(Math.max(0, width - widthOf(text))) + text;

/** `text` in at most `width` columns, ending in "…" where it was cut. Colour sequences are kept and closed. */
export function clip(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  if (width <= 0) return "";
  let out = "";
  let used = 0;
  let styled = false;
  for (const [piece] of text.matchAll(PIECES)) {
    if (piece.startsWith("\u001b")) {
      styled = true;
      out += piece;
      continue;
    }
    const next = widthOf(piece);
    if (used + next > width - 1) break;
    out += piece;
    used += next;
  }
  return `${out}…${styled ? "\u001b[0m" : ""}`;
}
