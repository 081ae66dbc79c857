/** Random histories: deployments, scaling, lost, returned, cordoned and removed nodes, bad images. Then the faults stop. */
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { planCluster } from "../../../shared/plan/plan-cluster.ts";
import { shuffler } from "./arbitrary.ts";
import { Simulation } from "./simulation.ts";
import { nodeId, type ReplicaRow, world } from "./world.ts";

/** `HISTORY_RUNS=1000` for a long look. */
const RUNS = Number(process.env.HISTORY_RUNS ?? 25);
vi.setConfig({ testTimeout: 600_000 });

const node = fc.integer({ min: 1, max: 4 }).map((n) => `n${n}`);
const service = fc.constantFrom("web", "db", "api", "cache", "agent");
const event = fc.oneof(
  fc.record({
    kind: fc.constant("deploy" as const),
    service,
    behaviour: fc.constantFrom("ready" as const, "ready" as const, "ready" as const, "crash" as const, "fail" as const, "reject" as const),
  }),
  fc.record({
    kind: fc.constant("scale" as const),
    service: fc.constantFrom("web", "db", "api"),
    replicas: fc.integer({ min: 0, max: 5 }),
  }),
  fc.record({ kind: fc.constant("unreachable" as const), node }),
  fc.record({ kind: fc.constant("lost" as const), node }),
  fc.record({ kind: fc.constant("return" as const), node }),
  fc.record({ kind: fc.constant("cordon" as const), node }),
  fc.record({ kind: fc.constant("uncordon" as const), node }),
  fc.record({ kind: fc.constant("reboot" as const), node }),
  fc.record({ kind: fc.constant("remove" as const), node: fc.constant("n4") }),
);
type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

const APP_OF = { web: "shop", db: "shop", api: "pair", cache: "pair", agent: "base" } as const;

/** db publishes a host port, and three nodes always stay. */
const REPLICAS_MAX = { web: 5, db: 3, api: 5 } as const;

function cluster(): Simulation {
  const made = world()
    .nodes(4)
    .app("shop")
    .service("web", { replicas: 3, parallelism: 2, failureAction: "rollback" })
    .service("db", {
      replicas: 2,
      volumes: [{ name: "data", engineName: "berth_shop_data", readOnly: false }],
      hostPorts: [{ port: 5432, protocol: "tcp", hostIp: "" }],
    })
    .deployment()
    .app("pair")
    .service("api", { colocate: true, dependsOn: [{ service: "cache", condition: "healthy", required: true }] })
    .service("cache", { colocate: true })
    .deployment()
    .app("base")
    .service("agent", { mode: "global" })
    .deployment();
  return new Simulation(made);
}

function happen(sim: Simulation, happening: Event, number: number): void {
  if (happening.kind === "deploy") {
    const spec = `${happening.service}-v${number}`;
    sim.behaviours.set(spec, happening.behaviour);
    sim.deploy(APP_OF[happening.service], { [happening.service]: { spec } });
    return;
  }
  if (happening.kind === "scale") {
    sim.deploy(
      APP_OF[happening.service],
      { [happening.service]: { replicas: Math.min(happening.replicas, REPLICAS_MAX[happening.service]) } },
      { kind: "scale" },
    );
    return;
  }
  if (!sim.world.nodeRows.some((row) => row.name === happening.node)) return;
  const id = nodeId(happening.node);
  if (happening.kind === "lost" || happening.kind === "unreachable") sim.lose(happening.node, happening.kind);
  else if (happening.kind === "return") sim.comeBack(happening.node);
  else if (happening.kind === "cordon") sim.world.changeNode(happening.node, { availability: "cordoned" });
  else if (happening.kind === "uncordon") sim.world.changeNode(happening.node, { availability: "active" });
  else if (happening.kind === "remove") sim.world.removeNode(happening.node);
  else
    sim.world.replicas = sim.world.replicas.map((row) =>
      row.nodeId === id && row.run && row.state === "running" ? { ...row, state: "starting", readySinceMs: null } : row,
    );
}

/** Every node back, nothing cordoned, a good revision of everything. */
function calm(sim: Simulation): void {
  for (const row of sim.world.nodeRows) {
    sim.comeBack(row.name).report(row.name);
    sim.world.changeNode(row.name, { availability: "active" });
  }
  for (const app of ["shop", "pair", "base"]) {
    const names = Object.entries(APP_OF).flatMap(([name, of]) => (of === app ? [name] : []));
    sim.deploy(app, Object.fromEntries(names.map((name) => [name, { spec: `${name}-final` }])));
  }
}

