import { eq } from "drizzle-orm";
import { expect, test } from "vitest";
import { MARK, type NewRow, NOW, REV } from "../../worker/store/commit-types.ts";
import {
  apps,
  audit,
  bodies,
  cluster,
  endedReplicas,
  events,
  nodes,
  observations,
  replicas,
  tombstones,
} from "../../worker/store/schema.ts";
import { appRow, id, memoryStore, must, nodeRow, replicaRow, seed } from "./fixtures.ts";

const DAY_MS = 86_400_000;

test("rows come back as they went in, with the rev and time of their commit", async () => {
  const { store } = await memoryStore();
  const before = await store.marks();
  const { rev, nowMs } = await must(store, {
    changes: [
      { op: "insert", table: "nodes", rows: [nodeRow(1, { statusMs: NOW, generation: REV, labels: { "ünï/çode": "日本 \"'\\" } })] },
    ],
  });
  expect(rev).toBe(before.rev + 1);
  expect(nowMs).toBeGreaterThanOrEqual(before.nowMs);
  const [row] = await store.db.select().from(nodes);
  expect(row).toEqual({ ...nodeRow(1), labels: { "ünï/çode": "日本 \"'\\" }, statusMs: nowMs, generation: rev, rev });
});

test("each commit takes the next rev, also when two run at once", async () => {
  const { store } = await memoryStore();
  const start = (await store.marks()).rev;
  const results = await Promise.all(
    Array.from({ length: 20 }, (_, i) => must(store, { changes: [{ op: "insert", table: "nodes", rows: [nodeRow(i)] }] })),
  );
  expect(results.map(({ rev }) => rev).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => start + 1 + i));
});

test("of two read-modify-writes on one row, one is a conflict and writes nothing", async () => {
  const { store } = await memoryStore();
  const { rev } = await must(store, { changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1)] }] });
  const guards = [{ table: "nodes", key: { id: id("n", 1) }, rev }] as const;
  const write = (name: string) =>
    store.commit({
      guards,
      changes: [
        { op: "update", table: "nodes", rows: [{ id: id("n", 1), name }] },
        { op: "insert", table: "namespaces", rows: [{ name, createdMs: 0 }] },
      ],
    });
  const results = await Promise.all([write("a"), write("b")]);
  expect(results.map(({ kind }) => kind)).toEqual(["committed", "conflict"]);
  expect(results[1]).toMatchObject({ what: "guard", message: `node ${id("n", 1)} has changed since it was read` });
  expect((await store.marks()).rev).toBe(rev + 1);
  expect(await store.db.select({ name: nodes.name }).from(nodes)).toEqual([{ name: "a" }]);
});

test("one guard of many that misses refuses them all", async () => {
  const { store } = await memoryStore();
  const { rev } = await must(store, { changes: [{ op: "insert", table: "nodes", rows: Array.from({ length: 5 }, (_, i) => nodeRow(i)) }] });
  const all = Array.from({ length: 5 }, (_, i) => ({ table: "nodes" as const, key: { id: id("n", i) }, rev }));
  const attempt = (guards: typeof all) => store.commit({ guards, changes: [] });
  expect(await attempt(all)).toMatchObject({ kind: "committed" });
  expect(await attempt([...all.slice(1), { ...all[0]!, rev: rev - 1 }])).toMatchObject({
    kind: "conflict",
    what: "guard",
    message: "one of 5 nodes has changed since it was read",
  });
  // The same guard twice is one; two revs of one row can never hold.
  expect(await attempt([...all, all[0]!])).toMatchObject({ kind: "committed" });
  expect(await attempt([...all, { ...all[0]!, rev: rev + 1 }])).toMatchObject({ kind: "conflict" });
});

test("a guard on absence and a guard on values", async () => {
  const { store } = await memoryStore();
  await must(store, { changes: [{ op: "insert", table: "apps", rows: [appRow(1)] }] });
  const absent = (number: number) => store.commit({ guards: [{ table: "apps", key: { id: id("app", number) }, rev: null }], changes: [] });
  expect(await absent(2)).toMatchObject({ kind: "committed" });
  expect(await absent(1)).toMatchObject({ kind: "conflict", message: `app ${id("app", 1)} exists by now` });
  const deleting = (value: boolean) =>
    store.commit({ guards: [{ table: "apps", key: { id: id("app", 1) }, equals: { deleting: value, revision: 2 } }], changes: [] });
  expect(await deleting(false)).toMatchObject({ kind: "committed" });
  expect(await deleting(true)).toMatchObject({ kind: "conflict", what: "guard" });
});

