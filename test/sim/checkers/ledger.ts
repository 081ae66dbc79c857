/** What an agent's disk holds. */
import type { Machine } from "../machine.ts";

/** A file of the ledger: a line with the checksum of the rest, then JSON. Null: it is not there, or torn. */
export function readSealed(machine: Machine, path: string): unknown {
  const bytes = machine.disk.files.get(path);
  if (bytes === undefined) return null;
  const text = new TextDecoder().decode(bytes);
  try {
    return JSON.parse(text.slice(text.indexOf("\n") + 1));
  } catch {
    return null;
  }
}
