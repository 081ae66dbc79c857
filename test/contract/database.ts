/**
 * What worker/ relies on from a Database, as tests over whatever implements the port: real libSQL
 * (test/store/database-contract.test.ts) and the simulator's (test/sim/database-contract.test.ts).
 *
 * Where they differ and it cannot matter, or cannot be had:
 * - A read lets writes through in both; the store refuses them by their words (`assertSelect`).
 * - The embedded database waits BUSY out by itself; the client alone and the simulated one answer it at once, and the
 *   client then refuses until `reconnect()`. The simulated one is reached anew by each call, as a server is.
 * - In write-ahead mode SQLite is BUSY at begin only. The simulated one is at every place where a server may be.
 * - Calls of one port are carried out in their order by the embedded database, in any order by the simulated one.
 * - The simulated one has a newer SQLite (3.53 against 3.45): SQL that is too new is found by the suite `store`.
 * - Values by name, more values than places, and clock functions other than `unixepoch('subsec')` are refused by the
 *   simulated one; nothing of ours uses them.
 * - Closing is the embedded one's; the port of a simulated process that has ended never answers.
 */
import { type InStatement, LibsqlBatchError, LibsqlError } from "@libsql/client";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { Database, SqlResult } from "../../worker/ports.ts";
import type { Mutation } from "../../worker/store/commit-types.ts";
import { Store } from "../../worker/store/store.ts";
import { IDENTITY, nodeRow } from "../store/rows.ts";

/** Where a call finds the database locked; `read`: a read, at its first step. */
export type BusyAt = "begin" | "step" | "commit" | "read";

export interface DatabaseGround {
  readonly database: Database;
  /** Locked by another from now on, until the returned function. */
  lock(at: BusyAt): Promise<() => Promise<void>>;
  /** What a write does from now on, until the returned function: its answer is lost; it is given up and carried out later. */
  lose(what: "answer" | "late"): () => void;
  /** Until all that was given up has been carried out. */
  later(): Promise<void>;
  /** Null: see above. */
  readonly close: (() => Promise<void>) | null;
}

export interface DatabaseContract {
  make(): Promise<DatabaseGround>;
  readonly busyAt: readonly BusyAt[];
  /** BUSY never comes out: the call waits for the lock. */
  readonly waits: boolean;
  readonly loses: readonly ("answer" | "late")[];
}

const TABLES = [
  "create table p (id integer primary key, name text unique not null, n integer check (n < 10)) strict",
  "create table c (id integer primary key, p integer references p (id) on delete cascade) strict",
  "create table d (id integer primary key, p integer references p (id) deferrable initially deferred) strict",
];

const MISS = "select case when changes() = 7 then 1 else json('cas') end";

