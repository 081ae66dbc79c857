/**
 * One agent a data directory: two would take the session from each other and look like a cloned machine. The lock is
 * the kernel's lock on a file inside the directory, which is closed to other users; it goes with its process however
 * that ends, and holds for processes in other namespaces that share the directory. SQLite takes it: Node itself has no
 * call for one.
 */
import { truncateSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { pause } from "./pause.ts";
import type { Clock } from "./ports.ts";

const LOCK_FILE = "lock";
const SQLITE_BUSY = 5;
const SQLITE_NOTADB = 26;
/** An agent that is being replaced takes a moment to let go. */
const PATIENCE_MS = 5_000;
const RETRY_MS = 50;

/** Gives the way to let go; null: another agent has it. */
export async function lockDirectory(dir: string, clock: Clock): Promise<(() => void) | null> {
  const file = join(dir, LOCK_FILE);
  const deadlineMs = clock.bootMs() + PATIENCE_MS;
  for (;;) {
    const held = take(file);
    if (held !== null) return () => held.isOpen && held.close();
    if (clock.bootMs() >= deadlineMs) return null;
    await pause(clock, RETRY_MS, new AbortController().signal);
  }
}

function take(file: string): DatabaseSync | null {
  const database = new DatabaseSync(file);
  try {
    // Nothing is ever written: the lock is all there is to it.
    database.exec("pragma journal_mode = off; pragma locking_mode = exclusive; begin exclusive");
    return database;
  } catch (error) {
    database.close();
    const { errcode } = error as { errcode?: number };
    // Rubbish that a broken disk left: there was nothing in it to keep.
    if (errcode === SQLITE_NOTADB) truncateSync(file);
    else if (errcode !== SQLITE_BUSY) throw error;
    return null;
  }
}