test("a value that is taken is a conflict in words, and rolls all back", async () => {
  const { store } = await memoryStore();
  const { rev } = await must(store, { changes: [{ op: "insert", table: "apps", rows: [appRow(1, { name: "shop" })] }] });
  const result = await store.commit({
    changes: [
      { op: "insert", table: "namespaces", rows: [{ name: "late", createdMs: 0 }] },
      { op: "insert", table: "apps", rows: [appRow(2, { name: "shop" })] },
    ],
  });
  expect(result).toEqual({
    kind: "conflict",
    what: "unique",
    message: "an app with this namespace and name (default, shop) exists already",
  });
  expect((await store.marks()).rev).toBe(rev);
});

test("an update of a row that is gone is a conflict, unless it may be skipped", async () => {
  const { store } = await memoryStore();
  const update = { op: "update", table: "nodes", rows: [{ id: id("n", 9), name: "x" }] } as const;
  expect(await store.commit({ changes: [update] })).toMatchObject({
    kind: "conflict",
    what: "guard",
    message: `node ${id("n", 9)} is gone`,
  });
  expect(await store.commit({ changes: [{ ...update, onMissing: "skip" }] })).toMatchObject({ kind: "committed" });
});

test("what a row that is there already does: fail, keep, replace", async () => {
  const { store } = await memoryStore();
  const body = (text: string) => ({ hash: "h", kind: "spec" as const, body: text, createdMs: 0 });
  const insert = (text: string, onConflict?: "keep" | "replace") =>
    store.commit({ changes: [{ op: "insert", table: "bodies", rows: [body(text)], ...(onConflict ? { onConflict } : {}) }] });
  const stored = async () => (await store.db.select({ body: bodies.body }).from(bodies))[0]!.body;
  await insert("1");
  expect(await insert("2")).toMatchObject({ kind: "conflict", what: "unique" });
  await insert("3", "keep");
  expect(await stored()).toBe("1");
  await insert("4", "replace");
  expect(await stored()).toBe("4");
});

test("replace is of the row itself: another row's unique value stays a conflict", async () => {
  const { store } = await memoryStore();
  await must(store, { changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1)] }] });
  const row = nodeRow(2, { name: "node-1" });
  for (const onConflict of ["keep", "replace"] as const)
    expect(await store.commit({ changes: [{ op: "insert", table: "nodes", rows: [row], onConflict }] })).toMatchObject({
      kind: "conflict",
      what: "unique",
      message: "a node with this name (node-1) exists already",
    });
});

test("an operation takes effect once: its id again answers what the first did (F38)", async () => {
  const { store } = await memoryStore();
  const opId = `${(await store.marks()).nowMs}-abc`;
  const mutation = { opId, result: { made: ["x", 1] }, changes: [{ op: "insert", table: "apps", rows: [appRow(1)] }] } as const;
  const first = await must(store, mutation);
  await must(store, { changes: [] });
  expect(await store.commit(mutation)).toEqual({ kind: "replayed", rev: first.rev, result: { made: ["x", 1] } });
  // Its guards no longer hold, since it was itself that moved the row: still a replay.
  expect(await store.commit({ ...mutation, guards: [{ table: "apps", key: { id: id("app", 1) }, rev: null }] })).toMatchObject({
    kind: "replayed",
  });
  expect(await store.db.select().from(apps)).toHaveLength(1);
});

test.for([
  ["a day and a second old", -DAY_MS - 1_000, "conflict"],
  ["almost a day old", -DAY_MS + 60_000, "committed"],
  ["from a clock an hour ahead", 3_600_000, "committed"],
  ["from a clock two days ahead", 2 * DAY_MS, "conflict"],
] as const)("an operation id %s", async ([, offsetMs, kind]) => {
  const { store } = await memoryStore();
  const rev = (await store.marks()).rev;
  const result = await store.commit({
    opId: `${(await store.marks()).nowMs + offsetMs}-x`,
    changes: [{ op: "insert", table: "apps", rows: [appRow(1)] }],
  });
  expect(result.kind).toBe(kind);
  if (result.kind === "conflict") {
    expect(result.what).toBe("op");
    expect((await store.marks()).rev).toBe(rev);
  }
});

test.for(["abc", "", "12-", "-x", `1-${"x".repeat(300)}`])("an operation id that is none is refused: %j", async (opId) => {
  const { store } = await memoryStore();
  await expect(store.commit({ opId, changes: [] })).rejects.toThrow("operation id");
});

