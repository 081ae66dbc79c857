import { expect, test } from "vitest";
import type { Change, ClusterPlan } from "../../shared/plan/change.ts";
import type { Explanation } from "../../shared/plan/explanation.ts";
import { PlanApplier } from "../../worker/store/apply-plan.ts";
import { MARK, NOW } from "../../worker/store/commit-types.ts";
import {
  appRevisions,
  apps,
  deployments,
  endedReplicas,
  events,
  explanations,
  images,
  nodes,
  observations,
  replicas,
  services,
  volumeDrops,
  volumes,
} from "../../worker/store/schema.ts";
import { SnapshotKeeper } from "../../worker/store/snapshot.ts";
import type { Store } from "../../worker/store/store.ts";
import { appRow, deploymentRow, hash, id, memoryStore, must, nodeRow, seed, serviceRow } from "./fixtures.ts";

const APP = id("app", 1);
const assign = (replica: number, node: number, over: Partial<Extract<Change, { kind: "assign" }>> = {}): Change => ({
  kind: "assign",
  replica: id("r", replica),
  appId: APP,
  service: "web",
  slot: String(replica),
  nodeId: id("n", node),
  spec: hash(1),
  revision: 2,
  attempt: 0,
  reason: "initial",
  ...over,
});
const stop = (replica: number, node: number): Change => ({
  kind: "stop",
  replica: id("r", replica),
  nodeId: id("n", node),
  reason: "scale",
});
const end = (replica: number, node: number | null): Change => ({
  kind: "end",
  replica: id("r", replica),
  nodeId: node === null ? null : id("n", node),
  reason: "replace",
});

async function world(nodeCount = 3) {
  const { store, database } = await memoryStore();
  await seed(store, nodeCount);
  const keeper = new SnapshotKeeper(store);
  const applier = new PlanApplier(store, 10);
  /** A plan of these changes made now, to be applied later. */
  const plan = async (changes: Change[], explained: Explanation[] = []) => {
    const { snapshot } = await keeper.advance();
    const made: ClusterPlan = { rev: snapshot.rev, changes, wakeAtMs: null, explanations: explained };
    return () => applier.apply(snapshot, made);
  };
  const apply = async (...changes: Change[]) => (await plan(changes))();
  return { store, database, keeper, applier, plan, apply };
}
const all = (store: Store) => store.db.select().from(replicas).orderBy(replicas.id);
const generations = async (store: Store) =>
  (await store.db.select({ generation: nodes.generation }).from(nodes).orderBy(nodes.id)).map(({ generation }) => generation);

test("an empty plan commits nothing", async () => {
  const { store, apply } = await world();
  const rev = (await store.marks()).rev;
  expect(await apply()).toEqual({ kind: "unchanged" });
  expect((await store.marks()).rev).toBe(rev);
});

test("assign: the row, the node's generation, an event", async () => {
  const { store, apply } = await world();
  const result = await apply(assign(1, 1), assign(2, 3, { reason: "nodeLost", attempt: 2 }));
  expect(result).toMatchObject({ kind: "committed" });
  const { rev } = result as { rev: number };
  const rows = await all(store);
  expect(rows).toMatchObject([
    {
      id: id("r", 1),
      appId: APP,
      service: "web",
      slot: "1",
      nodeId: id("n", 1),
      spec: hash(1),
      revision: 2,
      desired: "run",
      reason: "initial",
      attempt: 0,
      stoppedMs: null,
      rev,
    },
    { id: id("r", 2), nodeId: id("n", 3), reason: "nodeLost", attempt: 2 },
  ]);
  expect(Math.abs((await store.marks()).nowMs - rows[0]!.assignedMs)).toBeLessThan(5_000);
  expect(await generations(store)).toEqual([rev, 0, rev]);
  expect(
    (await store.db.select().from(events)).map(({ level, message, objectKind, namespace, app }) => ({
      level,
      message,
      objectKind,
      namespace,
      app,
    })),
  ).toEqual([
    { level: "info", message: "web.1 is assigned to node-1 (initial)", objectKind: "replica", namespace: "default", app: "app-1" },
    { level: "warning", message: "web.2 is assigned to node-3 (nodeLost)", objectKind: "replica", namespace: "default", app: "app-1" },
  ]);
});

