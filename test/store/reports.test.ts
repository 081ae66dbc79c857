import { expect, test } from "vitest";
import type { ReplicaFact, ReportRequest } from "../../shared/wire/report.ts";
import { endedReplicas, events, images, nodeReports, nodes, observations, replicas, volumeDrops } from "../../worker/store/schema.ts";
import { type AppliedReport, applyReport } from "../../worker/store/reports.ts";
import { SnapshotKeeper } from "../../worker/store/snapshot.ts";
import type { Store } from "../../worker/store/store.ts";
import { id, memoryStore, must, nodeRow, replicaRow, seed } from "./fixtures.ts";

const NODE = id("n", 1);
const DIGEST = `sha256:${"a".repeat(64)}`;

const fact = (replica: number, over: Partial<ReplicaFact> = {}): ReplicaFact => ({
  replica: id("r", replica),
  state: "running",
  reason: "",
  message: "",
  containerId: `c${replica}`,
  health: "none",
  readyForMs: 1_000,
  restarts: 0,
  exitCode: null,
  oomKilled: false,
  ports: [],
  pull: null,
  logTail: [],
  ageMs: 0,
  ...over,
});
const report = (seq: number, over: Partial<ReportRequest> = {}): ReportRequest => ({
  era: "era-1",
  session: 1,
  seq,
  complete: false,
  generation: 1_000,
  replicas: [],
  images: [],
  facts: null,
  volumes: null,
  engine: { reachable: true, message: "" },
  ...over,
});
async function apply(store: Store, sent: ReportRequest): Promise<AppliedReport> {
  const applied = await applyReport(store, { node: NODE, report: sent });
  if (applied === null) throw new Error("the report lost to other commits");
  return applied;
}

/** Node 1 with replicas 1..count, all to run; the first report is in. */
async function world(count = 2): Promise<Store> {
  const { store } = await memoryStore();
  await seed(store);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: Array.from({ length: count }, (_, i) => replicaRow(i + 1)) }] });
  await apply(store, report(1, { complete: true, replicas: Array.from({ length: count }, (_, i) => fact(i + 1)) }));
  return store;
}
const stop = (store: Store, ...numbers: number[]) =>
  must(store, {
    changes: [
      {
        op: "update",
        table: "replicas",
        rows: numbers.map((number) => ({ id: id("r", number), desired: "stop" as const, reason: "scale", stoppedMs: 1 })),
      },
    ],
  });
const stateOf = async (store: Store, number: number) =>
  (await store.db.select().from(observations)).find(({ replica }) => replica === id("r", number));
const runningIds = async (store: Store) => (await store.db.select({ id: replicas.id }).from(replicas)).map(({ id }) => id).sort();

test("facts are stored with the acknowledgement, and do not move rev", async () => {
  const store = await world(0);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1)] }] });
  const before = await store.marks();
  const applied = await apply(
    store,
    report(2, {
      generation: 7,
      replicas: [fact(1, { ageMs: 500, readyForMs: 2_000, ports: [{ target: 80, protocol: "tcp", hostIp: "", hostPort: 32768 }] })],
    }),
  );
  expect(applied).toMatchObject({ ackSeq: 2, dirty: true, rev: null, observed: before.observed + 1 });
  const after = await store.marks();
  expect(after).toMatchObject({ rev: before.rev, observed: before.observed + 1 });
  const seen = (await stateOf(store, 1))!;
  expect(seen).toMatchObject({ nodeId: NODE, session: 1, seq: 2, state: "running", mark: after.observed, ports: [{ hostPort: 32768 }] });
  expect(after.nowMs - seen.readySinceMs!).toBeGreaterThanOrEqual(2_000);
  expect(after.nowMs - seen.asOfMs).toBeGreaterThanOrEqual(500);
  expect((await store.db.select().from(nodeReports))[0]).toMatchObject({ session: 1, seq: 2, generation: 7, complete: true });
});

test("ages beyond the assignment are the assignment's: no node makes others' lists fail, or itself healthy at once", async () => {
  const store = await world(0);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1)] }] });
  const [{ assignedMs } = { assignedMs: 0 }] = await store.db.select({ assignedMs: replicas.assignedMs }).from(replicas);
  await apply(store, report(2, { replicas: [fact(1, { ageMs: Number.MAX_SAFE_INTEGER, readyForMs: Number.MAX_SAFE_INTEGER })] }));
  expect(await stateOf(store, 1)).toMatchObject({ readySinceMs: assignedMs, asOfMs: assignedMs });
});