export function databaseContract(name: string, { make, busyAt, waits, loses }: DatabaseContract): void {
  describe(`a database: ${name}`, () => {
    let ground: DatabaseGround;
    let database: Database;
    beforeEach(async () => {
      ground = await make();
      ({ database } = ground);
    });
    const plain = () => database.write([...TABLES]);
    const one = async (statement: InStatement): Promise<SqlResult> => (await database.read([statement]))[0]!;
    const value = async (sql: string): Promise<unknown> => (await one(sql)).rows[0]![0];
    const refusal = (work: Promise<unknown>): Promise<LibsqlError> =>
      work.then(
        () => Promise.reject(new Error("was not refused")),
        (error: unknown) => error as LibsqlError,
      );

    describe("one batch", () => {
      beforeEach(plain);

      test("is carried out in order, each statement on what those before it left", async () => {
        const results = await database.write([
          "insert into p (id, name, n) values (1, 'a', 1)",
          "update p set n = n + 1",
          "select n from p",
          "update p set n = n * 3",
          "select n from p",
        ]);
        expect(results.map(({ rows }) => rows[0]?.[0])).toEqual([undefined, undefined, 2, undefined, 6]);
        expect(await value("select n from p")).toBe(6);
      });

      test("leaves nothing when a statement in the middle fails, and hurts nobody after it", async () => {
        const error = await refusal(
          database.write([
            "insert into p (id, name) values (1, 'a')",
            "insert into nope values (1)",
            "insert into p (id, name) values (2, 'b')",
          ]),
        );
        expect(error).toBeInstanceOf(LibsqlBatchError);
        expect(error).toMatchObject({ statementIndex: 1, code: "SQLITE_ERROR", message: expect.stringContaining("no such table: nope") });
        expect(await value("select count(*) from p")).toBe(0);
        await database.write(["insert into p (id, name) values (2, 'b')"]);
        expect(await value("select count(*) from p")).toBe(1);
      });

      test("that ends its own transaction goes no further", async () => {
        expect(await refusal(database.write(["rollback", "insert into p (id, name) values (1, 'a')"]))).toMatchObject({
          statementIndex: 1,
          code: "TRANSACTION_CLOSED",
        });
        expect(await value("select count(*) from p")).toBe(0);
      });

      test("may be empty; a text holds one statement, what follows it is not carried out", async () => {
        expect(await database.write([])).toEqual([]);
        await database.write(["insert into p (id, name) values (1, 'a'); insert into p (id, name) values (2, 'b')"]);
        expect(await value("select count(*) from p")).toBe(1);
      });

      test("that reads sees one view, whatever is written meanwhile", async () => {
        await database.write(["insert into p (id, name, n) values (1, 'a', 0), (2, 'b', 0)"]);
        const writes = Array.from({ length: 20 }, (_, at) => database.write([`update p set n = ${at % 10}`]));
        const reads = Array.from({ length: 20 }, () => database.read(["select n from p where id = 1", "select n from p where id = 2"]));
        for (const [first, second] of await Promise.all(reads)) expect(first!.rows[0]![0]).toBe(second!.rows[0]![0]);
        await Promise.all(writes);
      });
    });

    describe("refuses", () => {
      beforeEach(async () => {
        await plain();
        await database.write(["insert into p (id, name, n) values (1, 'a', 1)"]);
      });

      /** As libSQL says it: the code, SQLite's own number for it, and words that the store looks for. */
      test.each([
        ["a guard that misses", MISS, { code: "SQLITE_ERROR", rawCode: 1, extendedCode: "SQLITE_ERROR" }, "malformed JSON"],
        ["bad syntax", "selec 1", { code: "SQLITE_ERROR", rawCode: 1, extendedCode: "SQLITE_ERROR" }, 'near "selec": syntax error'],
        [
          "a unique value that is taken",
          "insert into p (name) values ('a')",
          { code: "SQLITE_CONSTRAINT", rawCode: 2067, extendedCode: "SQLITE_CONSTRAINT_UNIQUE" },
          "UNIQUE constraint failed: p.name",
        ],
        [
          "a primary key that is taken",
          "insert into p (id, name) values (1, 'b')",
          { code: "SQLITE_CONSTRAINT", rawCode: 1555, extendedCode: "SQLITE_CONSTRAINT_PRIMARYKEY" },
          "UNIQUE constraint failed: p.id",
        ],
        [
          "a row that refers to none",
          "insert into c (p) values (99)",
          { code: "SQLITE_CONSTRAINT", rawCode: 787, extendedCode: "SQLITE_CONSTRAINT_FOREIGNKEY" },
          "FOREIGN KEY constraint failed",
        ],
        [
          "null where there may be none",
          "insert into p (name) values (null)",
          { code: "SQLITE_CONSTRAINT", rawCode: 1299, extendedCode: "SQLITE_CONSTRAINT_NOTNULL" },
          "NOT NULL constraint failed: p.name",
        ],
        [
          "a value that a check forbids",
          "insert into p (name, n) values ('b', 10)",
          { code: "SQLITE_CONSTRAINT", rawCode: 275, extendedCode: "SQLITE_CONSTRAINT_CHECK" },
          "CHECK constraint failed: n < 10",
        ],
        [
          "text in a column of integers",
          "insert into p (name, n) values ('b', 'x')",
          { code: "SQLITE_CONSTRAINT", rawCode: 3091, extendedCode: "UNKNOWN_SQLITE_ERROR_3091" },
          "cannot store TEXT value in INTEGER column p.n",
        ],
      ])("%s, with all that came before it", async (_, sql, shape, words) => {
        const error = await refusal(database.write(["update p set n = 5", sql, "update p set n = 6"]));
        expect(error).toBeInstanceOf(LibsqlBatchError);
        expect(error).toMatchObject({ ...shape, statementIndex: 1, name: "LibsqlBatchError" });
        expect(error.message).toBe(`${shape.code}: ${shape.code}: ${words}`);
        expect(await value("select n from p")).toBe(1);
      });

      test("at commit what was put off until then: of no statement", async () => {
        const error = await refusal(database.write(["insert into d (p) values (99)", "update p set n = 5"]));
        expect(error).not.toBeInstanceOf(LibsqlBatchError);
        expect(error).toBeInstanceOf(LibsqlError);
        expect(error).toMatchObject({ code: "SQLITE_CONSTRAINT", rawCode: 787 });
        expect(await value("select n from p")).toBe(1);
      });

      test.each([
        ["nothing", undefined, TypeError],
        ["no number", Number.NaN, RangeError],
        ["an endless number", Number.POSITIVE_INFINITY, RangeError],
        ["an integer over 64 bits", 2n ** 63n, RangeError],
        ["an object", { a: 1 }, Error],
      ])("to bind %s", async (_, bad, kind) => {
        const error = await refusal(
          database.write(["update p set n = 5", { sql: "update p set name = ?", args: [bad as never] }, "update p set n = 6"]),
        );
        expect(error).toBeInstanceOf(kind);
        expect(error).not.toBeInstanceOf(LibsqlError);
        expect(await value("select n from p")).toBe(1);
      });

      test("to give an integer that no number holds", async () => {
        expect(await refusal(database.read(["select 9007199254740993"]))).toBeInstanceOf(RangeError);
      });
    });

    describe("answers", () => {
      beforeEach(plain);

      test("integers, text, null, blobs, fractions and JSON as what they are", async () => {
        const { rows } = await one(
          "select 1 as i, 'x' as t, null as n, x'0102' as b, 1.5 as f, 2.0 as w, 9007199254740991 as m, json_object('a', 1) as j",
        );
        const row = rows[0]!;
        expect(row[3]).toBeInstanceOf(ArrayBuffer);
        expect([...new Uint8Array(row[3] as ArrayBuffer)]).toEqual([1, 2]);
        expect([0, 1, 2, 4, 5, 6, 7].map((at) => row[at])).toEqual([1, "x", null, 1.5, 2, 9_007_199_254_740_991, '{"a":1}']);
      });

      test("what was bound: numbers as fractions, until a column makes them integers; text up to its first NUL", async () => {
        const typed = (bound: unknown) =>
          one({ sql: "select typeof(?1), ?1", args: [bound as never] }).then(({ rows }) => [rows[0]![0], rows[0]![1]]);
        expect(await typed(1)).toEqual(["real", 1]);
        expect(await typed(5n)).toEqual(["integer", 5]);
        expect(await typed(true)).toEqual(["real", 1]);
        expect(await typed(null)).toEqual(["null", null]);
        expect(await typed("é€😀")).toEqual(["text", "é€😀"]);
        expect(await typed("a\0b")).toEqual(["text", "a"]);
        expect(await typed(new Date(5))).toEqual(["real", 5]);
        const [type, blob] = await typed(new Uint8Array([1, 2, 3]).subarray(1));
        expect([type, ...new Uint8Array(blob as ArrayBuffer)]).toEqual(["blob", 2, 3]);
        await database.write([{ sql: "insert into p (name, n) values (?, ?)", args: ["a", 3] }]);
        expect(await value("select typeof(n) from p")).toBe("integer");
      });

      test("rows by place, with a length; of one name there may be two", async () => {
        const { rows } = await one("select 1 as a, 2 as b, 3 as a");
        expect(rows.map((row) => Array.from(row))).toEqual([[1, 2, 3]]);
      });

      test("how many rows a statement changed: none for one that answers rows, or makes a table", async () => {
        const results = await database.write([
          "insert into p (id, name) values (1, 'a'), (2, 'b'), (3, 'c')",
          "insert into c (id, p) values (1, 1), (2, 1)",
          "update p set n = 1 where id > 1",
          "update p set n = 1 where id = 99",
          "insert into p (id, name) values (1, 'z') on conflict (id) do nothing",
          "insert into p (id, name) values (4, 'd') returning id",
          "select changes()",
          // Rows that go with the one they refer to are not counted.
          "delete from p where id = 1",
          "create table e (id integer)",
          "insert into p (id, name) select value, 'n' || value from json_each('[10,11]') where true",
          "with x as (select 10 as id) delete from p where id in (select id from x)",
        ]);
        expect(results.map(({ rowsAffected }) => rowsAffected)).toEqual([3, 2, 2, 0, 0, 0, 0, 1, 0, 2, 1]);
        expect(await value("select count(*) from c")).toBe(0);
      });

      test("the time as a fraction of seconds, the same for a whole statement", async () => {
        const { rows } = await one("select cast(unixepoch('subsec') * 1000 as integer), typeof(unixepoch('subsec'))");
        expect(rows[0]![0]).toBeGreaterThan(Date.UTC(2020, 0, 1));
        expect(rows[0]![1]).toBe("real");
      });

      test("a statement anew after its table has changed", async () => {
        await database.write(["insert into p (id, name) values (1, 'a')"]);
        expect((await one("select * from p")).rows[0]!.length).toBe(3);
        await database.write(["alter table p add column more text default 'm'"]);
        const { rows } = await one("select * from p");
        expect([rows[0]!.length, rows[0]![3]]).toEqual([4, "m"]);
      });
    });

    describe("under the store", () => {
      let store: Store;
      let operation: Mutation;
      const nodes = () => value("select count(*) from nodes");
      beforeEach(async () => {
        store = await Store.open(database);
        await store.init(IDENTITY);
        operation = {
          opId: `${(await store.marks()).nowMs}-contract`,
          result: { made: 1 },
          changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1)] }],
        };
      });

      test("an operation is carried out once, and told again what came of it", async () => {
        expect(await store.commit(operation)).toMatchObject({ kind: "committed", rev: 2 });
        expect(await store.commit(operation)).toEqual({ kind: "replayed", rev: 2, result: { made: 1 } });
        expect(await nodes()).toBe(1);
      });

      test("a guard, a taken name and a row that is gone are conflicts; the rev stays", async () => {
        await store.commit(operation);
        const kinds = [
          await store.commit({ guards: [{ table: "nodes", key: { id: nodeRow(1).id }, rev: 1 }], changes: [] }),
          await store.commit({ changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1)] }] }),
          await store.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: nodeRow(2).id, status: "lost" }] }] }),
        ];
        expect(kinds.map((result) => result.kind === "conflict" && result.what)).toEqual(["guard", "unique", "guard"]);
        expect((await store.marks()).rev).toBe(2);
      });

      for (const at of busyAt.filter((place) => place !== "read"))
        test(`BUSY at ${at}: ${waits ? "waited for" : "nothing is there, and again"}, it takes effect once`, async () => {
          const release = await ground.lock(at);
          onTestFinished(release);
          const first = store.commit(operation);
          if (waits) {
            for (let turns = 0; turns < 20; turns++) await new Promise((resume) => setImmediate(resume));
            await release();
            expect(await first).toMatchObject({ kind: "committed", rev: 2 });
          } else {
            const error = await refusal(first);
            expect(error).toMatchObject({ code: "SQLITE_BUSY", extendedCode: "SQLITE_BUSY", rawCode: 5 });
            expect(error.message).toContain("database is locked");
            // Of a statement only where one found the lock: the store takes an index for the statement's own refusal.
            expect(error instanceof LibsqlBatchError).toBe(at === "step");
            await release();
            database.reconnect();
            expect([await nodes(), (await store.marks()).rev]).toEqual([0, 1]);
          }
          expect((await store.commit(operation)).kind).toBe(waits ? "replayed" : "committed");
          expect([await nodes(), (await store.marks()).rev]).toEqual([1, 2]);
        });

      if (busyAt.includes("read"))
        test("BUSY at a read's first step: refused, and answered again", async () => {
          const release = await ground.lock("read");
          onTestFinished(release);
          const error = await refusal(store.readRaw(["select 1", "select 2"]));
          expect(error).toMatchObject({ code: "SQLITE_BUSY", rawCode: 5, statementIndex: 0 });
          await release();
          database.reconnect();
          expect((await store.marks()).rev).toBe(1);
        });

      for (const what of loses)
        test(`${what === "answer" ? "an answer that is lost" : "a write that is given up and comes late"}: the commit is there, once, and the same operation finds it`, async () => {
          const mend = ground.lose(what);
          const error = await refusal(store.commit(operation));
          expect(error).not.toBeInstanceOf(LibsqlBatchError);
          mend();
          if (what === "late") {
            expect(await nodes()).toBe(0);
            await ground.later();
          }
          expect([await nodes(), (await store.marks()).rev]).toEqual([1, 2]);
          expect(await store.commit(operation)).toEqual({ kind: "replayed", rev: 2, result: { made: 1 } });
          // Nor is a refusal heard.
          const again = ground.lose(what);
          expect(await refusal(store.commit({ changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1)] }] }))).not.toHaveProperty(
            "kind",
          );
          again();
          await ground.later();
          expect([await nodes(), (await store.marks()).rev]).toEqual([1, 2]);
        });

      if (loses.includes("late"))
        test("tried again before it comes, the operation is carried out once", async () => {
          const mend = ground.lose("late");
          await refusal(store.commit(operation));
          mend();
          expect(await store.commit(operation)).toMatchObject({ kind: "committed", rev: 2 });
          await ground.later();
          expect([await nodes(), (await store.marks()).rev]).toEqual([1, 2]);
        });
    });

    test("closed, it refuses, or never answers where there is nobody to refuse", async () => {
      const { close } = ground;
      if (close === null) return;
      await close();
      expect(await refusal(database.read(["select 1"]))).toMatchObject({ code: "CLIENT_CLOSED" });
      expect(await refusal(database.write(["select 1"]))).toMatchObject({ code: "CLIENT_CLOSED" });
    });
  });
}