test("stop keeps the row until the node says so; end does not", async () => {
  const { store, apply } = await world();
  await apply(assign(1, 1), assign(2, 2), assign(3, 2));
  await must(store, {
    advance: "observed",
    changes: [
      {
        op: "insert",
        table: "observations",
        rows: [
          {
            replica: id("r", 2),
            nodeId: id("n", 2),
            session: 1,
            seq: 1,
            state: "failed",
            reason: "",
            message: "boom",
            containerId: null,
            health: "none",
            readySinceMs: null,
            restarts: 0,
            exitCode: 9,
            oomKilled: false,
            ports: [],
            pull: null,
            logTail: ["x"],
            asOfMs: NOW,
            mark: MARK,
          },
        ],
      },
    ],
  });
  const { rev } = (await apply(stop(1, 1), end(2, 2), end(3, null))) as { rev: number };
  expect(await all(store)).toMatchObject([{ id: id("r", 1), desired: "stop", reason: "scale", rev }]);
  expect(await store.db.select().from(endedReplicas).orderBy(endedReplicas.id)).toMatchObject([
    { id: id("r", 2), state: "failed", message: "boom", exitCode: 9, logTail: ["x"], reason: "replace", rev },
    { id: id("r", 3), state: "assigned", message: "" },
  ]);
  expect(await store.db.$count(observations)).toBe(0);
  expect(await generations(store)).toEqual([rev, rev, 0]);
});

test("of two planners with the same view one commits, and the cluster is as if it had been alone (I16, F36)", async () => {
  const { store, plan } = await world();
  const [first, second] = [await plan([assign(1, 1)]), await plan([assign(2, 2)])];
  const results = await Promise.all([first(), second()]);
  expect(results.map(({ kind }) => kind).sort()).toEqual(["committed", "conflict"]);
  expect(await all(store)).toHaveLength(1);
});

test.for([
  ["its node was cordoned", { op: "update", table: "nodes", rows: [{ id: id("n", 1), availability: "cordoned" as const }] }],
  ["its node was removed", { op: "delete", table: "nodes", keys: [{ id: id("n", 1) }] }],
  ["its service was scaled", { op: "update", table: "services", rows: [{ appId: APP, name: "web", replicas: 0 }] }],
  ["its service was removed", { op: "delete", table: "services", keys: [{ appId: APP, name: "web" }] }],
  ["its app is to go", { op: "update", table: "apps", rows: [{ id: APP, deleting: true }] }],
] as const)("an assignment is refused when %s in between", async ([, change]) => {
  const { store, plan } = await world();
  const apply = await plan([assign(1, 1)]);
  await must(store, { changes: [change] });
  expect(await apply()).toMatchObject({ kind: "conflict", committedChunks: 0 });
  expect(await all(store)).toEqual([]);
});

test.for([
  ["has returned", { op: "update", table: "nodes", rows: [{ id: id("n", 1), status: "ready" as const }] }, "conflict"],
  ["was removed", { op: "delete", table: "nodes", keys: [{ id: id("n", 1) }] }, "conflict"],
  ["has another label", { op: "update", table: "nodes", rows: [{ id: id("n", 1), labels: { disk: "ssd" } }] }, "committed"],
] as const)("a slot whose lost node %s in between is placed again only while that is lost (I24)", async ([, change, kind]) => {
  const { store, plan, apply } = await world();
  await apply(assign(1, 1, { slot: "0" }));
  await must(store, { changes: [{ op: "update", table: "nodes", rows: [{ id: id("n", 1), status: "lost" }] }] });
  const again = await plan([assign(2, 2, { slot: "0", reason: "nodeLost" })]);
  await must(store, { changes: [change] });
  expect(await again()).toMatchObject({ kind });
});

test("what a plan did not rely on may move", async () => {
  const { store, plan } = await world();
  const apply = await plan([assign(1, 1)]);
  await must(store, {
    changes: [
      { op: "update", table: "nodes", rows: [{ id: id("n", 2), availability: "cordoned" }] },
      { op: "insert", table: "apps", rows: [appRow(2)] },
    ],
  });
  expect(await apply()).toMatchObject({ kind: "committed" });
});

