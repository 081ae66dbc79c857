import fc from "fast-check";
import { expect, test } from "vitest";
import type { ClusterSnapshot } from "../../shared/plan/snapshot.ts";
import { MARK, type Mutation, type NewRow, NOW, type RowChange } from "../../worker/store/commit-types.ts";
import { SnapshotKeeper } from "../../worker/store/snapshot.ts";
import type { Store } from "../../worker/store/store.ts";
import { appRow, deploymentRow, hash, id, memoryStore, must, nodeRow, replicaRow, seed, serviceRow, specBody } from "./fixtures.ts";

const seen = (replica: number, over: Partial<NewRow<"observations">> = {}): NewRow<"observations"> => ({
  replica: id("r", replica),
  nodeId: id("n", 1),
  session: 1,
  seq: 1,
  state: "running",
  reason: "",
  message: "",
  containerId: null,
  health: "none",
  readySinceMs: 5,
  restarts: 0,
  exitCode: null,
  oomKilled: false,
  ports: [],
  pull: null,
  logTail: [],
  asOfMs: NOW,
  mark: MARK,
  ...over,
});
const observe = (rows: NewRow<"observations">[]): Mutation => ({
  advance: "observed",
  changes: [{ op: "insert", table: "observations", onConflict: "replace", rows }],
});

/** One replica as the planner sees it. */
function replicaIn({ replicas, services, nodes }: ClusterSnapshot, number: number) {
  const row = replicas.id.indexOf(id("r", number));
  if (row === -1) return null;
  return {
    service: services[replicas.service[row]!]?.name ?? null,
    node: nodes[replicas.node[row]!]?.name ?? null,
    image: replicas.image[row],
    run: replicas.run[row],
    state: replicas.state[row],
    fault: replicas.fault[row],
    readySinceMs: replicas.readySinceMs[row],
    cpuMillis: replicas.cpuMillis[row],
    hostPorts: replicas.hostPorts[row],
  };
}

/** The whole of it, in an order that does not depend on how it came about. */
function normal({ replicas: r, nodes, services, ...rest }: ClusterSnapshot): unknown {
  const by = <Item>(items: readonly Item[]) => [...items].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  const rows = Array.from({ length: r.length }, (_, i) => ({
    id: r.id[i],
    slot: r.slot[i],
    spec: r.spec[i],
    revision: r.revision[i],
    image: r.image[i],
    run: r.run[i],
    state: r.state[i],
    restarts: r.restarts[i],
    fault: r.fault[i],
    readySinceMs: String(r.readySinceMs[i]),
    assignedMs: r.assignedMs[i],
    attempt: r.attempt[i],
    cpuMillis: r.cpuMillis[i],
    memoryMiB: r.memoryMiB[i],
    rev: r.rev[i],
    hostPorts: r.hostPorts[i],
    devices: r.devices[i],
    service: r.service[i] === -1 ? null : [services[r.service[i]!]!.appId, services[r.service[i]!]!.name],
    node: r.node[i] === -1 ? null : nodes[r.node[i]!]!.id,
  }));
  for (const list of [r.id, r.slot, r.spec, r.image, r.fault, r.hostPorts, r.devices, r.run, r.rev]) expect(list.length).toBe(r.length);
  return {
    ...rest,
    sites: by(rest.sites),
    apps: by(rest.apps),
    deployments: by(rest.deployments),
    failed: by(rest.failed),
    volumes: by(rest.volumes),
    volumeDrops: by(rest.volumeDrops),
    unresolved: by(rest.unresolved),
    nodes: by(nodes),
    services: by(services),
    replicas: by(rows),
  };
}

const fullLoad = async (store: Store) => normal((await new SnapshotKeeper(store).advance()).snapshot);

