/** A secret as it is typed: a line that is shown nowhere. */
import type { EventEmitter } from "node:events";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as sleep } from "node:timers/promises";

/** What reading it needs of a terminal. */
export interface SecretInput extends EventEmitter {
  setRawMode(isRaw: boolean): unknown;
  resume(): unknown;
  pause(): unknown;
}

/** `ended`: by Enter, by Ctrl-D or with the input; `interrupted`: by Ctrl-C. */
export interface SecretTyped {
  readonly how: "ended" | "interrupted";
  readonly secret: string;
}

const ESCAPE = "\u001b";
/** What a key that is no character, like an arrow, may have sent before its last character. */
const UNFINISHED = new RegExp(`^${ESCAPE}(?:O|\\[(?:\\[|[0-?]*[ -/]*))?$`);

class SecretLine {
  readonly #characters: string[] = [];
  /** Of a key that is no character: what has come of it. */
  #key = "";

  /** Takes what was typed, in pieces of any length; null until one of them ends the line. What comes after its end is no part of it. */
  take(text: string): SecretTyped | null {
    for (const character of text) {
      if (/\p{Cc}/u.test(character)) {
        this.#key = character === ESCAPE ? ESCAPE : "";
        if ("\r\n\u0004".includes(character)) return this.end("ended");
        if (character === "\u0003") return this.end("interrupted");
        if ("\b\u007f".includes(character)) this.#characters.pop();
      } else if (this.#key === "" || (this.#key === ESCAPE && !/[[O]/.test(character))) {
        this.#key = "";
        this.#characters.push(character);
      } else {
        this.#key = UNFINISHED.test(this.#key + character) ? this.#key + character : "";
      }
    }
    return null;
  }

  end(how: SecretTyped["how"]): SecretTyped {
    return { how, secret: this.#characters.join("") };
  }
}

/** The rest of a paste of several lines comes within this of what was before it. */
const QUIET_MS = 50;
/** A key that is held down must not hold the command. */
const QUIET_WAIT_MS = 1_000;

export async function readSecretLine(input: SecretInput): Promise<SecretTyped> {
  const line = new SecretLine();
  const decoder = new StringDecoder("utf8");
  let isQuiet = true;
  let take: (chunk: Buffer) => void = () => undefined;
  let end: () => void = () => undefined;
  input.setRawMode(true);
  try {
    const typed = await new Promise<SecretTyped>((resolve) => {
      take = (chunk) => {
        isQuiet = false;
        const ended = line.take(decoder.write(chunk));
        if (ended !== null) resolve(ended);
      };
      end = () => resolve(line.end("ended"));
      input.on("data", take).once("end", end).resume();
    });
    // What is left of a paste would be read by whoever has the terminal next: a shell, which would run it.
    for (const untilMs = performance.now() + QUIET_WAIT_MS; !isQuiet && performance.now() < untilMs; ) {
      isQuiet = true;
      await sleep(QUIET_MS);
    }
    return typed;
  } finally {
    input.setRawMode(false);
    input.off("data", take).off("end", end).pause();
  }
}
