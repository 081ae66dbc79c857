import { expect, test } from "vitest";
import { memoryStore, nodeRow } from "./fixtures.ts";
import { nodes } from "../../worker/store/schema.ts";

test("smoke", async () => {
  const { store } = await memoryStore();
  const r = await store.commit({ changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1), nodeRow(2)] }] });
  expect(r).toMatchObject({ kind: "committed", rev: 2 });


    await store.commit({ changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1)] }] }),
    await store.tick(),
    await store.db.select().from(nodes).get(),
  );
});