test("what the planner sees of nodes, services and replicas", async () => {
  const { store } = await memoryStore();
  await seed(store);
  await must(store, {
    changes: [
      {
        op: "update",
        table: "nodes",
        rows: [{ id: id("n", 1), labels: { zone: "a" }, facts: { ...nodeRow(1).facts, labels: { zone: "own", disk: "ssd" } } }],
      },
      { op: "insert", table: "nodes", rows: [nodeRow(3, { admission: "pending" })] },
      { op: "insert", table: "bodies", rows: [specBody(2, { image: "registry/web:2", cpuMillis: 700, published: 8080 })] },
      {
        op: "insert",
        table: "replicas",
        rows: [
          replicaRow(1),
          replicaRow(2, { spec: hash(2), revision: 3, desired: "stop", nodeId: id("n", 9) }),
          replicaRow(3, { service: "gone" }),
        ],
      },
    ],
  });
  await must(store, observe([seen(1)]));
  const { snapshot } = await new SnapshotKeeper(store).advance();
  expect(
    snapshot.nodes.map(({ labels, declared, quarantined, reported, cpuMillis, hostname }) => ({
      labels,
      declared,
      quarantined,
      reported,
      cpuMillis,
      hostname,
    })),
  ).toEqual(
    [
      {
        labels: { zone: "a" },
        declared: { zone: "own", disk: "ssd" },
        quarantined: false,
        reported: false,
        cpuMillis: 4000,
        hostname: "host-1",
      },
      { labels: {}, declared: {}, quarantined: false, reported: false, cpuMillis: 4000, hostname: "host-2" },
      { labels: {}, declared: {}, quarantined: true, reported: false, cpuMillis: 4000, hostname: "host-3" },
    ].toSorted(
      (a, b) =>
        snapshot.nodes.findIndex(({ hostname }) => hostname === a.hostname) -
        snapshot.nodes.findIndex(({ hostname }) => hostname === b.hostname),
    ),
  );
  expect(replicaIn(snapshot, 1)).toEqual({
    service: "web",
    node: "node-1",
    image: "",
    run: 1,
    state: 3,
    fault: "",
    readySinceMs: 5,
    cpuMillis: 50,
    hostPorts: [],
  });
  expect(replicaIn(snapshot, 2)).toEqual({
    service: "web",
    node: null,
    image: "",
    run: 0,
    state: 0,
    fault: "",
    readySinceMs: Number.NaN,
    cpuMillis: 700,
    hostPorts: [{ port: 8080, protocol: "tcp", hostIp: "" }],
  });
  expect(replicaIn(snapshot, 3)).toMatchObject({ service: null, node: "node-1" });
});

test("a resolved image reaches its service and its replicas, another revision's does not", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const keeper = new SnapshotKeeper(store);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1), replicaRow(2, { revision: 7 })] }] });
  await keeper.advance();
  const key = { appId: id("app", 1), revision: 2, reference: "registry/web:1" };
  await must(store, { changes: [{ op: "update", table: "images", rows: [{ ...key, resolver: id("n", 1) }] }] });
  const asked = (await keeper.advance()).snapshot;
  expect(asked.services[0]).toMatchObject({ image: "", resolver: id("n", 1) });
  expect(asked.unresolved.map(({ revision, reference, resolver }) => [revision, reference, resolver])).toEqual([
    [2, "registry/web:1", id("n", 1)],
    [7, "registry/web:1", null],
  ]);
  await must(store, { changes: [{ op: "update", table: "images", rows: [{ ...key, imageId: "sha256:id" }] }] });
  const { snapshot } = await keeper.advance();
  expect(snapshot.services[0]).toMatchObject({ image: "sha256:id" });
  expect([replicaIn(snapshot, 1)?.image, replicaIn(snapshot, 2)?.image]).toEqual(["sha256:id", ""]);
  expect(snapshot.unresolved.map(({ revision }) => revision)).toEqual([7]);
  await must(store, { changes: [{ op: "update", table: "images", rows: [{ ...key, digest: "sha256:digest" }] }] });
  expect((await keeper.advance()).snapshot.services[0]).toMatchObject({ image: "sha256:digest" });
});

