/**
 * A block of lines that is drawn again in place. Frames are cut to the terminal: a line that wraps, or a block taller
 * than the screen, could not be erased by moving up over it.
 */
import type { Terminal } from "../terminal.ts";
import { clip } from "./width.ts";

export class Live {
  readonly #terminal: Terminal;
  #drawn: readonly string[] = [];
  #isHidden = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Replaces the block. Nothing is written when nothing changed. */
  draw(lines: readonly string[]): void {
    const rowsMax = Math.max(1, this.#terminal.rows - 1);
    const cut = lines.length > rowsMax ? [...lines.slice(0, rowsMax - 1), `… and ${lines.length - rowsMax + 1} more`] : lines;
    const frame = cut.map((line) => clip(line, this.#terminal.columns - 1));
    if (frame.length === this.#drawn.length && frame.every((line, at) => line === this.#drawn[at])) return;
    const hide = this.#isHidden ? "" : "\u001b[?25l";
    this.#isHidden = true;
    this.#terminal.out(`${hide}${this.#erase()}${frame.map((line) => `${line}\n`).join("")}`);
    this.#drawn = frame;
  }

  /** Removes the block and gives the cursor back. */
  clear(): void {
    if (!this.#isHidden) return;
    this.#terminal.out(`${this.#erase()}\u001b[?25h`);
    this.#drawn = [];
    this.#isHidden = false;
  }

  /** Leaves the block as it stands, with these lines in it, and gives the cursor back. */
  finish(lines: readonly string[]): void {
    this.clear();
    for (const line of lines) this.#terminal.out(`${line}\n`);
  }

  #erase(): string {
    return this.#drawn.length === 0 ? "" : `\u001b[${this.#drawn.length}A\u001b[J`;
  }
}

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"] as const;
/** The spinner's picture at a time. */
export const spinner = (nowMs: number): string => FRAMES[Math.floor(nowMs / 100) % FRAMES.length] ?? "·";
