/** Real libSQL under the contract: the embedded database, and the client alone for the locks that write-ahead mode never shows. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createClient, LibsqlError } from "@libsql/client";
import { onTestFinished } from "vitest";
import type { Database } from "../../worker/ports.ts";
import { openDatabaseFile, openDatabaseInMemory } from "../../worker/store/database-embedded.ts";
import { type BusyAt, databaseContract, type DatabaseGround } from "../contract/database.ts";
import { temporaryFolder } from "./fixtures.ts";

/** Another program with the same file, until it is ended. */
async function stranger(path: string, sql: string): Promise<() => Promise<void>> {
  const script = `const { DatabaseSync } = require("node:sqlite"); const held = new DatabaseSync(process.argv[1]); held.exec(process.argv[2]); console.log("held"); setInterval(() => held, 1e6)`;
  const program = spawn(process.execPath, ["-e", script, path, sql], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(program, "exit");
  await once(program.stdout, "data");
  return async () => {
    program.kill("SIGKILL");
    await ended;
  };
}

/** A writer holds up writers; a reader, without a write-ahead log, the commit of another; one that is committing, everybody. */
const HOLDS: Readonly<Record<BusyAt, string>> = {
  begin: "begin immediate",
  step: "",
  commit: "begin; select count(*) from sqlite_master",
  read: "begin exclusive",
};

const never = (): never => {
  throw new Error("cannot be had here");
};

/** As a server that dies after a commit: what came of a write reaches nobody. */
function deaf(database: Database): Pick<DatabaseGround, "database" | "lose"> {
  let isLost = false;
  return {
    database: {
      read: (statements) => database.read(statements),
      reconnect: () => database.reconnect(),
      write: async (statements) => {
        const answer = await database.write(statements).catch((error: unknown) => {
          if (isLost) return null;
          throw error;
        });
        if (isLost || answer === null) throw new LibsqlError("fetch failed", "LOST");
        return answer;
      },
    },
    lose: () => {
      isLost = true;
      return () => {
        isLost = false;
      };
    },
  };
}

databaseContract("libSQL embedded, a file", {
  busyAt: ["begin"],
  waits: true,
  loses: ["answer"],
  make: async () => {
    const path = join(temporaryFolder(), "berth.db");
    const database = await openDatabaseFile(path);
    onTestFinished(() => database.close());
    return {
      ...deaf(database),
      lock: (at) => stranger(path, HOLDS[at]),
      later: async () => {},
      close: () => database.close(),
    };
  },
});

databaseContract("libSQL embedded, in memory", {
  busyAt: [],
  waits: true,
  loses: ["answer"],
  make: async () => {
    const database = await openDatabaseInMemory();
    onTestFinished(() => database.close());
    return { ...deaf(database), lock: never, later: async () => {}, close: () => database.close() };
  },
});

databaseContract("the libSQL client alone, with a rollback journal", {
  busyAt: ["begin", "commit", "read"],
  waits: false,
  loses: ["answer"],
  make: async () => {
    const path = join(temporaryFolder(), "berth.db");
    // Foreign keys are on, and the journal is one that is rolled back, unless the client is told otherwise.
    const open = (file: string) => createClient({ url: pathToFileURL(file).href, concurrency: 1, timeout: 0 });
    let client = open(path);
    onTestFinished(() => client.close());
    const database: Database = {
      read: (statements) => client.batch(statements, "read"),
      write: (statements) => client.batch(statements, "write"),
      reconnect: () => {
        // What is left of a refused commit locks the file until the process ends. Its copy is what the next one finds.
        client.close();
        copyFileSync(path, `${path}.next`);
        client = open(`${path}.next`);
      },
    };
    return {
      ...deaf(database),
      lock: (at) => stranger(path, HOLDS[at]),
      later: async () => {},
      close: async () => client.close(),
    };
  },
});