/** Histories that broke it once. */
const FOUND: [[Event, number][], number][] = [
  [
    [
      [{ kind: "deploy", service: "db", behaviour: "reject" }, 4],
      [{ kind: "scale", service: "db", replicas: 3 }, 0],
      [{ kind: "unreachable", node: "n3" }, 0],
      [{ kind: "reboot", node: "n1" }, 1],
    ],
    0,
  ],
];

/** P15: after a failure what serves is not stopped for another revision, and none is started beside it. */
function stepHalted(sim: Simulation): void {
  const halted = new Set(sim.world.apps.flatMap(({ id }) => (sim.isHalted(id) ? [id] : [])));
  const serving = sim.world.replicas.filter((row) => halted.has(row.appId) && row.run && row.readySinceMs !== null);
  for (const change of sim.step().changes) {
    if ((change.kind !== "stop" && change.kind !== "assign") || change.reason !== "update") continue;
    const isOf = (row: ReplicaRow) =>
      change.kind === "stop"
        ? row.id === change.replica
        : row.appId === change.appId && row.service === change.service && row.slot === change.slot;
    const row = serving.find((one) => isOf(one) && !sim.dark.has(nameOf(sim, one.nodeId)));
    if (row) expect.fail(`${row.service} slot ${row.slot} is updated after a failure`);
  }
}

describe("planner walks", () => {
  test("P7, P8 and P15: whatever happened, invariants hold at every step; when it stops, the cluster converges and stays", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(event, fc.integer({ min: 0, max: 40 })), { maxLength: 14 }), fc.integer(), (history, seed) => {
        const sim = cluster();
        sim.run(20);
        history.forEach(([happening, seconds], i) => {
          happen(sim, happening, i);
          for (let second = 0; second < seconds; second += 1) stepHalted(sim);
          for (const row of sim.world.nodeRows) if (!sim.dark.has(row.name)) sim.report(row.name);
        });
        calm(sim);
        sim.settle();
        for (const state of sim.world.services) {
          const rows = sim.rows(state.name);
          const wanted = state.mode === "global" ? sim.world.nodeRows.length : state.replicas;
          expect(
            rows.map((row) => [row.spec, row.state, row.run]),
            state.name,
          ).toEqual(Array.from({ length: wanted }, () => [`${state.name}-final`, "running", true]));
        }
        for (const app of ["shop", "pair", "base"])
          expect(
            sim.outcomes.filter((outcome) => outcome.appId === sim.world.apps.find(({ name }) => name === app)!.id).at(-1)!.state,
            app,
          ).toBe("succeeded");
        const plan = planCluster(sim.world.snapshot(shuffler(seed)), { nowMs: sim.world.nowMs, idSeed: "other" });
        expect(plan).toEqual({ rev: sim.world.rev, changes: [], wakeAtMs: null, explanations: [] });
      }),
      { numRuns: RUNS, examples: FOUND },
    );
  });

  test("P9 losing and returning nodes alone never stops the last ready replica of a slot, nor restarts a healthy one", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(fc.constantFrom("lost" as const, "return" as const, "unreachable" as const), node, fc.integer({ min: 0, max: 40 })),
          { maxLength: 12 },
        ),
        (history) => {
          const sim = cluster();
          sim.run(40);
          for (const [kind, name, seconds] of history) {
            happen(sim, { kind, node: name }, 0);
            for (let i = 0; i < seconds; i += 1) {
              const ready = new Map(
                sim.world.replicas
                  .filter((row) => row.run && row.readySinceMs !== null && !sim.dark.has(nameOf(sim, row.nodeId)))
                  .map((row) => [row.id, row]),
              );
              for (const change of sim.step().changes) {
                if (change.kind !== "stop") continue;
                const stopped = ready.get(change.replica);
                ready.delete(change.replica);
                if (stopped)
                  expect(
                    [...ready.values()].some((row) => row.service === stopped.service && row.slot === stopped.slot),
                    `${stopped.service} ${stopped.slot}`,
                  ).toBe(true);
              }
              if (i === 1) for (const row of sim.world.nodeRows) if (!sim.dark.has(row.name)) sim.report(row.name);
            }
          }
        },
      ),
      { numRuns: RUNS },
    );
  });
});

const nameOf = (sim: Simulation, id: string) => sim.world.nodeRows.find((row) => row.id === id)?.name ?? "";