test("what is old when it is told is no younger for that: ready since is by when the fact was true (F22)", async () => {
  const store = await world(0);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [{ ...replicaRow(1), assignedMs: 1 }] }] });
  await apply(store, report(2, { replicas: [fact(1, { readyForMs: 60_000, ageMs: 0 })] }));
  const before = (await stateOf(store, 1))!;
  // The same readiness from a node that could not tell of it for long, and had no cause to look again.
  await apply(store, report(3, { replicas: [fact(1, { readyForMs: 1_000, ageMs: 59_000, message: "again" })] }));
  expect(await stateOf(store, 1)).toMatchObject({ message: "again", readySinceMs: before.readySinceMs });
});

test("the same report again changes nothing (I15, F23, F28)", async () => {
  const store = await world();
  const sent = report(2, { replicas: [fact(1, { state: "failed", readyForMs: null, exitCode: 3 })] });
  expect(await apply(store, sent)).toMatchObject({ ackSeq: 2, dirty: true });
  await apply(store, report(3));
  const before = [await store.marks(), await store.db.select().from(observations)];
  // Also as an older one that a proxy held back for a day.
  for (const late of [sent, report(1, { replicas: [fact(1)] })])
    expect(await apply(store, late)).toEqual({ ackSeq: 3, dirty: false, rev: null, observed: null, rows: [] });
  const [marks, rows] = [await store.marks(), await store.db.select().from(observations)];
  expect([{ ...marks, nowMs: 0 }, rows]).toEqual([{ ...(before[0] as typeof marks), nowMs: 0 }, before[1]]);
});

test("the same report twice at once is applied once", async () => {
  const store = await world();
  const sent = report(2, { replicas: [fact(1, { restarts: 1 })] });
  expect((await Promise.all([apply(store, sent), apply(store, sent)])).map(({ ackSeq }) => ackSeq)).toEqual([2, 2]);
  expect((await store.db.select().from(events)).filter(({ type }) => type === "restarted")).toHaveLength(1);
});

test("a report of a session that is over changes nothing", async () => {
  const store = await world();
  await must(store, { changes: [{ op: "update", table: "nodes", rows: [{ id: NODE, session: 9 }] }] });
  expect(await apply(store, report(2, { replicas: [fact(1, { state: "failed" })] }))).toMatchObject({ ackSeq: 0, observed: null });
  expect(await stateOf(store, 1)).toMatchObject({ state: "running" });
  // The new one begins at 1 again.
  expect(await apply(store, report(1, { session: 9, complete: true, replicas: [fact(1), fact(2)] }))).toMatchObject({
    ackSeq: 1,
    dirty: true,
  });
  expect(await applyReport(store, { node: id("n", 99), report: report(1) })).toMatchObject({ ackSeq: 0 });
});

test("only what changed is written, and a reading of the same readiness is no change", async () => {
  const store = await world();
  const before = await stateOf(store, 1);
  const applied = await apply(store, report(2, { replicas: [fact(1, { readyForMs: 1_200 }), fact(2, { health: "healthy" })] }));
  expect(applied.rows.map(({ replica }) => replica)).toEqual([id("r", 2)]);
  expect(applied.dirty).toBe(false);
  expect(await stateOf(store, 1)).toEqual(before);
  // A bare acknowledgement moves nothing that anybody watches.
  const { observed } = await store.marks();
  expect(await apply(store, report(3))).toMatchObject({ ackSeq: 3, observed: null, dirty: false });
  expect((await store.marks()).observed).toBe(observed);
});

test.for([
  ["ready no more", { readyForMs: null }, true],
  ["restarted", { restarts: 1 }, true],
  ["failed", { state: "failed", readyForMs: null }, true],
  ["rejected", { state: "rejected", readyForMs: null }, true],
  ["refused its image", { state: "preparing", reason: "imageNotFound", message: "there is none", readyForMs: null }, true],
  ["a longer message", { message: "pulling" }, false],
  ["more of the pull", { pull: { currentBytes: 1, totalBytes: 2 } }, false],
] as const)("%s: a plan could differ", async ([, over, dirty]) => {
  const store = await world();
  expect((await apply(store, report(2, { replicas: [fact(1, over)] }))).dirty).toBe(dirty);
});

test("an engine that goes or comes: a plan could differ", async () => {
  const store = await world();
  const away = { engine: { reachable: false, message: "no such socket" } };
  expect((await apply(store, report(2, away))).dirty).toBe(true);
  expect((await apply(store, report(3, away))).dirty).toBe(false);
  expect((await apply(store, report(4))).dirty).toBe(true);
});

test.for(["completed", "stopped", "failed", "rejected"] as const)("%s is final (I17)", async (state) => {
  const store = await world();
  await apply(store, report(2, { replicas: [fact(1, { state, readyForMs: null, exitCode: 4 })] }));
  const before = await stateOf(store, 1);
  await apply(store, report(3, { replicas: [fact(1, { state: "running" })] }));
  await apply(store, report(4, { complete: true, replicas: [] }));
  expect(await stateOf(store, 1)).toEqual(before);
});

