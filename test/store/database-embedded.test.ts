import { spawnSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createClient } from "@libsql/client";
import { expect, onTestFinished, test } from "vitest";
import { DatabaseInUseError, openDatabaseFile } from "../../worker/store/database-embedded.ts";
import { nodes } from "../../worker/store/schema.ts";
import { Store } from "../../worker/store/store.ts";
import { fileStore, must, nodeRow, temporaryFolder } from "./fixtures.ts";

/** Another program with the same file: a backup tool, a shell. */
function stranger(path: string) {
  const client = createClient({ url: pathToFileURL(path).href, concurrency: 1 });
  onTestFinished(() => client.close());
  return client;
}

const insert = (number: number) => ({ changes: [{ op: "insert", table: "nodes", rows: [nodeRow(number)] }] }) as const;

test("what every connection is set to", async () => {
  const { database } = await fileStore();
  const settings = async () => {
    const pragmas = ["journal_mode", "synchronous", "foreign_keys", "busy_timeout", "cache_size", "wal_autocheckpoint"];
    return (await database.read(pragmas.map((name) => `pragma ${name}`))).map(({ rows }) => rows[0]![0]);
  };
  expect(await settings()).toEqual(["wal", 2, 1, 0, -65536, 8192]);
  database.reconnect();
  expect(await settings()).toEqual(["wal", 2, 1, 0, -65536, 8192]);
});

test("a write while another program holds the lock waits without blocking, and then commits (F37)", async () => {
  const { store, path } = await fileStore();
  const other = stranger(path);
  const held = await other.transaction("write");
  await held.execute("update cluster set rev = rev");
  let settled = 0;
  const writes = [1, 2, 3].map((number) => must(store, insert(number)).finally(() => settled++));
  // The loop turns while they wait.
  for (let turns = 0; turns < 50; turns++) await new Promise((resume) => setImmediate(resume));
  expect(settled).toBe(0);
  await held.commit();
  expect((await Promise.all(writes)).map(({ rev }) => rev)).toEqual([2, 3, 4]);
  // The connection is not poisoned: reads and writes go on.
  await must(store, insert(4));
  expect(await store.db.$count(nodes)).toBe(4);
});

test("reads go on while another program holds the lock", async () => {
  const { store, path } = await fileStore();
  await must(store, insert(1));
  const held = await stranger(path).transaction("write");
  onTestFinished(() => held.close());
  await held.execute("delete from nodes");
  expect(await store.db.$count(nodes)).toBe(1);
});

test("a second server is refused, in the same process and in another, until the first has closed", async () => {
  const path = join(temporaryFolder(), "berth.db");
  const database = await openDatabaseFile(path);
  await expect(openDatabaseFile(path)).rejects.toThrow(DatabaseInUseError);
  // Nor by another name.
  symlinkSync(path, `${path}.link`);
  await expect(openDatabaseFile(`${path}.link`)).rejects.toThrow(DatabaseInUseError);
  // Neither of them has let go of our lock by being refused.
  const second = () => {
    const module = new URL("../../worker/store/database-embedded.ts", import.meta.url).href;
    const script = `const { openDatabaseFile } = await import(${JSON.stringify(module)}); try { await openDatabaseFile(${JSON.stringify(path)}); console.log("opened") } catch (error) { console.log(error.code, error.message) }`;
    return spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" }).stdout.trim();
  };
  expect(second()).toBe(
    `DATABASE_IN_USE ${path} is in use by process ${process.pid}. Stop that server (kill ${process.pid}), or start this one with another data folder.`,
  );
  await database.close();
  expect(second()).toBe("opened");
});

test("closing waits for the queue; later calls are refused", async () => {
  const { store, database, path } = await fileStore();
  const writes = Promise.all([1, 2, 3].map((number) => must(store, insert(number))));
  await database.close();
  await writes;
  await expect(store.marks()).rejects.toThrow("closed");
  const again = await openDatabaseFile(path);
  onTestFinished(() => again.close());
  expect(await (await Store.open(again)).db.$count(nodes)).toBe(3);
});

test("a batch that fails leaves nothing of itself and hurts nobody after it", async () => {
  const { database } = await fileStore();
  await expect(database.write(["update cluster set rev = 99", "select json('cas')"])).rejects.toMatchObject({ statementIndex: 1 });
  expect((await database.read(["select rev from cluster"]))[0]!.rows[0]![0]).toBe(1);
});