test("of two plans from one snapshot, the second is refused", async () => {
  const { store } = await memoryStore();
  const atRev = (await store.marks()).rev;
  expect(await store.commit({ changes: [] })).toMatchObject({ kind: "committed" });
  expect(await store.commit({ atRev, changes: [] })).toMatchObject({ kind: "committed" });
  expect(await store.commit({ atRev, changes: [] })).toEqual({
    kind: "conflict",
    what: "rev",
    message: `another plan was committed after rev ${atRev}`,
  });
});

test.for([
  ["NUL", "a\0b"],
  ["a lone surrogate", "a\ud800b"],
] as const)("a string with %s never reaches the database", async ([, name]) => {
  const { store } = await memoryStore();
  await expect(store.commit({ changes: [{ op: "insert", table: "apps", rows: [appRow(1, { name })] }] })).rejects.toThrow(
    "NUL or a lone surrogate",
  );
  await expect(
    store.commit({
      changes: [],
      events: [{ namespace: null, objectKind: "node", objectId: "x", app: null, type: "t", level: "info", message: name }],
    }),
  ).rejects.toThrow("NUL or");
  await expect(store.commit({ changes: [], audit: { actor: name, verb: "v", namespace: null, object: "o", detail: "" } })).rejects.toThrow(
    "NUL or",
  );
});

test.for([2 ** 53, 1.5, Number.NaN, Number.POSITIVE_INFINITY])("the number %d never reaches the database", async (createdMs) => {
  const { store } = await memoryStore();
  await expect(store.commit({ changes: [{ op: "insert", table: "apps", rows: [appRow(1, { createdMs })] }] })).rejects.toThrow("integer");
});

test("hostile strings are data (B66, B67)", async () => {
  const { store } = await memoryStore();
  const hostile = [
    "'; drop table nodes; --",
    '"',
    "\\",
    "`",
    "\u0024{x}",
    "__proto__",
    "null",
    "1e9",
    "\u202egnp.exe",
    "é",
    "e\u0301",
    "\u001f\u007f\u0085",
    "😀",
    "x".repeat(64_000),
    "[1,2]",
    '{"a":1}',
    "?1",
  ];
  await must(store, { changes: [{ op: "insert", table: "apps", rows: hostile.map((name, i) => appRow(i, { name })) }] });
  const rows = await store.db.select({ name: apps.name }).from(apps).orderBy(apps.id);
  expect(rows.map(({ name }) => name)).toEqual(hostile);
  for (const name of hostile) expect(await store.db.select({ name: apps.name }).from(apps).where(eq(apps.name, name))).toEqual([{ name }]);
  await must(store, { changes: [{ op: "delete", table: "apps", keys: hostile.map((name) => ({ name })) }] });
  expect(await store.db.select().from(apps)).toEqual([]);
});

test("JSON columns keep NUL and lone surrogates, and null is not 'null'", async () => {
  const { store } = await memoryStore();
  await must(store, { changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1, { labels: { a: "\0\ud800" } })] }] });
  expect((await store.db.select({ labels: nodes.labels }).from(nodes))[0]).toEqual({ labels: { a: "\0\ud800" } });
  const seen = {
    replica: id("r", 1),
    nodeId: "n",
    session: 1,
    seq: 1,
    state: "running",
    reason: "",
    message: "",
    containerId: null,
    health: "none",
    readySinceMs: null,
    restarts: 0,
    exitCode: null,
    oomKilled: true,
    ports: [],
    pull: null,
    logTail: [],
    asOfMs: NOW,
    mark: MARK,
  } as const;
  await must(store, {
    advance: "observed",
    changes: [{ op: "insert", table: "observations", rows: [{ ...seen, ports: [], logTail: [] }] }],
  });
  expect((await store.db.select().from(observations))[0]).toMatchObject({
    pull: null,
    oomKilled: true,
    exitCode: null,
    ports: [],
    mark: 1,
  });
});

test("a delete leaves a tombstone, made anew it is seen again", async () => {
  const { store } = await memoryStore();
  await seed(store);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1), replicaRow(2)] }] });
  const { rev } = await must(store, {
    changes: [
      { op: "delete", table: "replicas", keys: [{ id: id("r", 1) }, { id: id("r", 7) }] },
      { op: "delete", table: "services", keys: [{ appId: id("app", 1), name: "web" }] },
    ],
  });
  expect(
    await store.db.select({ kind: tombstones.kind, key: tombstones.key, rev: tombstones.rev }).from(tombstones).orderBy(tombstones.kind),
  ).toEqual([
    { kind: "replicas", key: id("r", 1), rev },
    { kind: "services", key: JSON.stringify([id("app", 1), "web"]), rev },
  ]);
  expect(await store.db.select({ id: replicas.id }).from(replicas)).toEqual([{ id: id("r", 2) }]);
  // Unversioned tables leave none.
  await must(store, { changes: [{ op: "delete", table: "bodies", keys: [{ kind: "spec" }] }] });
  expect(await store.db.select().from(tombstones)).toHaveLength(2);
});

