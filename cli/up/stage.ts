/** What `berth up` is at, while nothing else moves on the screen. */
import { seconds } from "../render/amount.ts";
import { Live, spinner } from "../render/live.ts";
import type { Terminal } from "../terminal.ts";
import { line } from "../terminal.ts";

const FRAME_MS = 100;

export class Stage {
  readonly #terminal: Terminal;
  readonly #live: Live | null;
  readonly #timer: NodeJS.Timeout | null;
  readonly #beganMs: number;
  #text = "";

  /** `beganMs` as of performance.now(): the seconds shown count from there. */
  constructor(terminal: Terminal, beganMs: number) {
    this.#terminal = terminal;
    this.#beganMs = beganMs;
    this.#live = terminal.isTty ? new Live(terminal) : null;
    this.#timer = this.#live === null ? null : setInterval(() => this.#draw(), FRAME_MS);
  }

  set(text: string): void {
    this.#text = text;
    this.#draw();
  }

  /** A line that stays. */
  say(text: string): void {
    this.#live?.clear();
    line(this.#terminal, text);
    this.#draw();
  }

  end(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#live?.clear();
    this.#text = "";
  }

  #draw(): void {
    if (this.#live === null || this.#text === "") return;
    const { style } = this.#terminal;
    const nowMs = performance.now();
    this.#live.draw([`${style.accent(spinner(nowMs))} ${this.#text}  ${style.quiet(seconds(nowMs - this.#beganMs))}`]);
  }
}
