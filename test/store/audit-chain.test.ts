import { describe, expect, test } from "vitest";
import { verifyChain } from "../../shared/audit/chain.ts";
import { chainStatements, nextChainStep, readAudit } from "../../worker/store/audit-chain.ts";
import type { Store } from "../../worker/store/store.ts";
import { memoryStore, must } from "./fixtures.ts";

const write = async (store: Store, count: number): Promise<void> => {
  for (let i = 0; i < count; i++)
    await must(store, {
      changes: [],
      audit: { actor: "t_1", verb: "put", namespace: null, object: "app/x", detail: `${i} "é" \u{1f6a2}` },
    });
};
const chainOnce = async (store: Store): Promise<boolean> => {
  const step = await nextChainStep(store);
  if (step === null) return false;
  await store.tick(chainStatements(step, `signed ${step.to.rev}`));
  return step.more;
};
const log = async (store: Store) => {
  const { rows, head } = await readAudit(store, 0);
  return { rows, head: head && { rev: head.upToRev, rows: head.rowCount, hash: head.hash, signed: head.signed } };
};

describe("the audit log", () => {
  test("is chained by ticks, from where the last one ended", async () => {
    const { store } = await memoryStore();
    expect(await nextChainStep(store)).toBeNull();
    await write(store, 3);
    expect(verifyChain(...(await args(store)))).toEqual({ kind: "intact", rows: 0, waiting: 3 });
    const { rev } = await store.marks();
    expect(await chainOnce(store)).toBe(false);
    expect(await nextChainStep(store)).toBeNull();
    await write(store, 2);
    expect(verifyChain(...(await args(store)))).toEqual({ kind: "intact", rows: 3, waiting: 2 });
    await chainOnce(store);
    expect(verifyChain(...(await args(store)))).toEqual({ kind: "intact", rows: 5, waiting: 0 });
    expect((await log(store)).head).toMatchObject({ rev: rev + 2, rows: 5, signed: `signed ${rev + 2}` });
    expect((await store.marks()).rev).toBe(rev + 2);
  });
  const args = async (store: Store) => {
    const { rows, head } = await log(store);
    return [rows, head] as const;
  };

  test("is chained with the clock, in one batch", async () => {
    const { store, database } = await memoryStore();
    await write(store, 1);
    await database.write(["update cluster set wall_ms = wall_ms - 3000"]);
    const step = (await nextChainStep(store))!;
    const before = (await store.cluster()).clockMs;
    const { moved, clockMs } = await store.tick(chainStatements(step, "s"));
    expect([moved, clockMs - before >= 3_000]).toEqual([true, true]);
    expect((await log(store)).rows.every(({ hash }) => hash !== null)).toBe(true);
  });

  test("is chained 500 rows a tick at most", async () => {
    const { store, database } = await memoryStore();
    const insert =
      "insert into audit (rev, at_ms, actor, verb, namespace, object, detail) select 100 + value, 1, 'a', 'b', null, 'c', 'd' from json_each(?)";
    await database.write([{ sql: insert, args: [JSON.stringify(Array.from({ length: 700 }, (_, i) => i))] }]);
    expect(await chainOnce(store)).toBe(true);
    expect((await log(store)).head).toMatchObject({ rev: 599, rows: 500 });
    expect(await chainOnce(store)).toBe(false);
    expect(verifyChain(...(await args(store)))).toEqual({ kind: "intact", rows: 700, waiting: 0 });
  });

  test("of two ticks at once one chains, and the other does nothing", async () => {
    const { store } = await memoryStore();
    await write(store, 2);
    const slow = (await nextChainStep(store))!;
    await write(store, 1);
    await chainOnce(store);
    const before = await log(store);
    await store.tick(chainStatements({ ...slow, hashes: slow.hashes.map(({ rev }) => ({ rev, hash: "wrong" })) }, "late"));
    expect(await log(store)).toEqual(before);
    // The same of a head that is there already.
    await write(store, 1);
    const late = (await nextChainStep(store))!;
    await write(store, 1);
    await chainOnce(store);
    await store.tick(chainStatements(late, "late"));
    expect(verifyChain(...(await args(store)))).toEqual({ kind: "intact", rows: 5, waiting: 0 });
  });

  test("is read in pages of 1,000, the newest without a place to begin", async () => {
    const { store, database } = await memoryStore();
    const insert =
      "insert into audit (rev, at_ms, actor, verb, namespace, object, detail) select 100 + value, 1, 'a', 'b', null, 'c', 'd' from json_each(?)";
    await database.write([{ sql: insert, args: [JSON.stringify(Array.from({ length: 1_200 }, (_, i) => i))] }]);
    const revs = async (after: number | null) => {
      const { rows } = await readAudit(store, after);
      return [rows.length, rows[0]?.rev, rows.at(-1)?.rev];
    };
    expect(await revs(null)).toEqual([1_000, 300, 1_299]);
    expect(await revs(0)).toEqual([1_000, 100, 1_099]);
    expect(await revs(1_099)).toEqual([200, 1_100, 1_299]);
    expect(await revs(1_299)).toEqual([0, undefined, undefined]);
  });
});