test("a stop of what its node has ended meanwhile is a conflict, an end is not", async () => {
  const { store, plan, apply } = await world();
  await apply(assign(1, 1), assign(2, 1));
  const [stopping, ending] = [await plan([stop(1, 1)]), await plan([end(2, 1)])];
  await must(store, { changes: [{ op: "delete", table: "replicas", keys: [{ id: id("r", 1) }, { id: id("r", 2) }] }] });
  expect(await stopping()).toMatchObject({ kind: "conflict" });
  expect(await ending()).toMatchObject({ kind: "committed" });
  expect(await store.db.select().from(endedReplicas)).toEqual([]);
});

test("a large plan is committed in chunks, ends and stops first", async () => {
  const { store, apply, database } = await world(30);
  await apply(...Array.from({ length: 8 }, (_, i) => assign(i, 1 + i)));
  const after: { running: number; stopping: number }[] = [];
  const write = database.write.bind(database);
  database.write = async (statements) => {
    const results = await write(statements);
    const rows = await all(store);
    after.push({
      running: rows.filter(({ desired }) => desired === "run").length,
      stopping: rows.filter(({ desired }) => desired === "stop").length,
    });
    return results;
  };
  const changes = [
    ...Array.from({ length: 24 }, (_, i) => assign(100 + i, 30 - i)),
    ...Array.from({ length: 8 }, (_, i) => stop(i, 1 + i)),
  ];
  expect(await apply(...changes)).toMatchObject({ kind: "committed" });
  expect(after).toEqual([
    { running: 2, stopping: 8 },
    { running: 12, stopping: 8 },
    { running: 22, stopping: 8 },
    { running: 24, stopping: 8 },
  ]);
});

test("killed between two chunks, what is there is valid and the next plan goes on (F35)", async () => {
  const { store, plan, apply, database, keeper } = await world(30);
  const changes = Array.from({ length: 25 }, (_, i) => assign(i, 1 + i));
  const attempt = await plan(changes);
  const write = database.write.bind(database);
  let writes = 0;
  database.write = (statements) => (++writes === 2 ? Promise.reject(new Error("killed")) : write(statements));
  await expect(attempt()).rejects.toThrow("killed");
  database.write = write;
  const rows = await all(store);
  expect(rows).toHaveLength(10);
  // Each node that has one was rung for it.
  const rung = (await store.db.select().from(nodes)).filter(({ generation }) => generation > 0).map(({ id }) => id);
  expect(rung.sort()).toEqual(rows.map(({ nodeId }) => nodeId).sort());
  const { snapshot } = await keeper.advance();
  const missing = changes.filter((change) => change.kind === "assign" && !snapshot.replicas.id.includes(change.replica));
  expect(await apply(...missing)).toMatchObject({ kind: "committed" });
  expect(await all(store)).toHaveLength(25);
});

test("a later chunk that conflicts leaves the earlier ones, and says how many", async () => {
  const { store, plan, database } = await world(30);
  const attempt = await plan(Array.from({ length: 25 }, (_, i) => assign(i, 1 + i)));
  const write = database.write.bind(database);
  let writes = 0;
  database.write = async (statements) => {
    const results = await write(statements);
    // The last node's row moves after the first chunk.
    if (++writes === 1)
      await must(store, { changes: [{ op: "update", table: "nodes", rows: [{ id: id("n", 25), availability: "cordoned" }] }] });
    return results;
  };
  expect(await attempt()).toMatchObject({ kind: "conflict", committedChunks: 2 });
  expect(await all(store)).toHaveLength(20);
});

test("a narrow plan leaves out the app whose rows move all the time, and no other", async () => {
  const { store, keeper, applier } = await world(30);
  const others = Array.from({ length: 8 }, (_, i) => i + 2);
  await must(store, {
    changes: [
      { op: "insert", table: "apps", rows: others.map((a) => appRow(a)) },
      { op: "insert", table: "services", rows: others.map((a) => serviceRow(a, "web")) },
      { op: "insert", table: "deployments", rows: [deploymentRow(9, 9)] },
    ],
  });
  const { snapshot } = await keeper.advance();
  const changes: Change[] = [1, ...others].flatMap((a) => [
    assign(a, a, { appId: id("app", a) }),
    assign(a + 10, 10 + a, { appId: id("app", a) }),
  ]);
  changes.push(...Array.from({ length: 11 }, (_, i) => assign(40 + i, 20, { appId: id("app", 5) })));
  changes.push({ kind: "deployment", id: id("d", 9), appId: id("app", 9), state: "failed", message: "", rollbackTo: 1 });
  const made: ClusterPlan = { rev: snapshot.rev, changes, wakeAtMs: null, explanations: [] };
  await must(store, { changes: [{ op: "update", table: "apps", rows: [{ id: id("app", 2), revision: 3 }] }] });
  expect(await applier.apply(snapshot, made)).toMatchObject({ kind: "conflict", committedChunks: 0 });
  expect(await applier.apply(snapshot, made, "narrow")).toMatchObject({
    kind: "conflict",
    rev: (await store.marks()).rev,
  });
  expect((await keeper.advance()).snapshot.rollbacks).toEqual([id("d", 9)]);
  const placed = new Set((await all(store)).map(({ appId }) => appId));
  expect(placed).toEqual(new Set([1, 3, 4, 5, 6, 7, 8, 9].map((a) => id("app", a))));
  expect(await all(store)).toHaveLength(16 + 11);
});

