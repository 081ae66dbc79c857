import { expect, test } from "vitest";
import type { AppSpec } from "../../shared/model/app.ts";
import { collect, HISTORY_AN_APP_MAX } from "../../worker/store/collect.ts";
import { MARK, type NewRow, NOW } from "../../worker/store/commit-types.ts";
import {
  appRevisions,
  bodies,
  deployments,
  events,
  images,
  joinTokens,
  observations,
  ops,
  removedNodes,
  tokens,
  tombstones,
} from "../../worker/store/schema.ts";
import { appRow, deploymentRow, hash, id, memoryStore, must, replicaRow, seed, serviceRow, specBody } from "./fixtures.ts";

const HOUR_MS = 3_600_000;
const SPEC: AppSpec = { name: "app-1", services: {}, volumes: {}, configs: {} };

/** Makes what is there `ms` older. */
const age = (database: Awaited<ReturnType<typeof memoryStore>>["database"], table: string, column: string, ms: number) =>
  database.write([{ sql: `update ${table} set ${column} = ${column} - ?`, args: [ms] }]);

test("tombstones of more than a day go, and the feed's floor rises to them", async () => {
  const { store, database } = await memoryStore();
  await seed(store);
  const drop = (name: string) => must(store, { changes: [{ op: "delete", table: "services", keys: [{ appId: id("app", 1), name }] }] });
  await must(store, { changes: [{ op: "insert", table: "services", rows: [serviceRow(1, "db")] }] });
  const { rev } = await drop("db");
  await age(database, "tombstones", "at_ms", 25 * HOUR_MS);
  await drop("web");
  expect((await collect(store)).removed.tombstones).toBe(1);
  expect((await store.db.select({ key: tombstones.key }).from(tombstones)).map(({ key }) => key)).toEqual([
    JSON.stringify([id("app", 1), "web"]),
  ]);
  expect((await store.cluster()).feedFloor).toBe(rev);
  await collect(store);
  expect((await store.cluster()).feedFloor).toBe(rev);
});

test("operations stay for as long as their ids are good", async () => {
  const { store, database } = await memoryStore();
  await must(store, { opId: `${(await store.marks()).nowMs}-a`, changes: [] });
  await age(database, "ops", "at_ms", 47 * HOUR_MS);
  await collect(store);
  expect(await store.db.$count(ops)).toBe(1);
  await age(database, "ops", "at_ms", 2 * HOUR_MS);
  await collect(store);
  expect(await store.db.$count(ops)).toBe(0);
});

test("bodies that nothing runs or shall run go after an hour, and the configs that only they mounted", async () => {
  const { store, database } = await memoryStore();
  await seed(store);
  const body = (number: number, config: number): NewRow<"bodies"> => ({
    ...specBody(number),
    body: JSON.stringify({ ...(JSON.parse(specBody(number).body) as object), configs: { file: hash(config) } }),
    createdMs: NOW,
  });
  const config = (number: number): NewRow<"bodies"> => ({ hash: hash(number), kind: "config" as const, body: "text", createdMs: NOW });
  await must(store, {
    changes: [
      { op: "insert", table: "bodies", rows: [body(2, 20), body(3, 30), body(4, 40), config(20), config(30), config(40)] },
      { op: "insert", table: "replicas", rows: [replicaRow(1, { spec: hash(2) })] },
      { op: "update", table: "services", rows: [{ appId: id("app", 1), name: "web", spec: hash(3) }] },
    ],
  });
  const hashes = async () =>
    (await store.db.select({ hash: bodies.hash }).from(bodies)).map((row) => Number.parseInt(row.hash, 16)).sort((a, b) => a - b);
  await collect(store);
  // 1 is the seed's, of 1970.
  expect(await hashes()).toEqual([2, 3, 4, 20, 30, 40]);
  await age(database, "bodies", "created_ms", 2 * HOUR_MS);
  await collect(store);
  expect(await hashes()).toEqual([2, 3, 20, 30]);
});

