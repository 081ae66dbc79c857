/**
 * From the commit of an app to all of its replicas assigned and committed, on a real file with synchronous=FULL: the
 * store, the change feed, the planner, its lint and the plan's chunks, as the control plane runs them.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lintPlan } from "../shared/plan/lint-plan.ts";
import { planCluster } from "../shared/plan/plan-cluster.ts";
import { appRow, deploymentRow, IDENTITY, id, nodeRow, serviceRow, specBody } from "../test/store/rows.ts";
import { PlanApplier } from "../worker/store/apply-plan.ts";
import { type Mutation, NOW, REV } from "../worker/store/commit-types.ts";
import { openDatabaseFile } from "../worker/store/database-embedded.ts";
import { SnapshotKeeper } from "../worker/store/snapshot.ts";
import { Store } from "../worker/store/store.ts";
import type { Bench } from "./bench.ts";

const NODES = 5_000;
const SERVICES = 100;
const REPLICAS = 50_000;
const RUNS = 3;

interface Phases {
  put: number;
  advance: number;
  plan: number;
  lint: number;
  apply: number;
}

async function withStore<Result>(act: (store: Store) => Promise<Result>): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), "berth-bench-"));
  const database = await openDatabaseFile(join(folder, "berth.db"));
  try {
    const store = await Store.open(database);
    await store.init(IDENTITY);
    return await act(store);
  } finally {
    await database.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function commit(store: Store, mutation: Mutation): Promise<void> {
  const result = await store.commit(mutation);
  if (result.kind !== "committed") throw new Error(JSON.stringify(result));
}

/** Nodes with room for more than their share, all reported. */
async function fleet(store: Store): Promise<void> {
  const base = nodeRow(0).facts;
  const rows = Array.from({ length: NODES }, (_, n) =>
    nodeRow(n, { facts: { ...base, hostname: `host-${n}`, cpuMillis: 16_000, memoryMiB: 32_768 } }),
  );
  await commit(store, { changes: [{ op: "insert", table: "nodes", rows }] });
  const reports = rows.map(({ id }) => ({
    nodeId: id,
    session: 1,
    seq: 1,
    generation: 0,
    complete: true,
    engineReachable: true,
    engineMessage: "",
    asOfMs: 0,
    mark: 0,
  }));
  await commit(store, { advance: "observed", changes: [{ op: "insert", table: "nodeReports", rows: reports }] });
}

/** What `PUT …/apps/{app}` commits. */
function put(): Mutation {
  const app = id("app", 1);
  const names = Array.from({ length: SERVICES }, (_, n) => `web-${n}`);
  return {
    changes: [
      { op: "insert", table: "apps", rows: [appRow(1, { revision: REV })] },
      {
        op: "insert",
        table: "appRevisions",
        rows: [
          {
            appId: app,
            revision: REV,
            spec: { name: "app-1", services: {}, volumes: {}, configs: {} },
            createdBy: "bench",
            createdMs: NOW,
            message: "deploy",
          },
        ],
      },
      { op: "insert", table: "bodies", onConflict: "keep", rows: [specBody(1)] },
      { op: "insert", table: "services", rows: names.map((name) => serviceRow(1, name, { replicas: REPLICAS / SERVICES, revision: REV })) },
      {
        op: "insert",
        table: "images",
        rows: [
          { appId: app, revision: REV, reference: "registry/web:1", digest: `sha256:${"a".repeat(64)}`, imageId: null, resolver: null },
        ],
      },
      { op: "insert", table: "deployments", rows: [deploymentRow(1, 1, { revision: REV, startedMs: NOW })] },
    ],
    audit: { actor: "bench", verb: "put", namespace: "default", object: "app/app-1", detail: "" },
  };
}

async function place(phases: Phases): Promise<number> {
  return await withStore(async (store) => {
    await fleet(store);
    const keeper = new SnapshotKeeper(store);
    await keeper.advance();
    const applier = new PlanApplier(store);
    const timed = async <Result>(phase: keyof Phases, act: () => Promise<Result> | Result): Promise<Result> => {
      const startMs = performance.now();
      const result = await act();
      phases[phase] += performance.now() - startMs;
      return result;
    };
    const startMs = performance.now();
    await timed("put", () => commit(store, put()));
    const { snapshot, nowMs } = await timed("advance", () => keeper.advance());
    const plan = await timed("plan", () => planCluster(snapshot, { nowMs, idSeed: "0123456789abcdef" }));
    const violations = await timed("lint", () => lintPlan(snapshot, plan));
    if (violations.length > 0) throw new Error(String(violations[0]));
    const result = await timed("apply", () => applier.apply(snapshot, plan));
    const elapsedMs = performance.now() - startMs;
    if (result.kind !== "committed") throw new Error(JSON.stringify(result));
    const { results } = await store.readRaw(["select count(*) from replicas"]);
    if (Number(results[0]!.rows[0]![0]) !== REPLICAS) throw new Error("not all replicas were assigned");
    return elapsedMs;
  });
}

/** Bare inserts of the same rows into the same table, 2,000 a batch: what the engine allows. */
async function insertOnly(): Promise<number> {
  return await withStore(async (store) => {
    const pages = Array.from({ length: REPLICAS / 2_000 }, (_, page) =>
      JSON.stringify(
        Array.from({ length: 2_000 }, (_, i) => {
          const n = page * 2_000 + i;
          // Ids in the order of a hash, as the planner makes them, and by node, as plans are committed.
          return [
            id("r", Math.imul(n, 0x9e3779b1) >>> 0),
            id("app", 1),
            `web-${n % SERVICES}`,
            String(n),
            id("n", Math.floor(n / 10)),
            "1".padStart(64, "0"),
            7,
            "run",
            "initial",
            1_790_000_000_000,
            0,
          ];
        }),
      ),
    );
    const sql =
      "insert into replicas (id, app_id, service, slot, node_id, spec, revision, desired, reason, assigned_ms, attempt, rev) select value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9, value->>10, 7 from json_each(?)";
    const startMs = performance.now();
    for (const page of pages) await store.database.write([{ sql, args: [page] }]);
    return performance.now() - startMs;
  });
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

const placements: Bench = {
  name: "durable.placements",
  goal: 40_000,
  unit: "placements/s",
  async run(report) {
    const phases: Phases = { put: 0, advance: 0, plan: 0, lint: 0, apply: 0 };
    await place({ ...phases });
    await insertOnly();
    const rates: number[] = [];
    const limits: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      rates.push((REPLICAS / (await place(phases))) * 1_000);
      limits.push((REPLICAS / (await insertOnly())) * 1_000);
    }
    const value = median(rates);
    report({
      name: this.name,
      value,
      unit: this.unit,
      goal: this.goal,
      limit: median(limits),
      spread: (Math.max(...rates) - Math.min(...rates)) / value,
    });
    for (const [phase, ms] of Object.entries(phases)) report({ name: `${this.name}.${phase}`, value: ms / RUNS, unit: "ms", goal: 1_250 });
  },
};

export const benches: Bench[] = [placements];