test("a narrow plan ends when another plan was committed, and is committed whole where nothing moved", async () => {
  const { store, keeper, applier, apply } = await world();
  await must(store, {
    changes: [
      { op: "insert", table: "apps", rows: [appRow(2)] },
      { op: "insert", table: "services", rows: [serviceRow(2, "web")] },
    ],
  });
  const { snapshot } = await keeper.advance();
  const changes = [assign(1, 1), assign(2, 2, { appId: id("app", 2) })];
  const made: ClusterPlan = { rev: snapshot.rev, changes, wakeAtMs: null, explanations: [] };
  expect(await applier.apply(snapshot, made, "narrow")).toMatchObject({ kind: "committed" });
  await apply(assign(3, 3));
  expect(
    await applier.apply(snapshot, { ...made, changes: [assign(4, 1), assign(5, 2, { appId: id("app", 2) })] }, "narrow"),
  ).toMatchObject({
    kind: "conflict",
    committedChunks: 0,
    message: expect.stringContaining("another plan"),
  });
});

test("one node in several chunks: each chunk knows what the one before did to it", async () => {
  const { store, apply } = await world(1);
  expect(await apply(...Array.from({ length: 35 }, (_, i) => assign(i, 1)))).toMatchObject({ kind: "committed" });
  expect(await all(store)).toHaveLength(35);
  expect(await generations(store)).toEqual([(await store.marks()).rev]);
});

test("deployments end with a word to people, and those that failed with what they are to go back to", async () => {
  const { store, apply } = await world();
  await must(store, { changes: [{ op: "insert", table: "deployments", rows: [deploymentRow(1, 1)] }] });
  const done = (state: "succeeded" | "failed", rollbackTo: number | null): Change => ({
    kind: "deployment",
    id: id("d", 1),
    appId: APP,
    state,
    message: "web.1 failed 3 times",
    rollbackTo,
  });
  expect(await apply(done("failed", 1))).toMatchObject({ kind: "committed" });
  const [row] = await store.db.select().from(deployments);
  expect(row).toMatchObject({ state: "failed", message: "web.1 failed 3 times", rollbackTo: 1 });
  expect(row!.finishedMs).toBeGreaterThan(0);
  expect((await store.db.select().from(events)).map(({ type, level, objectKind }) => [type, level, objectKind])).toEqual([
    ["failed", "error", "deployment"],
  ]);
});

test("a deployment that was superseded meanwhile is not ended again", async () => {
  const { store, plan } = await world();
  await must(store, { changes: [{ op: "insert", table: "deployments", rows: [deploymentRow(1, 1)] }] });
  const apply = await plan([{ kind: "deployment", id: id("d", 1), appId: APP, state: "succeeded", message: "", rollbackTo: null }]);
  await must(store, { changes: [{ op: "update", table: "deployments", rows: [{ id: id("d", 1), state: "superseded" }] }] });
  expect(await apply()).toMatchObject({ kind: "conflict" });
});

