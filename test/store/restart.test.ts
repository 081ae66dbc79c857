import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { nodes } from "../../worker/store/schema.ts";
import { fileStore, must, nodeRow, temporaryFolder } from "./fixtures.ts";

/** Commits without end and prints each rev once it is acknowledged. */
const WRITER = `
const [store, fixtures] = process.argv.slice(-2);
const { openDatabaseFile } = await import(store + "database-embedded.ts");
const { Store } = await import(store + "store.ts");
const { nodeRow, IDENTITY } = await import(fixtures);
const opened = await Store.open(await openDatabaseFile(process.env.DATABASE));
await opened.init(IDENTITY);
for (let i = 0; ; i++) {
  const result = await opened.commit({ changes: [{ op: "insert", table: "nodes", rows: [nodeRow(i)] }, { op: "insert", table: "namespaces", rows: [{ name: "ns-" + i, createdMs: 0 }] }] });
  process.stdout.write(result.rev + "\\n");
}
`;

test("killed with SIGKILL in the middle of commits: all that was acknowledged is there, whole, and the file opens at once", async () => {
  const path = join(temporaryFolder(), "berth.db");
  for (let round = 0; round < 2; round++) {
    const acknowledged = await killedWriter(`${path}${round}`, 50 + round * 37);
    expect(acknowledged.length).toBeGreaterThanOrEqual(50);
    const firstRev = acknowledged[0]!;
    const { store } = await fileStore(`${path}${round}`);
    const rows = await store.db.select({ rev: nodes.rev }).from(nodes);
    const revs = new Set(rows.map(({ rev }) => rev));
    expect(acknowledged.filter((rev) => !revs.has(rev))).toEqual([]);
    // At most the one that was under way is there beside them, and no half of any (I14).
    expect(rows.length - acknowledged.length).toBeLessThanOrEqual(2);
    const [pairs] = (await store.readRaw(["select count(*) from nodes n join namespaces s on s.rev = n.rev"])).results;
    expect(Number(pairs!.rows[0]![0])).toBe(rows.length);
    expect((await store.marks()).rev).toBe(firstRev + rows.length - 1);
    // Rev goes on from where it was.
    expect((await must(store, { changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1_000_000)] }] })).rev).toBe(
      firstRev + rows.length,
    );
  }
});

/** Revs that the writer printed before it was killed, after at least `count` of them. */
async function killedWriter(path: string, count: number): Promise<number[]> {
  const args = [new URL("../../worker/store/", import.meta.url).href, new URL("rows.ts", import.meta.url).href];
  const child = spawn(process.execPath, ["--input-type=module", "-e", WRITER, "--", ...args], {
    env: { ...process.env, DATABASE: path },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const revs: number[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    revs.push(Number(line));
    if (revs.length === count) child.kill("SIGKILL");
  }
  return revs;
}