test("history: the newest of each app, and all that something still points at", async () => {
  const { store } = await memoryStore();
  const total = HISTORY_AN_APP_MAX + 10;
  const revisions = Array.from({ length: total }, (_, i) => i + 1);
  await must(store, {
    changes: [
      { op: "insert", table: "apps", rows: [appRow(1, { revision: total }), appRow(2, { revision: 1 })] },
      { op: "insert", table: "services", rows: [serviceRow(1, "old", { revision: 2 })] },
      { op: "insert", table: "replicas", rows: [replicaRow(1, { revision: 4 })] },
      {
        op: "insert",
        table: "appRevisions",
        rows: [...revisions, 1].map((revision, i) => ({
          appId: id("app", i < total ? 1 : 2),
          revision,
          spec: SPEC,
          createdBy: "t",
          createdMs: 0,
          message: "",
        })),
      },
      {
        op: "insert",
        table: "images",
        rows: revisions.map((revision) => ({ appId: id("app", 1), revision, reference: "r", digest: null, imageId: null, resolver: null })),
      },
      {
        op: "insert",
        table: "deployments",
        rows: revisions.map((revision) =>
          deploymentRow(1, revision, {
            revision,
            state: revision === 3 ? "running" : "succeeded",
            fromRevision: revision === 3 ? 1 : null,
          }),
        ),
      },
    ],
  });
  await collect(store);
  await collect(store);
  const kept = [1, 2, 3, 4, ...revisions.slice(10)];
  expect(
    (await store.db.select().from(appRevisions)).filter(({ appId }) => appId === id("app", 1)).map(({ revision }) => revision),
  ).toEqual(kept);
  expect(await store.db.$count(appRevisions)).toBe(kept.length + 1);
  expect((await store.db.select().from(images)).map(({ revision }) => revision)).toEqual(kept);
  expect((await store.db.select().from(deployments)).map(({ revision }) => revision)).toEqual([3, ...revisions.slice(10)]);
});

test("events of a week ago and what was seen of replicas that are no more", async () => {
  const { store, database } = await memoryStore();
  const event = (message: string) => ({
    namespace: null,
    objectKind: "node" as const,
    objectId: "x",
    app: null,
    type: "t",
    level: "info" as const,
    message,
  });
  const seen = {
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
    oomKilled: false,
    ports: [],
    pull: null,
    logTail: [],
    asOfMs: NOW,
    mark: MARK,
  } as const;
  await must(store, { changes: [], events: [event("old")] });
  await age(database, "events", "at_ms", 8 * 24 * HOUR_MS);
  await must(store, {
    advance: "both",
    changes: [
      { op: "insert", table: "replicas", rows: [replicaRow(1)] },
      {
        op: "insert",
        table: "observations",
        rows: [1, 2].map((number) => ({ ...seen, ports: [], logTail: [], replica: id("r", number) })),
      },
    ],
    events: [event("new")],
  });
  const { rev } = await store.marks();
  await collect(store);
  expect((await store.db.select().from(events)).map(({ message }) => message)).toEqual(["new"]);
  expect((await store.db.select().from(observations)).map(({ replica }) => replica)).toEqual([id("r", 1)]);
  expect((await store.marks()).rev).toBe(rev);
});

test("tokens a month after they expired, while there is one that is good", async () => {
  const { store, database } = await memoryStore();
  const nowMs = (await store.marks()).nowMs;
  const DAY_MS = 24 * HOUR_MS;
  const token = (name: string, expiresMs: number | null) => ({
    id: `t_${name}`,
    hash: name,
    name,
    role: "viewer" as const,
    namespace: null,
    createdMs: 0,
    expiresMs,
  });
  const joinToken = (name: string, expiresMs: number) => ({
    id: `jt_${name}`,
    publicKey: { kty: "OKP", crv: "Ed25519", x: "x" } as const,
    site: "default",
    labels: {},
    namePattern: null,
    needsApproval: false,
    usesMax: 1,
    uses: 1,
    createdMs: 0,
    expiresMs,
  });
  await must(store, {
    changes: [
      { op: "insert", table: "tokens", rows: [token("old", nowMs - 31 * DAY_MS), token("recent", nowMs - 29 * DAY_MS)] },
      { op: "insert", table: "joinTokens", rows: [joinToken("old", nowMs - 31 * DAY_MS), joinToken("recent", nowMs - 29 * DAY_MS)] },
      {
        op: "insert",
        table: "removedNodes",
        rows: [{ thumbprint: "x", id: id("n", 1), name: "n", removedMs: nowMs - 1_000 * DAY_MS }],
      },
    ],
  });
  const names = async () => (await store.db.select({ name: tokens.name }).from(tokens)).map(({ name }) => name).sort();
  await collect(store);
  expect(await names()).toEqual(["old", "recent"]);
  await must(store, { changes: [{ op: "insert", table: "tokens", rows: [token("good", null)] }] });
  await collect(store);
  expect(await names()).toEqual(["good", "recent"]);
  expect((await store.db.select({ id: joinTokens.id }).from(joinTokens)).map((row) => row.id)).toEqual(["jt_recent"]);
  // The key of a removed machine may never enroll again.
  expect(await store.db.$count(removedNodes)).toBe(1);
  await database.write(["update tokens set expires_ms = 0"]);
  await collect(store);
  expect((await names()).length).toBe(2);
});