test("volumes are bound, the resolver is named, and a digest that came in meanwhile stays", async () => {
  const { store, plan } = await world();
  const digest = `sha256:${"a".repeat(64)}`;
  const apply = await plan([
    { kind: "bindVolume", appId: APP, service: "web", slot: "1", volume: "data", engineName: "e", nodeId: id("n", 1) },
    { kind: "resolver", appId: APP, revision: 2, reference: "registry/web:1", nodeId: id("n", 2) },
  ]);
  await must(store, {
    changes: [{ op: "update", table: "images", rows: [{ appId: APP, revision: 2, reference: "registry/web:1", digest }] }],
  });
  const { rev } = (await apply()) as { rev: number };
  expect(await store.db.select().from(volumes)).toMatchObject([
    { namespace: "default", app: "app-1", slot: "1", volume: "data", nodeId: id("n", 1), engineName: "e" },
  ]);
  expect(await store.db.select().from(images)).toMatchObject([{ digest, resolver: id("n", 2) }]);
  expect((await generations(store))[1]).toBe(rev);
});

test("a removed app takes all that is its own, and drops its volumes when asked to", async () => {
  const { store, apply } = await world();
  await must(store, {
    changes: [
      { op: "insert", table: "apps", rows: [appRow(2)] },
      { op: "insert", table: "services", rows: [serviceRow(2, "web"), serviceRow(1, "db")] },
      { op: "update", table: "apps", rows: [{ id: APP, deleting: true, deleteVolumes: true }] },
      {
        op: "insert",
        table: "appRevisions",
        rows: [
          {
            appId: APP,
            revision: 2,
            spec: { name: "app-1", services: {}, volumes: {}, configs: {} },
            createdBy: "t",
            createdMs: 0,
            message: "",
          },
        ],
      },
      { op: "insert", table: "deployments", rows: [deploymentRow(1, 1), deploymentRow(2, 2)] },
      {
        op: "insert",
        table: "volumes",
        rows: [
          {
            namespace: "default",
            app: "app-1",
            service: "web",
            slot: "1",
            volume: "data",
            nodeId: id("n", 2),
            engineName: "berth_default_app-1_data",
          },
          {
            namespace: "default",
            app: "app-1",
            service: "db",
            slot: "1",
            volume: "data",
            nodeId: id("n", 2),
            engineName: "berth_default_app-1_data",
          },
          {
            namespace: "default",
            app: "app-1",
            service: "web",
            slot: "1",
            volume: "shared",
            nodeId: id("n", 2),
            engineName: "somebody-elses",
          },
          {
            namespace: "default",
            app: "app-1",
            service: "web",
            slot: "2",
            volume: "data",
            nodeId: id("n", 77),
            engineName: "berth_default_app-1_data",
          },
          {
            namespace: "other",
            app: "app-1",
            service: "web",
            slot: "1",
            volume: "data",
            nodeId: id("n", 1),
            engineName: "berth_other_app-1_data",
          },
        ],
      },
    ],
  });
  const { rev } = (await apply({ kind: "removeService", appId: id("app", 2), service: "web" }, { kind: "removeApp", appId: APP })) as {
    rev: number;
  };
  expect((await store.db.select({ id: apps.id }).from(apps)).map(({ id }) => id)).toEqual([id("app", 2)]);
  for (const table of [services, appRevisions, images]) expect(await store.db.$count(table)).toBe(0);
  expect(await store.db.select({ namespace: volumes.namespace }).from(volumes)).toEqual([{ namespace: "other" }]);
  expect((await store.db.select({ id: deployments.id }).from(deployments)).map(({ id }) => id)).toEqual([id("d", 2)]);
  expect(await store.db.select().from(volumeDrops)).toMatchObject([{ nodeId: id("n", 2), engineName: "berth_default_app-1_data" }]);
  expect(await generations(store)).toEqual([0, rev, 0]);
});

test("an app that is to keep its data drops no volume, and where it is stays known", async () => {
  const { store, apply } = await world();
  await must(store, {
    changes: [
      {
        op: "insert",
        table: "volumes",
        rows: [
          {
            namespace: "default",
            app: "app-1",
            service: "web",
            slot: "1",
            volume: "data",
            nodeId: id("n", 2),
            engineName: "berth_default_app-1_data",
          },
        ],
      },
    ],
  });
  await apply({ kind: "removeApp", appId: APP });
  expect(await store.db.$count(volumeDrops)).toBe(0);
  expect(await store.db.select().from(volumes)).toMatchObject([{ namespace: "default", app: "app-1", slot: "1", nodeId: id("n", 2) }]);
});