test("a node speaks of its own replicas only (I27)", async () => {
  const store = await world();
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(5, { nodeId: id("n", 2) })] }] });
  await apply(store, report(2, { complete: true, replicas: [fact(1), fact(2), fact(5, { state: "failed" }), fact(77)] }));
  expect(await stateOf(store, 5)).toBeUndefined();
  expect(await stateOf(store, 77)).toBeUndefined();
});

test("a replica that shall stop ends when its node says so, with what was last seen of it", async () => {
  const store = await world();
  await stop(store, 1, 2);
  expect((await apply(store, report(2, { replicas: [fact(1, { state: "stopping" })] }))).rev).toBeNull();
  const { rev, dirty } = await apply(
    store,
    report(3, { replicas: [fact(1, { state: "stopped", exitCode: 137, logTail: ["bye"], message: "killed" })] }),
  );
  expect(dirty).toBe(true);
  expect(rev).toBe((await store.marks()).rev);
  expect(await runningIds(store)).toEqual([id("r", 2)]);
  expect(await stateOf(store, 1)).toBeUndefined();
  expect(await store.db.select().from(endedReplicas)).toMatchObject([
    { id: id("r", 1), state: "stopped", reason: "scale", exitCode: 137, logTail: ["bye"], message: "killed", rev },
  ]);
});

test("one that failed before it was to stop ends with the next word of its node", async () => {
  const store = await world();
  await apply(store, report(2, { replicas: [fact(1, { state: "failed", readyForMs: null, exitCode: 1 })] }));
  await stop(store, 1);
  await apply(store, report(3));
  expect(await store.db.select().from(endedReplicas)).toMatchObject([{ id: id("r", 1), state: "failed", exitCode: 1 }]);
});

test("silence about a running replica ends nothing", async () => {
  const store = await world();
  await stop(store, 1);
  await apply(store, report(2, { replicas: [fact(2, { restarts: 1 })] }));
  expect(await runningIds(store)).toEqual([id("r", 1), id("r", 2)]);
});

test("a complete report without it ends one that shall stop, once its node has accepted a set without it", async () => {
  const store = await world();
  const { rev } = await stop(store, 1);
  await apply(store, report(2, { complete: true, generation: rev - 1, replicas: [fact(2)] }));
  // The node may still be about to start it from the set that it has.
  expect(await runningIds(store)).toContain(id("r", 1));
  await apply(store, report(3, { generation: rev }));
  expect(await runningIds(store)).toEqual([id("r", 2)]);
});

test("one that was stopped before its node ever had it ends when the node accepts a later set", async () => {
  const store = await world();
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(3)] }] });
  const { rev } = await stop(store, 3);
  await apply(store, report(2, { generation: rev - 1 }));
  expect(await runningIds(store)).toContain(id("r", 3));
  await apply(store, report(3, { generation: rev, replicas: [fact(3, { state: "preparing", containerId: null, readyForMs: null })] }));
  // It has begun: only its end counts now.
  expect(await runningIds(store)).toContain(id("r", 3));
  await apply(store, report(4, { generation: rev + 1, replicas: [fact(3, { state: "stopped", containerId: null, readyForMs: null })] }));
  expect(await runningIds(store)).not.toContain(id("r", 3));
});

test("before a session's complete report nothing ends by absence", async () => {
  const store = await world();
  await must(store, {
    changes: [
      { op: "update", table: "nodes", rows: [{ id: NODE, session: 2 }] },
      { op: "insert", table: "replicas", rows: [replicaRow(3)] },
    ],
  });
  const { rev } = await stop(store, 3);
  await apply(store, report(1, { session: 2, generation: rev }));
  expect(await runningIds(store)).toContain(id("r", 3));
  await apply(store, report(2, { session: 2, generation: rev, complete: true, replicas: [fact(1), fact(2)] }));
  expect(await runningIds(store)).toEqual([id("r", 1), id("r", 2)]);
});

test("a running replica that a complete report leaves out is seen as gone, if the node has spoken of it before", async () => {
  const store = await world();
  const { rev } = await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(3)] }] });
  const applied = await apply(store, report(2, { complete: true, generation: rev, replicas: [fact(2)] }));
  expect(applied.dirty).toBe(true);
  expect(await stateOf(store, 1)).toMatchObject({ state: "assigned", reason: "gone", containerId: null, readySinceMs: null });
  expect(await stateOf(store, 3)).toBeUndefined();
  expect(await runningIds(store)).toHaveLength(3);
  // Told again, it is no news.
  expect(await apply(store, report(3, { complete: true, generation: rev, replicas: [fact(2)] }))).toMatchObject({ rows: [], dirty: false });
});