test("a node has reported when its present session's complete report is in; its engine answers when it last said so", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const keeper = new SnapshotKeeper(store);
  const reported = async () => {
    const node = (await keeper.advance()).snapshot.nodes.find((candidate) => candidate.id === id("n", 1))!;
    return [node.reported, node.engineReachable];
  };
  const report = (session: number, complete: boolean, engineReachable = true) =>
    must(store, {
      advance: "observed",
      changes: [
        {
          op: "insert",
          table: "nodeReports",
          onConflict: "replace",
          rows: [
            {
              nodeId: id("n", 1),
              session,
              seq: 1,
              generation: 0,
              complete,
              engineReachable,
              engineMessage: "",
              asOfMs: NOW,
              mark: MARK,
            },
          ],
        },
      ],
    });
  expect(await reported()).toEqual([false, false]);
  await report(1, false);
  expect(await reported()).toEqual([false, true]);
  await report(1, true);
  expect(await reported()).toEqual([true, true]);
  await must(store, { changes: [{ op: "update", table: "nodes", rows: [{ id: id("n", 1), session: 5 }] }] });
  expect(await reported()).toEqual([false, true]);
  await report(5, true, false);
  expect(await reported()).toEqual([true, false]);
  await report(5, true);
  expect(await reported()).toEqual([true, true]);
});

test("the newest deployment of an app: running, failed, or neither", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const keeper = new SnapshotKeeper(store);
  const shown = async () => {
    const { snapshot } = await keeper.advance();
    return { running: snapshot.deployments.map(({ id }) => id), failed: snapshot.failed };
  };
  await must(store, { changes: [{ op: "insert", table: "deployments", rows: [deploymentRow(1, 1)] }] });
  expect(await shown()).toEqual({ running: [id("d", 1)], failed: [] });
  await must(store, { changes: [{ op: "update", table: "deployments", rows: [{ id: id("d", 1), state: "failed" }] }] });
  expect(await shown()).toEqual({ running: [], failed: [{ appId: id("app", 1), revision: 2 }] });
  await must(store, { changes: [{ op: "insert", table: "deployments", rows: [deploymentRow(1, 2, { revision: 3 })] }] });
  expect(await shown()).toEqual({ running: [id("d", 2)], failed: [] });
  // The older one moves once more: it is still not the newest.
  await must(store, { changes: [{ op: "update", table: "deployments", rows: [{ id: id("d", 1), message: "x" }] }] });
  expect(await shown()).toEqual({ running: [id("d", 2)], failed: [] });
  await must(store, { changes: [{ op: "update", table: "deployments", rows: [{ id: id("d", 2), state: "succeeded" }] }] });
  expect(await shown()).toEqual({ running: [], failed: [] });
});

test("a rollback is owed by the newest deployment of an app, while that has failed and the app is to stay", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const keeper = new SnapshotKeeper(store);
  const owed = async () => (await keeper.advance()).snapshot.rollbacks;
  const failed = { state: "failed", rollbackTo: 1 } as const;
  await must(store, { changes: [{ op: "insert", table: "deployments", rows: [deploymentRow(1, 1, { ...failed, state: "running" })] }] });
  expect(await owed()).toEqual([]);
  await must(store, { changes: [{ op: "update", table: "deployments", rows: [{ id: id("d", 1), state: "failed" }] }] });
  expect(await owed()).toEqual([id("d", 1)]);
  expect((await new SnapshotKeeper(store).advance()).snapshot.rollbacks).toEqual([id("d", 1)]);
  await must(store, { changes: [{ op: "update", table: "apps", rows: [{ id: id("app", 1), deleting: true }] }] });
  expect(await owed()).toEqual([]);
  await must(store, { changes: [{ op: "update", table: "apps", rows: [{ id: id("app", 1), deleting: false }] }] });
  await must(store, { changes: [{ op: "update", table: "deployments", rows: [{ id: id("d", 1), rollbackTo: null }] }] });
  expect(await owed()).toEqual([]);
  await must(store, {
    changes: [
      { op: "insert", table: "deployments", rows: [deploymentRow(1, 2, { ...failed, revision: 3 }), deploymentRow(1, 3, { revision: 4 })] },
    ],
  });
  expect(await owed()).toEqual([]);
});

