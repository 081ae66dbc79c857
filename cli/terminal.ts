/** What commands print to. Made once from the process; tests make one that remembers. */
import type { Style } from "./render/style.ts";
import { styleFor, wantsColour } from "./render/style.ts";

export interface Terminal {
  readonly style: Style;
  /** Standard output is a terminal: live redraws and clipping make sense. */
  readonly isTty: boolean;
  /** Somebody can answer a question. */
  readonly canAsk: boolean;
  readonly columns: number;
  readonly rows: number;
  out(text: string): void;
  err(text: string): void;
}

export function processTerminal(env: Readonly<Record<string, string | undefined>>): Terminal {
  const isTty = process.stdout.isTTY === true && env["TERM"] !== "dumb";
  return {
    style: styleFor(wantsColour(isTty, env)),
    isTty,
    canAsk: isTty && process.stdin.isTTY === true,
    get columns() {
      return process.stdout.columns ?? 80;
    },
    get rows() {
      return process.stdout.rows ?? 24;
    },
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  };
}

export const line = (terminal: Terminal, text = ""): void => terminal.out(`${text}\n`);