test.for<[string, Parameters<PlanApplier["apply"]>[2]]>([
  ["whole", "whole"],
  ["narrow", "narrow"],
])("what is explained of a service that went and came again is stored again, by a %s plan", async ([, width]) => {
  const { store, keeper } = await world();
  const applier = new PlanApplier(store, 10);
  const explained: Explanation = {
    appId: APP,
    service: "web",
    atRev: 0,
    nodes: 3,
    feasible: 0,
    rejected: [],
    placed: [],
    placedTotal: 0,
    unplaced: [],
    waiting: [],
  };
  const explain = async (changes: Change[] = []) => {
    const { snapshot } = await keeper.advance();
    await applier.apply(snapshot, { rev: snapshot.rev, changes, wakeAtMs: null, explanations: [explained] }, width);
  };
  const count = async () => (await store.db.select().from(explanations)).length;
  await explain();
  expect(await count()).toBe(1);
  for (const removal of [[{ kind: "removeService", appId: APP, service: "web" }], [{ kind: "removeApp", appId: APP }]] as Change[][]) {
    await explain(removal);
    expect(await count()).toBe(0);
    await must(store, {
      changes: [
        { op: "insert", table: "apps", rows: [appRow(1)], onConflict: "replace" },
        { op: "insert", table: "services", rows: [serviceRow(1, "web")], onConflict: "replace" },
      ],
    });
    await explain();
    expect(await count()).toBe(1);
  }
});

test("what is explained of a service that has gone meanwhile is not stored, however late that comes (F39)", async () => {
  const { store, keeper } = await world();
  const { snapshot } = await keeper.advance();
  const applier = new PlanApplier(store, 10);
  const none = { nodes: 3, feasible: 0, rejected: [], placed: [], placedTotal: 0, unplaced: [], waiting: [] };
  const explained: Explanation = { appId: APP, service: "web", atRev: 0, ...none };
  const plan: ClusterPlan = { rev: snapshot.rev, changes: [], wakeAtMs: null, explanations: [explained] };
  await must(store, { changes: [{ op: "delete", table: "services", keys: [{ appId: APP, name: "web" }] }] });
  await applier.apply(snapshot, plan);
  expect(await store.db.select().from(explanations)).toEqual([]);
  await must(store, { changes: [{ op: "insert", table: "services", rows: [serviceRow(1, "web")] }] });
  await applier.apply(snapshot, plan);
  expect(await store.db.select().from(explanations)).toHaveLength(1);
});

test("explanations are stored when they say something new, and move no rev by themselves", async () => {
  const { store, plan } = await world();
  const explanation = (atRev: number, feasible: number): Explanation => ({
    appId: APP,
    service: "web",
    atRev,
    nodes: 3,
    feasible,
    rejected: [],
    placed: [],
    placedTotal: 0,
    unplaced: [],
    waiting: [],
  });
  const bodies = async () => (await store.db.select().from(explanations)).map(({ body }) => (JSON.parse(body) as Explanation).atRev);
  const rev = (await store.marks()).rev;
  expect(await (await plan([], [explanation(5, 0)]))()).toEqual({ kind: "unchanged" });
  expect(await bodies()).toEqual([5]);
  await (await plan([], [explanation(6, 0)]))();
  expect(await bodies()).toEqual([5]);
  await (await plan([], [explanation(7, 1)]))();
  expect(await bodies()).toEqual([7]);
  expect((await store.marks()).rev).toBe(rev);
  await (await plan([assign(1, 1)], [explanation(8, 2)]))();
  expect(await bodies()).toEqual([8]);
  await (await plan([{ kind: "removeApp", appId: APP }], [explanation(9, 3)]))();
  expect(await bodies()).toEqual([]);
});

test("many replicas of a service at once are one event", async () => {
  const { store, database } = await world(1);
  const { snapshot } = await new SnapshotKeeper(store).advance();
  await must(store, { changes: [{ op: "insert", table: "nodes", rows: [nodeRow(8)] }] });
  await new PlanApplier(store).apply(snapshot, {
    rev: snapshot.rev,
    changes: Array.from({ length: 500 }, (_, i) => assign(i, 1)),
    wakeAtMs: null,
    explanations: [],
  });
  expect((await store.db.select().from(events)).map(({ message, objectKind, objectId }) => ({ message, objectKind, objectId }))).toEqual([
    { message: "500 replicas of web are assigned to 1 node (initial)", objectKind: "service", objectId: `${APP}/web` },
  ]);
  expect(database.path).toBe(":memory:");
});