test("a commit of thousands of rows is whole or not at all", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const { rev } = await store.marks();
  const rows = Array.from({ length: 5_000 }, (_, i) => replicaRow(i));
  expect(await store.commit({ changes: [{ op: "insert", table: "replicas", rows: [...rows, replicaRow(4_999)] }] })).toMatchObject({
    kind: "conflict",
    what: "unique",
  });
  expect(await store.db.$count(replicas)).toBe(0);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows }] });
  await must(store, {
    changes: [{ op: "update", table: "replicas", rows: rows.map(({ id }) => ({ id, desired: "stop" as const, stoppedMs: NOW })) }],
  });
  expect(
    await store.db.select({ rev: replicas.rev, desired: replicas.desired }).from(replicas).groupBy(replicas.rev, replicas.desired),
  ).toEqual([{ rev: rev + 2, desired: "stop" }]);
});

test("rows of one change may set different columns", async () => {
  const { store } = await memoryStore();
  await must(store, { changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1), nodeRow(2), nodeRow(3)] }] });
  const { rev } = await must(store, {
    changes: [
      {
        op: "update",
        table: "nodes",
        rows: [
          { id: id("n", 1), generation: REV },
          { id: id("n", 2), generation: 7 },
          { id: id("n", 3), name: "z", generation: undefined as never },
        ],
      },
    ],
  });
  expect(await store.db.select({ name: nodes.name, generation: nodes.generation, rev: nodes.rev }).from(nodes).orderBy(nodes.id)).toEqual([
    { name: "node-1", generation: rev, rev },
    { name: "node-2", generation: 7, rev },
    { name: "z", generation: 0, rev },
  ]);
});

test("a row named twice in one update is a mistake of the caller, not a conflict for ever", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const twice = [
    { id: id("n", 1), name: "a" },
    { id: id("n", 1), name: "b" },
  ];
  await expect(store.commit({ changes: [{ op: "update", table: "nodes", rows: twice }] })).rejects.toThrow("twice");
});

test("a broken invariant throws and writes nothing", async () => {
  const { store } = await memoryStore();
  const { rev } = await store.marks();
  const { name: _, ...nameless } = appRow(1);
  await expect(store.commit({ changes: [{ op: "insert", table: "apps", rows: [nameless as ReturnType<typeof appRow>] }] })).rejects.toThrow(
    "NOT NULL",
  );
  await expect(store.commit({ changes: [{ op: "update", table: "apps", rows: [{ name: "x" }] }] })).rejects.toThrow("whole primary key");
  await expect(store.commit({ changes: [{ op: "delete", table: "apps", keys: [{}] }] })).rejects.toThrow("names no key");
  await expect(store.commit({ advance: "none", changes: [{ op: "insert", table: "apps", rows: [appRow(1)] }] })).rejects.toThrow(
    "takes the next rev",
  );
  expect((await store.marks()).rev).toBe(rev);
});

test("the read path refuses to write", async () => {
  const { store } = await memoryStore();
  const writable = store.db as unknown as { delete(table: typeof nodes): PromiseLike<unknown> };
  await expect(Promise.resolve(writable.delete(nodes))).rejects.toThrow();
  await expect(store.readRaw(["delete from nodes"])).rejects.toThrow("selects only");
  await expect(store.readRaw(["with x as (select 1) delete from nodes"])).rejects.toThrow();
});

test("several selects are one consistent view", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const [rows, [row], none] = await store.selectAll([
    store.db.select().from(nodes),
    store.db.select({ rev: cluster.rev }).from(cluster),
    store.db.select().from(replicas),
  ]);
  expect(rows.map(({ quarantined, facts }) => [quarantined, facts.arch])).toEqual([
    [false, "x64"],
    [false, "x64"],
  ]);
  expect(row).toEqual({ rev: 2 });
  expect(none).toEqual([]);
});

