/** A log in a file, as lines of JSON: the terminal of `berth up` is for people. */
import { closeSync, existsSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";

type Write = (fields: Record<string, unknown>, message: string) => void;
export interface FileLog {
  readonly debug: Write;
  readonly info: Write;
  readonly warn: Write;
  readonly error: Write;
  close(): void;
}

/** About 50,000 lines; with the previous file, the most that a log takes of a disk is twice this. */
const BYTES_MAX = 10 * 1024 * 1024;
const PREVIOUS_SUFFIX = ".1";

/**
 * Appends; readable by the owner alone, because a log names what runs where. A file that is full becomes the previous
 * one. A line that cannot be written, as on a full disk, is dropped: whoever logs has better things to do than fail.
 */
export function openLogFile(path: string, bytesMax: number = BYTES_MAX): FileLog {
  let file: number | null = openSync(path, "a", 0o600);
  let bytes = fstatSync(file).size;
  const rotate = (held: number): number => {
    // It is gone when the disk had no room for the new one last time.
    if (existsSync(path)) renameSync(path, `${path}${PREVIOUS_SUFFIX}`);
    const fresh = openSync(path, "a", 0o600);
    closeSync(held);
    bytes = 0;
    return fresh;
  };
  const at =
    (level: string): Write =>
    (fields, message) => {
      if (file === null) return;
      try {
        const line = `${JSON.stringify({ level, time: new Date().toISOString(), ...fields, msg: message })}\n`;
        if (bytes > 0 && bytes + Buffer.byteLength(line) > bytesMax) file = rotate(file);
        bytes += writeSync(file, line);
      } catch {
        // There is nowhere left to say it.
      }
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
