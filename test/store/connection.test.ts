/** What keeping prepared statements must not change, and that they are kept. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Libsql from "libsql";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Connection } from "../../worker/store/connection.ts";

let folder: string;
let connection: Connection;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "berth-connection-"));
  connection = new Connection(join(folder, "db"));
  connection.execute("create table t (a, b)");
});
afterEach(() => {
  connection.close();
  rmSync(folder, { recursive: true, force: true });
});

const prepared = () => vi.spyOn(Libsql.prototype as { prepare(sql: string): unknown }, "prepare");

test("a statement is prepared once, inside transactions and outside", () => {
  const spy = prepared();
  const insert = { sql: "insert into t values (?, ?)", args: [1, 2] };
  for (let count = 0; count < 3; count++) connection.batch([insert, "select count(*) from t"], "write");
  expect(spy.mock.calls.map(([sql]) => sql)).toEqual(["BEGIN IMMEDIATE", insert.sql, "select count(*) from t", "COMMIT"]);
  expect(connection.execute("select count(*) from t").rows).toEqual([[3]]);
  expect(spy).toHaveBeenCalledTimes(4);
});

test("of many statements those that were used last are kept", () => {
  const spy = prepared();
  const select = (number: number) => connection.execute(`select ${number}`);
  for (let number = 0; number < 500; number++) select(number);
  select(0);
  select(500);
  spy.mockClear();
  select(0);
  expect(spy).not.toHaveBeenCalled();
  select(1);
  expect(spy).toHaveBeenCalledTimes(1);
});

test("a statement that was refused runs again", () => {
  connection.execute("create unique index u on t (a)");
  const insert = (value: number) => connection.execute({ sql: "insert into t values (?, 0) returning a", args: [value] });
  expect(insert(1).rows).toEqual([[1]]);
  expect(() => insert(1)).toThrow(/UNIQUE/);
  expect(insert(2).rows).toEqual([[2]]);
});

test("one that found the file locked runs when it is free", () => {
  const other = new Connection(join(folder, "db"));
  other.execute("BEGIN IMMEDIATE");
  const insert = { sql: "insert into t values (?, ?)", args: [1, 2] };
  for (let count = 0; count < 2; count++)
    expect(() => connection.batch([insert], "write")).toThrow(expect.objectContaining({ code: "SQLITE_BUSY" }));
  other.execute("ROLLBACK");
  other.close();
  connection.batch([insert], "write");
  expect(connection.execute("select * from t").rows).toEqual([[1, 2]]);
});

test("what was bound before is not bound to a later run that gives less", () => {
  const select = (args: number[]) => connection.execute({ sql: "select ?1, ?2", args }).rows;
  expect(select([1, 2])).toEqual([[1, 2]]);
  expect(select([3])).toEqual([[3, null]]);
  const named = (args: Record<string, number>) => connection.execute({ sql: "select :a, :b", args }).rows;
  expect(named({ a: 1, b: 2 })).toEqual([[1, 2]]);
  expect(named({ b: 3 })).toEqual([[null, 3]]);
});