test("F44: what was written before the database's clock was put back counts from when that is seen, and not anew each time", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const hourAheadMs = Date.now() + 3_600_000;
  await must(store, {
    changes: [
      { op: "insert", table: "replicas", rows: [replicaRow(1, { assignedMs: hourAheadMs })] },
      { op: "insert", table: "deployments", rows: [deploymentRow(1, 1, { startedMs: hourAheadMs })] },
    ],
  });
  await must(store, observe([seen(1, { readySinceMs: hourAheadMs })]));
  const keeper = new SnapshotKeeper(store);
  const times = ({ replicas, deployments }: ClusterSnapshot) => [
    replicas.assignedMs[0],
    replicas.readySinceMs[0],
    ...deployments.map(({ startedMs }) => startedMs),
  ];
  const { snapshot, nowMs } = await keeper.advance();
  expect(times(snapshot)).toEqual([nowMs, nowMs, nowMs]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(times((await keeper.advance()).snapshot)).toEqual([nowMs, nowMs, nowMs]);
});

test("nothing new is one read and the same answer; anything new is not missed", async () => {
  const { store, database } = await memoryStore();
  await seed(store);
  const keeper = new SnapshotKeeper(store);
  const { snapshot: first } = await keeper.advance();
  let reads = 0;
  const read = database.read.bind(database);
  database.read = (statements) => {
    reads += statements.length;
    return read(statements);
  };
  expect((await keeper.advance()).snapshot).toBe(first);
  expect(reads).toBe(1);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1)] }] });
  expect(replicaIn((await keeper.advance()).snapshot, 1)).toMatchObject({ state: 0 });
  await must(store, observe([seen(1, { state: "failed", readySinceMs: null })]));
  expect(replicaIn((await keeper.advance()).snapshot, 1)).toMatchObject({ state: 7, readySinceMs: Number.NaN });
});

test.each<[string, Partial<NewRow<"observations">>, string]>([
  ["an image that its registry refuses", { state: "preparing", reason: "pullDenied", message: "no login" }, "no login"],
  ["an image that is nowhere", { state: "preparing", reason: "imageNotFound", message: "none" }, "none"],
  ["a pull that may work the next time", { state: "preparing", reason: "pullFailed", message: "no route" }, ""],
  ["a rejection", { state: "rejected", reason: "policy", message: "not here" }, "not here"],
  ["a container that ended", { state: "failed", reason: "exited", message: "exit code 3" }, ""],
])("%s as the fault of a replica, with its row and after it", async (_name, over, fault) => {
  const { store } = await memoryStore();
  await seed(store);
  const keeper = new SnapshotKeeper(store);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1)] }] });
  expect(replicaIn((await keeper.advance()).snapshot, 1)).toMatchObject({ fault: "" });
  await must(store, observe([seen(1, over)]));
  expect(replicaIn((await keeper.advance()).snapshot, 1)).toMatchObject({ fault });
  expect(replicaIn((await new SnapshotKeeper(store).advance()).snapshot, 1)).toMatchObject({ fault });
});

test("a row that goes, comes back and goes again is gone", async () => {
  const { store } = await memoryStore();
  await seed(store);
  const keeper = new SnapshotKeeper(store);
  const ids = async () => [...(await keeper.advance()).snapshot.replicas.id];
  for (let round = 0; round < 3; round++) {
    await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1)] }] });
    expect(await ids()).toEqual([id("r", 1)]);
    await must(store, { changes: [{ op: "delete", table: "replicas", keys: [{ id: id("r", 1) }] }] });
    expect(await ids()).toEqual([]);
  }
});

test("a keeper that was away longer than the tombstones were kept begins again", async () => {
  const { store, database } = await memoryStore();
  await seed(store);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1), replicaRow(2)] }] });
  const keeper = new SnapshotKeeper(store);
  await keeper.advance();
  const { rev } = await must(store, {
    changes: [
      { op: "delete", table: "replicas", keys: [{ id: id("r", 1) }] },
      { op: "delete", table: "nodes", keys: [{ id: id("n", 2) }] },
    ],
  });
  await database.write(["delete from tombstones", { sql: "update cluster set feed_floor = ?", args: [rev] }]);
  await must(store, { changes: [] });
  expect(normal((await keeper.advance()).snapshot)).toEqual(await fullLoad(store));
  // At the floor nothing was missed: it goes on from where it is.
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: [replicaRow(3)] }] });
  expect((await keeper.advance()).snapshot.replicas.id.toSorted()).toEqual([id("r", 2), id("r", 3)]);
});

