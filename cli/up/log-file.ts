/** A log in a file, as lines of JSON: the terminal of `berth up` is for people. */
import { closeSync, openSync, writeSync } from "node:fs";

type Write = (fields: Record<string, unknown>, message: string) => void;
export interface FileLog {
  readonly debug: Write;
  readonly info: Write;
  readonly warn: Write;
  readonly error: Write;
  close(): void;
}

/** Appends; readable by the owner alone, because a log names what runs where. */
export function openLogFile(path: string): FileLog {
  let file: number | null = openSync(path, "a", 0o600);
  const at =
    (level: string): Write =>
    (fields, message) => {
      if (file !== null) writeSync(file, `${JSON.stringify({ level, time: new Date().toISOString(), ...fields, msg: message })}\n`);
    };
  return {
    debug: () => undefined,
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    close: () => {
      if (file !== null) closeSync(file);
      file = null;
    },
  };
}