test("the asked node resolves an image, once, and every node that needs it gets a new manifest", async () => {
  const store = await world();
  await must(store, {
    changes: [
      { op: "insert", table: "replicas", rows: [replicaRow(5, { nodeId: id("n", 2) })] },
      { op: "insert", table: "nodes", rows: [nodeRow(3)] },
    ],
  });
  const told = (digest: string) => [
    { namespace: "default", app: "app-1", revision: 2, reference: "registry/web:1", digest, imageId: null },
  ];
  // Not asked: ignored.
  expect(await apply(store, report(2, { images: told(DIGEST) }))).toMatchObject({ rev: null });
  await must(store, {
    changes: [{ op: "update", table: "images", rows: [{ appId: id("app", 1), revision: 2, reference: "registry/web:1", resolver: NODE }] }],
  });
  const { rev, dirty } = await apply(store, report(3, { images: told(DIGEST) }));
  expect(dirty).toBe(true);
  expect(await store.db.select().from(images)).toMatchObject([{ digest: DIGEST, rev }]);
  expect(
    (await store.db.select({ id: nodes.id, generation: nodes.generation }).from(nodes).orderBy(nodes.id)).map(
      ({ generation }) => generation,
    ),
  ).toEqual([rev, rev, 0]);
  // Resolved is resolved.
  await apply(store, report(4, { images: told(`sha256:${"b".repeat(64)}`) }));
  expect(await store.db.select().from(images)).toMatchObject([{ digest: DIGEST, rev }]);
});

test("node facts are stored when they differ", async () => {
  const store = await world();
  const { facts } = nodeRow(1);
  expect(await apply(store, report(2, { facts: { ...facts } }))).toMatchObject({ rev: null, dirty: false });
  expect(await apply(store, report(3, { facts: { ...facts, memoryMiB: 99 } }))).toMatchObject({
    dirty: true,
    rev: (await store.marks()).rev,
  });
  expect((await store.db.select().from(nodes).orderBy(nodes.id))[0]).toMatchObject({ facts: { memoryMiB: 99 } });
});

test("a volume to drop is dropped when the node no longer lists it", async () => {
  const store = await world();
  await must(store, {
    changes: [
      {
        op: "insert",
        table: "volumeDrops",
        rows: [
          { nodeId: NODE, engineName: "a" },
          { nodeId: NODE, engineName: "b" },
        ],
      },
    ],
  });
  const generation = (await store.marks()).rev;
  await apply(store, report(2, { volumes: null, generation }));
  // Said before it knew of the drop: the volume may have been made since.
  await apply(store, report(3, { volumes: [{ engineName: "b" }], generation: generation - 1 }));
  expect(await store.db.$count(volumeDrops)).toBe(2);
  const { rev, dirty } = await apply(store, report(4, { volumes: [{ engineName: "b" }], generation }));
  expect(dirty).toBe(true);
  expect(await store.db.select({ name: volumeDrops.engineName }).from(volumeDrops)).toEqual([{ name: "b" }]);
  expect((await store.db.select().from(nodes).orderBy(nodes.id))[0]).toMatchObject({ generation: rev });
});

test("what people are told", async () => {
  const store = await world(0);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(3, { slot: "3" })] }] });
  await apply(store, report(2, { replicas: [fact(3, { state: "preparing", readyForMs: null })] }));
  await apply(store, report(3, { replicas: [fact(3)] }));
  await apply(store, report(4, { replicas: [fact(3, { restarts: 1, exitCode: 1 })] }));
  await apply(store, report(5, { replicas: [fact(3, { restarts: 2, exitCode: 1, oomKilled: true })] }));
  await apply(
    store,
    report(6, { replicas: [fact(3, { restarts: 2, exitCode: 1, oomKilled: true, health: "unhealthy", message: "connection refused" })] }),
  );
  await apply(store, report(7, { replicas: [fact(3, { restarts: 2, state: "failed", message: "no more restarts", readyForMs: null })] }));
  expect(
    (await store.db.select().from(events)).map(({ level, type, message, app, namespace }) =>
      [level, type, message, app, namespace].join(" | "),
    ),
  ).toEqual([
    "info | running | web.3 runs on node-1 | app-1 | default",
    "warning | restarted | web.3 restarted on node-1 (1 time, exit code 1) | app-1 | default",
    "warning | restarted | web.3 restarted on node-1 (2 times, exit code 1, out of memory) | app-1 | default",
    "warning | unhealthy | web.3 is unhealthy on node-1: connection refused | app-1 | default",
    "error | failed | web.3 failed on node-1: no more restarts | app-1 | default",
  ]);
});

test("a keeper follows what reports bring", async () => {
  const store = await world();
  const keeper = new SnapshotKeeper(store);
  const states = async () => Array.from((await keeper.advance()).snapshot.replicas.state).sort();
  expect(await states()).toEqual([3, 3]);
  await stop(store, 1);
  await apply(store, report(2, { replicas: [fact(1, { state: "stopped" }), fact(2, { state: "failed" })] }));
  expect(await states()).toEqual([7]);
});