/** Any history over few enough objects that they meet again: rows come, change, go and come back. */
const number = (max: number) => fc.integer({ min: 1, max });
const REPLICAS = 5;
/** Place of the step that puts a replica; the next two end and observe one. */
const REPLICA_STEP = 7;
const steps: fc.Arbitrary<Mutation>[] = [
  fc
    .record({
      a: number(3),
      site: fc.constantFrom("default", "b"),
      status: fc.constantFrom("ready" as const, "lost" as const),
      session: number(3),
    })
    .map(({ a, ...row }) => change({ op: "insert", table: "nodes", onConflict: "replace", rows: [nodeRow(a, row)] })),
  number(3).map((a) => change({ op: "delete", table: "nodes", keys: [{ id: id("n", a) }] })),
  fc.record({ a: number(3), session: number(3), complete: fc.boolean() }).map(
    ({ a, ...row }): Mutation => ({
      advance: "observed",
      changes: [
        {
          op: "insert",
          table: "nodeReports",
          onConflict: "replace",
          rows: [{ nodeId: id("n", a), seq: 1, generation: 0, engineReachable: true, engineMessage: "", asOfMs: 1, mark: MARK, ...row }],
        },
      ],
    }),
  ),
  fc
    .record({ a: number(3), name: fc.constantFrom("web", "db"), replicas: number(9), revision: number(3) })
    .map(({ a, name, ...row }) => change({ op: "insert", table: "services", onConflict: "replace", rows: [serviceRow(a, name, row)] })),
  fc
    .record({ a: number(3), name: fc.constantFrom("web", "db") })
    .map(({ a, name }) => change({ op: "delete", table: "services", keys: [{ appId: id("app", a), name }] })),
  fc
    .record({ a: number(3), deleting: fc.boolean() })
    .map(({ a, deleting }) => change({ op: "insert", table: "apps", onConflict: "replace", rows: [appRow(a, { deleting })] })),
  number(3).map((a) => change({ op: "delete", table: "apps", keys: [{ id: id("app", a) }] })),
  fc
    .record({
      r: number(REPLICAS),
      a: number(3),
      service: fc.constantFrom("web", "db"),
      n: number(4),
      spec: number(4),
      revision: number(3),
      desired: fc.constantFrom("run" as const, "stop" as const),
    })
    .map(({ r, a, n, spec, ...row }) =>
      change({
        op: "insert",
        table: "replicas",
        onConflict: "replace",
        rows: [replicaRow(r, { ...row, appId: id("app", a), nodeId: id("n", n), spec: hash(spec) })],
      }),
    ),
  number(REPLICAS).map(
    (r): Mutation => ({
      advance: "both",
      changes: [
        { op: "delete", table: "replicas", keys: [{ id: id("r", r) }] },
        { op: "delete", table: "observations", keys: [{ replica: id("r", r) }] },
      ],
    }),
  ),
  fc
    .record({ r: number(REPLICAS), state: fc.constantFrom("running", "failed"), restarts: number(3), ready: fc.boolean() })
    .map(({ r, state, restarts, ready }) => observe([seen(r, { state, restarts, readySinceMs: ready ? 5 : null })])),
  fc.record({ a: number(3), revision: number(3), digest: fc.constantFrom(null, "sha256:a", "sha256:b") }).map(({ a, revision, digest }) =>
    change({
      op: "insert",
      table: "images",
      onConflict: "replace",
      rows: [{ appId: id("app", a), revision, reference: "registry/web:1", digest, imageId: null, resolver: null }],
    }),
  ),
  fc
    .record({ a: number(3), revision: number(3) })
    .map(({ a, revision }) => change({ op: "delete", table: "images", keys: [{ appId: id("app", a), revision }] })),
  fc.record({ a: number(3), slot: fc.constantFrom("1", "2"), n: number(3) }).map(({ a, slot, n }) =>
    change({
      op: "insert",
      table: "volumes",
      onConflict: "replace",
      rows: [{ namespace: "default", app: `app-${a}`, service: "db", slot, volume: "data", nodeId: id("n", n), engineName: "e" }],
    }),
  ),
  number(3).map((a) => change({ op: "delete", table: "volumes", keys: [{ namespace: "default", app: `app-${a}` }] })),
  number(3).map((n) => change({ op: "insert", table: "volumeDrops", onConflict: "keep", rows: [{ nodeId: id("n", n), engineName: "e" }] })),
  number(3).map((n) => change({ op: "delete", table: "volumeDrops", keys: [{ nodeId: id("n", n) }] })),
  fc
    .record({ a: number(3), name: fc.constantFrom("a", "b") })
    .map(({ a, name }) =>
      change({ op: "insert", table: "sites", onConflict: "replace", rows: [{ name, labels: { v: String(a) }, createdMs: 0 }] }),
    ),
  fc.constantFrom("a", "b").map((name) => change({ op: "delete", table: "sites", keys: [{ name }] })),
  // Revisions only rise, and an app's deployments go with it at once.
  fc
    .record({ a: number(3), state: fc.constantFrom("running" as const, "failed" as const, "succeeded" as const) })
    .map(({ a, state }) => change({ op: "insert", table: "deployments", onConflict: "replace", rows: [deploymentRow(a, a, { state })] })),
  number(3).map((a) => change({ op: "delete", table: "deployments", keys: [{ appId: id("app", a) }] })),
];
/** Replicas move the most, and their removal moves others' places. */
const OFTEN: ReadonlySet<number> = new Set([REPLICA_STEP, REPLICA_STEP + 1, REPLICA_STEP + 2]);
const step = fc.oneof(...steps.map((arbitrary, i) => ({ arbitrary, weight: OFTEN.has(i) ? 8 : 1 })));
const change = (row: RowChange): Mutation => ({ changes: [row] });
/** null: the keeper looks. */
const history = fc.array(fc.oneof({ weight: 3, arbitrary: step }, { weight: 1, arbitrary: fc.constant(null) }), {
  minLength: 1,
  maxLength: 60,
  // Else they are of ten steps, in which nothing meets again.
  size: "max",
});

