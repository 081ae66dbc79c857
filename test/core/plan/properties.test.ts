/** Properties of the planner, numbered as in docs/spec/planner.md. */
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { lintPlan } from "../../../shared/plan/lint-plan.ts";
import { planCluster } from "../../../shared/plan/plan-cluster.ts";
import { anyWorld, shuffler } from "./arbitrary.ts";
import { type World, world } from "./world.ts";

/** `PROPERTY_RUNS=20000` for a long look. */
const RUNS = Number(process.env.PROPERTY_RUNS ?? 300);
vi.setConfig({ testTimeout: 600_000 });
const input = (world: World, afterMs = 0) => ({ nowMs: world.nowMs + afterMs, idSeed: "5eed" });

describe("planner properties", () => {
  test("P1 the order of rows never changes a plan", () => {
    fc.assert(
      fc.property(anyWorld, fc.integer(), (world, seed) => {
        expect(planCluster(world.snapshot(shuffler(seed)), input(world))).toEqual(planCluster(world.snapshot(), input(world)));
      }),
      { numRuns: RUNS },
    );
  });

  test("P1 of several rows in one slot, the same are met first", () => {
    const made = world().nodes(3).service("web").deployment();
    for (const [node, restarts] of [
      ["n1", 3],
      ["n2", 4],
      ["n3", 5],
    ] as const)
      made.replica("web", 0, node, { restarts, readySinceMs: null, state: "starting", assignedMs: made.nowMs });
    const plans = [1, 2, 3, 4, 5, 6].map((seed) => planCluster(made.snapshot(shuffler(seed)), input(made)));
    for (const plan of plans) expect(plan).toEqual(plans[0]);
  });

  test("P2 every plan passes the linter", () => {
    fc.assert(
      fc.property(anyWorld, (world) => {
        const snapshot = world.snapshot();
        expect(lintPlan(snapshot, planCluster(snapshot, input(world)))).toEqual([]);
      }),
      { numRuns: RUNS },
    );
  });

  test("P3 what time will change is announced: before wakeAtMs an unchanged snapshot gives the same changes", () => {
    fc.assert(
      fc.property(anyWorld, fc.double({ min: 0, max: 1, noNaN: true }), (world, at) => {
        const snapshot = world.snapshot();
        const now = planCluster(snapshot, input(world));
        // A verdict ends the waiting, and with it what was to be looked at again.
        fc.pre(!now.changes.some((change) => change.kind === "deployment"));
        const wakeInMs = (now.wakeAtMs ?? world.nowMs + 10_000_000) - world.nowMs;
        expect(wakeInMs).toBeGreaterThan(0);
        const later = planCluster(snapshot, input(world, Math.floor((wakeInMs - 1) * at)));
        expect(later.changes).toEqual(now.changes);
      }),
      { numRuns: RUNS },
    );
  });

  test("P4 every wanted slot has a replica, gets one, or is explained", () => {
    fc.assert(
      fc.property(anyWorld, (world) => {
        const plan = planCluster(world.snapshot(), input(world));
        const ends = new Set(plan.changes.flatMap((change) => (change.kind === "end" ? [change.replica] : [])));
        for (const service of world.services) {
          const app = world.apps.find((candidate) => candidate.id === service.appId)!;
          if (service.removed || app.deleting) continue;
          const explanation = plan.explanations.find(
            (candidate) => candidate.appId === service.appId && candidate.service === service.name,
          );
          for (let slot = 0; slot < service.replicas; slot += 1) {
            const name = String(slot);
            const has = world.replicas.some(
              (row) => row.appId === service.appId && row.service === service.name && row.slot === name && !ends.has(row.id),
            );
            const gets = plan.changes.some(
              (change) =>
                change.kind === "assign" && change.appId === service.appId && change.service === service.name && change.slot === name,
            );
            const explained = explanation?.waiting.length || explanation?.unplaced.some((group) => group.slots.includes(name));
            expect(has || gets || explained, `${service.name} slot ${name}`).toBeTruthy();
          }
        }
      }),
      { numRuns: RUNS },
    );
  });

  test("P5 an explanation counts every node once", () => {
    fc.assert(
      fc.property(anyWorld, (world) => {
        for (const { nodes, feasible, rejected, placed } of planCluster(world.snapshot(), input(world)).explanations) {
          if (nodes > 0) expect(feasible + rejected.reduce((sum, one) => sum + one.nodes, 0)).toBe(world.nodeRows.length);
          expect(placed.length).toBeLessThanOrEqual(200);
        }
      }),
      { numRuns: RUNS },
    );
  });

  test("P6 replica ids are well formed, unique in a plan, and others under another seed", () => {
    fc.assert(
      fc.property(anyWorld, (world) => {
        const ids = (idSeed: string) =>
          planCluster(world.snapshot(), { ...input(world), idSeed }).changes.flatMap((change) =>
            change.kind === "assign" ? [change.replica] : [],
          );
        const first = ids("a");
        for (const id of first) expect(id).toMatch(/^r_[a-z2-7]{16}$/);
        expect(new Set([...first, ...ids("b")]).size).toBe(first.length * 2);
      }),
      { numRuns: RUNS / 5 },
    );
  });
});
