/**
 * The database in this process: one libSQL file, one connection, one queue.
 *
 * - One connection, because pragmas and locks belong to connections: the pool of 20 that the client makes by itself
 *   answers BUSY to its own siblings.
 * - Nothing waits inside SQLite: its busy wait is synchronous and would hold up every poll. A BUSY (a backup tool or a
 *   shell holds the file) is answered by waiting outside and trying again, after `reconnect()`, since a client that
 *   has once been refused fails at every later commit ("SQL statements in progress").
 * - The file is locked against other servers by the operating system, so a crash leaves no stale lock behind.
 */
import { closeSync, existsSync, mkdirSync, openSync, readSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { createClient, type InStatement, LibsqlError } from "@libsql/client";
import type { Database, SqlResult } from "../ports.ts";
import { Connection } from "./connection.ts";

/** Waits after BUSY: 5 ms doubling to 200 ms, 10 s in all. A backup holds a write lock for less; then it is a fault. */
const BUSY_WAIT_FIRST_MS = 5;
const BUSY_WAIT_MAX_MS = 200;
const BUSY_GIVE_UP_MS = 10_000;
/** Longest run of synchronous database work before the event loop gets a turn. */
const TURN_MS = 10;

export class DatabaseInUseError extends Error {
  override readonly name = "DatabaseInUseError";
  readonly code = "DATABASE_IN_USE";
  readonly path: string;
  readonly pid: number | null;
  constructor(path: string, pid: number | null) {
    const holder = pid === null ? "another process" : `process ${pid}`;
    const mend = pid === null ? "Stop the other server" : `Stop that server (kill ${pid})`;
    super(`${path} is in use by ${holder}. ${mend}, or start this one with another data folder.`);
    this.path = path;
    this.pid = pid;
  }
}

export class DatabaseBusyError extends Error {
  override readonly name = "DatabaseBusyError";
  readonly code = "DATABASE_BUSY";
  constructor(path: string, cause: unknown) {
    super(
      `${path} has been locked by another process for ${BUSY_GIVE_UP_MS / 1000} s; nothing was written. Stop what reads or copies it (fuser ${path} names it).`,
      { cause },
    );
  }
}

type Unlock = () => Promise<void>;

/** Files that this process holds. */
const heldHere = new Set<string>();

/** Opens or makes the file. Throws DatabaseInUseError while another server has it. */
export function openDatabaseFile(path: string): Promise<EmbeddedDatabase> {
  const asked = resolve(path);
  mkdirSync(dirname(asked), { recursive: true, mode: 0o700 });
  // By its real name: through a link the lock would be another file than the other server's.
  const file = existsSync(asked) ? realpathSync(asked) : join(realpathSync(dirname(asked)), basename(asked));
  return lockFile(file).then((unlock) => EmbeddedDatabase.open(file, unlock));
}

/** A database that lives as long as the object: for tests and dry runs. */
export function openDatabaseInMemory(): Promise<EmbeddedDatabase> {
  return EmbeddedDatabase.open(":memory:", async () => {});
}

export class EmbeddedDatabase implements Database {
  readonly path: string;
  #connection: Connection;
  readonly #unlock: Unlock;
  #last: Promise<unknown> = Promise.resolve();
  #turnStartedMs = 0;
  #isConfigured = false;
  #isClosed = false;

  private constructor(path: string, unlock: Unlock) {
    this.path = path;
    this.#unlock = unlock;
    this.#connection = new Connection(path);
  }

  /** @internal use the two functions above */
  static async open(path: string, unlock: Unlock): Promise<EmbeddedDatabase> {
    try {
      const database = new EmbeddedDatabase(path, unlock);
      await database.read(["select 1"]);
      return database;
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  read(statements: InStatement[]): Promise<SqlResult[]> {
    return this.#enqueue(() => this.#connection.batch(statements, "read"));
  }

  write(statements: InStatement[]): Promise<SqlResult[]> {
    return this.#enqueue(() => this.#connection.batch(statements, "write"));
  }

  reconnect(): void {
    // The memory of an in-memory database is its connection; with only one there is nobody to be refused by.
    if (this.path === ":memory:") return;
    // In this order: where none can be opened now, there is still one to try again with.
    const next = new Connection(this.path);
    this.#connection.close();
    this.#connection = next;
    this.#isConfigured = false;
  }

  /** After the work that is queued; later calls reject. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    const last = this.#last;
    this.#isClosed = true;
    await last;
    // Closing alone leaves the log beside the file; a copy of the file would then lack what was written last.
    // Where that fails (somebody reads the file), the log is whole and the next start takes it in: nothing is lost.
    if (this.path !== ":memory:") this.#checkpoint();
    this.#connection.close();
    await this.#unlock();
  }

  #checkpoint(): void {
    try {
      this.#connection.execute("pragma wal_checkpoint(truncate)");
    } catch (error) {
      if (!(error instanceof LibsqlError)) throw error;
    }
  }

  #enqueue(run: () => SqlResult[]): Promise<SqlResult[]> {
    if (this.#isClosed) return Promise.reject(new LibsqlError("The database is closed", "CLIENT_CLOSED"));
    const result = this.#last.then(() => this.#run(run));
    this.#last = result.then(
      () => this.#yieldTurn(),
      () => this.#yieldTurn(),
    );
    return result;
  }

  async #run(run: () => SqlResult[]): Promise<SqlResult[]> {
    const deadlineMs = performance.now() + BUSY_GIVE_UP_MS;
    for (let waitMs = BUSY_WAIT_FIRST_MS; ; waitMs = Math.min(waitMs * 2, BUSY_WAIT_MAX_MS)) {
      try {
        if (!this.#isConfigured) this.#configure();
        return run();
      } catch (error) {
        if (!isBusy(error)) throw error;
        this.reconnect();
        if (performance.now() + waitMs > deadlineMs) throw new DatabaseBusyError(this.path, error);
        await sleep(waitMs);
      }
    }
  }

  /** Pragmas of the connection: once for each one that is opened. WAL is the file's, and stays. */
  #configure(): void {
    if (this.path !== ":memory:") this.#connection.execute("pragma journal_mode = wal");
    this.#connection.execute("pragma synchronous = full");
    this.#connection.execute("pragma foreign_keys = on");
    // 64 MiB of page cache: the indexes of 100,000 replicas stay in memory.
    this.#connection.execute("pragma cache_size = -65536");
    // A checkpoint every 32 MiB of log instead of every 4: a plan of 50,000 placements writes 100 MiB, and each
    // checkpoint waits for the disk twice (measured: 1.3 times the rate).
    this.#connection.execute("pragma wal_autocheckpoint = 8192");
    this.#isConfigured = true;
  }

  async #yieldTurn(): Promise<void> {
    if (performance.now() - this.#turnStartedMs < TURN_MS) return;
    await new Promise((resume) => setImmediate(resume));
    this.#turnStartedMs = performance.now();
  }
}

const isBusy = (error: unknown): boolean =>
  error instanceof LibsqlError && (error.code === "SQLITE_BUSY" || error.code === "SQLITE_LOCKED");

/**
 * Holds `<file>.lock`, itself a tiny SQLite file, under an exclusive lock of the operating system until this process
 * ends. Its `user_version` is the holder's pid, for the message to whoever comes second.
 */
async function lockFile(file: string): Promise<Unlock> {
  const path = `${file}.lock`;
  // Asked first, and not only to be quick: opening and closing the lock file here would let go of our own lock.
  if (heldHere.has(file)) throw new DatabaseInUseError(file, process.pid);
  const lock = createClient({ url: pathToFileURL(path).href, concurrency: 1, timeout: 0 });
  try {
    await lock.execute("pragma journal_mode = memory");
    await lock.execute("pragma locking_mode = exclusive");
    await lock.batch([`pragma user_version = ${Math.trunc(process.pid)}`], "write");
  } catch (error) {
    lock.close();
    if (isBusy(error)) throw new DatabaseInUseError(file, holderPid(path));
    throw error;
  }
  heldHere.add(file);
  return async () => {
    // Closing alone would let go only when the engine's statements are garbage: ask for it.
    await lock.execute("pragma locking_mode = normal");
    await lock.execute("select count(*) from sqlite_master");
    lock.close();
    heldHere.delete(file);
  };
}

/** `user_version` from the file's header (offset 60), since a locked file cannot be asked. */
function holderPid(path: string): number | null {
  const bytes = Buffer.alloc(4);
  const descriptor = openSync(path, "r");
  try {
    const isWhole = readSync(descriptor, bytes, 0, 4, 60) === 4;
    const pid = bytes.readInt32BE(0);
    return isWhole && pid > 0 ? pid : null;
  } finally {
    closeSync(descriptor);
  }
}