test("events: at most 200 of an object, the newest; others keep theirs", async () => {
  const { store } = await memoryStore();
  const event = (objectId: string, message: string) => ({
    namespace: null,
    objectKind: "node" as const,
    objectId,
    app: null,
    type: "t",
    level: "info" as const,
    message,
  });
  await must(store, { changes: [], events: [event("quiet", "once")] });
  for (let batch = 0; batch < 3; batch++)
    await must(store, { changes: [], events: Array.from({ length: 90 }, (_, i) => event("loud", String(batch * 90 + i))) });
  const loud = await store.db.select({ message: events.message }).from(events).where(eq(events.objectId, "loud")).orderBy(events.id);
  expect(loud.map(({ message }) => Number(message))).toEqual(Array.from({ length: 200 }, (_, i) => i + 70));
  expect(await store.db.$count(events, eq(events.objectId, "quiet"))).toBe(1);
});

test("ended replicas: at most 10 of a slot, the newest", async () => {
  const { store } = await memoryStore();
  const ended = (number: number, slot: string): Omit<NewRow<"endedReplicas">, "rev"> => ({
    id: id("r", number),
    appId: id("app", 1),
    service: "web",
    slot,
    nodeId: "n",
    revision: 1,
    state: "failed",
    reason: "update",
    message: "",
    exitCode: 1,
    logTail: [],
    endedMs: NOW,
  });
  for (let i = 0; i < 25; i++)
    await must(store, {
      changes: [{ op: "insert", table: "endedReplicas", rows: [ended(i, "1"), ...(i === 0 ? [ended(100, "2")] : [])] }],
    });
  const rows = await store.db.select({ id: endedReplicas.id, slot: endedReplicas.slot }).from(endedReplicas).orderBy(endedReplicas.id);
  expect(rows).toEqual([...Array.from({ length: 10 }, (_, i) => ({ id: id("r", i + 15), slot: "1" })), { id: id("r", 100), slot: "2" }]);
});

test("one audit row a commit, with its rev (I19)", async () => {
  const { store } = await memoryStore();
  const entry = { actor: "t_1", verb: "put", namespace: "default", object: "app/x", detail: "d" };
  const { rev, nowMs } = await must(store, { changes: [], audit: entry });
  await must(store, { changes: [] });
  expect(await store.db.select().from(audit)).toEqual([{ rev, atMs: nowMs, hash: null, ...entry }]);
});

test("the cluster clock moves by at most 5 s a tick, never back, and only after 2 s (I11)", async () => {
  const { store, database } = await memoryStore();
  const lag = (ms: number) =>
    database.write([{ sql: "update cluster set wall_ms = cast(unixepoch('subsec') * 1000 as integer) - ?", args: [ms] }]);
  const clock = async () => (await store.cluster()).clockMs;
  const moves: Record<string, unknown>[] = [];
  for (const ms of [1_000, 2_500, 4_900, 3_600_000, -3_600_000]) {
    await lag(ms);
    const before = await clock();
    const { moved, clamped, clockMs } = await store.tick();
    expect(clockMs).toBe(await clock());
    moves.push({ ms, moved, clamped, by: Math.floor((clockMs - before) / 100) * 100 });
  }
  expect(moves).toEqual([
    { ms: 1_000, moved: false, clamped: false, by: 0 },
    { ms: 2_500, moved: true, clamped: false, by: 2_500 },
    { ms: 4_900, moved: true, clamped: false, by: 4_900 },
    { ms: 3_600_000, moved: true, clamped: true, by: 5_000 },
    { ms: -3_600_000, moved: true, clamped: true, by: 0 },
  ]);
  // A commit that fences ticks too.
  await lag(1_500);
  const before = await clock();
  await must(store, { tick: true, changes: [] });
  expect((await clock()) - before).toBeGreaterThanOrEqual(1_500);
});

test("ticks and observations move no rev", async () => {
  const { store, database } = await memoryStore();
  const { rev } = await store.marks();
  await database.write(["update cluster set wall_ms = 0"]);
  await store.tick();
  await must(store, { advance: "observed", changes: [] });
  expect(await store.marks()).toMatchObject({ rev, observed: 1 });
});

test("init makes the cluster once", async () => {
  const { store } = await memoryStore();
  const before = await store.cluster();
  await must(store, { changes: [{ op: "delete", table: "namespaces", keys: [{ name: "default" }] }] });
  expect(await store.init({ clusterId: "other", era: "x", rootKey: before.rootKey, keySet: "", keySetVersion: 9 })).toEqual({
    created: false,
  });
  expect(await store.cluster()).toMatchObject({ clusterId: "c-test", era: "era-1", keySetVersion: 1 });
  expect((await store.readRaw(["select name from namespaces"])).results[0]!.rows).toHaveLength(0);
});