test.for([undefined, 2])("following the feed shows what a full load shows, pages of %s rows", { timeout: 300_000 }, async (pageRows) => {
  await fc.assert(
    fc.asyncProperty(history, async (mutations) => {
      const { store, database } = await memoryStore();
      await must(store, {
        changes: [{ op: "insert", table: "bodies", rows: [specBody(1), specBody(2, { cpuMillis: 9 }), specBody(3, { published: 80 })] }],
      });
      const keeper = new SnapshotKeeper(store, pageRows);
      for (const mutation of mutations) {
        if (mutation === null) await keeper.advance();
        else await must(store, mutation);
      }
      expect(normal((await keeper.advance()).snapshot)).toEqual(await fullLoad(store));
      await database.close();
    }),
    { numRuns: 60 },
  );
});

test("a table that changes between two pages is still seen whole", async () => {
  const { store, database } = await memoryStore();
  await seed(store);
  await must(store, { changes: [{ op: "insert", table: "replicas", rows: Array.from({ length: 40 }, (_, i) => replicaRow(i)) }] });
  const keeper = new SnapshotKeeper(store, 7);
  const read = database.read.bind(database);
  let turn = 0;
  database.read = async (statements) => {
    const results = await read(statements);
    turn++;
    // Behind the reader, ahead of it, and anew.
    const meanwhile: RowChange[] = [
      { op: "delete", table: "replicas", keys: [{ id: id("r", turn) }, { id: id("r", 39 - turn) }] },
      { op: "insert", table: "replicas", onConflict: "replace", rows: [replicaRow(turn - 1, { slot: "again" })] },
    ];
    if (turn < 5) await must(store, { changes: meanwhile });
    return results;
  };
  const { snapshot } = await keeper.advance();
  expect(turn).toBeGreaterThan(5);
  expect(normal(snapshot)).toEqual(await fullLoad(store));
});
