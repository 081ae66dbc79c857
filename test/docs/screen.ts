/**
 * What a terminal shows after a program has written to it: enough of a terminal for programs that draw lines again in
 * place. Lines do not wrap, because the terminal that the programs are given is wider than what they print.
 */

const SEQUENCE =
  /\u001b\[([0-9;?]*)([A-Za-z])|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[=>78]|[\r\n\b\u0007]|[^\u001b\r\n\b\u0007]+|\u001b/g;

const ESCAPE = "\u001b";
const BELL = "\u0007";

/** The lines of the screen, without trailing spaces. */
export function screenOf(output: string): string[] {
  const lines: string[] = [""];
  let row = 0;
  let column = 0;
  const put = (text: string): void => {
    const line = (lines[row] ?? "").padEnd(column);
    lines[row] = line.slice(0, column) + text + line.slice(column + text.length);
    column += text.length;
  };
  for (const [text, parameters, letter] of output.matchAll(SEQUENCE)) {
    if (text === "\r") column = 0;
    else if (text === "\n") {
      row++;
      column = 0;
      lines[row] ??= "";
    } else if (text === "\b") column = Math.max(0, column - 1);
    else if (letter !== undefined) {
      const count = Number.parseInt(parameters ?? "", 10) || 0;
      if (letter === "A") row = Math.max(0, row - Math.max(1, count));
      else if (letter === "B") row += Math.max(1, count);
      else if (letter === "C") column += Math.max(1, count);
      else if (letter === "D") column = Math.max(0, column - Math.max(1, count));
      else if (letter === "G") column = Math.max(1, count) - 1;
      else if (letter === "K") {
        const line = lines[row] ?? "";
        lines[row] = count === 2 ? "" : count === 1 ? " ".repeat(column) + line.slice(column) : line.slice(0, column);
      } else if (letter === "J" && count === 0) {
        lines[row] = (lines[row] ?? "").slice(0, column);
        lines.length = row + 1;
      }
      while (lines.length <= row) lines.push("");
    } else if (!text.startsWith(ESCAPE) && text !== BELL) put(text);
  }
  return lines.map((line) => line.trimEnd());
}
