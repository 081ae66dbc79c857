import { describe, expect, test } from "vitest";
import type { DeploymentId } from "../../../shared/model/name.ts";
import type { ClusterPlan } from "../../../shared/plan/change.ts";
import type { ClusterSnapshot } from "../../../shared/plan/snapshot.ts";
import { type Planning, PlannerLoop } from "../../../worker/shard/planner.ts";
import type { Applied } from "../../../worker/store/apply-plan.ts";
import { collectLog, random, VirtualClock } from "./control-plane.ts";

const SNAPSHOT = { rev: 1, rollbacks: [] as readonly DeploymentId[] } as ClusterSnapshot;
const OWING = { ...SNAPSHOT, rollbacks: ["d_aaaaaaaaaaaaaaaa" as DeploymentId] };
const COMMITTED: Applied = { kind: "committed", rev: 7 };
const UNCHANGED: Applied = { kind: "unchanged" };
const CONFLICT: Applied = { kind: "conflict", message: "lost", committedChunks: 0, rev: 6 };

/** A planner that answers as scripted, `unchanged` after that, and notes when it was asked. */
function makeLoop(script: (Applied | Error)[], changes: Partial<Planning> & { wakeInMs?: number } = {}) {
  const clock = new VirtualClock();
  const log = collectLog();
  const startMs = clock.nowMs();
  const plans: number[] = [];
  const revs: number[] = [];
  const planning: Planning = {
    use: (take) => take({ snapshot: SNAPSHOT, nowMs: 50_000 }),
    plan: () =>
      ({
        rev: 1,
        changes: [],
        wakeAtMs: changes.wakeInMs === undefined ? null : 50_000 + changes.wakeInMs,
        explanations: [],
      }) as ClusterPlan,
    lint: () => [],
    apply: async () => {
      plans.push(clock.nowMs() - startMs);
      const next = script.shift() ?? UNCHANGED;
      if (next instanceof Error) throw next;
      return next;
    },
    rollBack: async () => {},
    ...changes,
  };
  const lastReturn = { atMs: Number.NEGATIVE_INFINITY, untilMs: Number.NEGATIVE_INFINITY, heard: new Set<never>() };
  const loop = new PlannerLoop({ planning, clock, random, log, onRev: (rev) => revs.push(rev), lastReturn: () => lastReturn });
  return { loop, clock, log, plans, revs };
}

describe("the planner's loop", () => {
  test("plans at the first ring, at once", async () => {
    const { loop, clock, plans } = makeLoop([]);
    loop.ring();
    await clock.advance(0);
    expect(plans).toEqual([0]);
  });

  test("makes one plan of a burst of rings, 100 ms after the one before", async () => {
    const { loop, clock, plans } = makeLoop([]);
    for (let i = 0; i < 50; i++) loop.ring();
    await clock.advance(30);
    for (let i = 0; i < 50; i++) loop.ring();
    await clock.advance(1_000);
    expect(plans).toEqual([0, 100]);
  });

  test("looks again after a commit, until nothing is left to do", async () => {
    const { loop, clock, plans, revs } = makeLoop([COMMITTED, COMMITTED]);
    loop.ring();
    await clock.advance(1_000);
    expect(plans).toEqual([0, 100, 200]);
    expect(revs).toEqual([1, 7, 1, 7, 1]);
  });

  test("looks again when the plan says so, and every minute in any case", async () => {
    const due = makeLoop([], { wakeInMs: 2_500 });
    due.loop.ring();
    await due.clock.advance(5_000);
    expect(due.plans).toEqual([0, 2_500, 5_000]);
    const idle = makeLoop([]);
    idle.loop.ring();
    await idle.clock.advance(120_000);
    expect(idle.plans).toEqual([0, 60_000, 120_000]);
  });

  test("tries three times at once when others commit first, then waits", async () => {
    const { loop, clock, plans } = makeLoop([CONFLICT, CONFLICT, CONFLICT]);
    loop.ring();
    await clock.advance(99);
    expect(plans).toEqual([0, 0, 0]);
    await clock.advance(1);
    expect(plans).toEqual([0, 0, 0, 100]);
  });

  test("narrows after two conflicts in a row, also in a later round, until a plan is committed", async () => {
    const widths: string[] = [];
    const script = [CONFLICT, CONFLICT, CONFLICT, CONFLICT, COMMITTED, CONFLICT, UNCHANGED];
    const { loop, clock } = makeLoop([], {
      apply: async (_, __, width) => {
        widths.push(width);
        return script.shift() ?? UNCHANGED;
      },
    });
    loop.ring();
    await clock.advance(1_000);
    expect(widths).toEqual(["whole", "whole", "narrow", "narrow", "narrow", "whole", "whole"]);
  });

  test("tells of what stands of a plan that lost, before it is made again", async () => {
    const lost: Applied = { kind: "conflict", message: "lost", committedChunks: 2, rev: 5 };
    const { loop, clock, revs } = makeLoop([lost]);
    loop.ring();
    await clock.advance(1_000);
    expect(revs).toEqual([1, 5, 1]);
  });

  test("commits no plan that breaks its rules", async () => {
    const { loop, clock, plans, log } = makeLoop([], { lint: () => ["capacity: node n is over-committed"] });
    loop.ring();
    await clock.advance(0);
    expect(plans).toEqual([]);
    expect(log.lines).toMatchObject([{ level: "error", fields: { error: expect.stringContaining("over-committed") } }]);
  });

  test("waits longer after each failure, whatever rings, and not after it has worked again", async () => {
    const { loop, clock, plans } = makeLoop([new Error("down"), new Error("down"), new Error("down")]);
    const ringing = () => {
      loop.ring();
      clock.after(50, ringing);
    };
    ringing();
    await clock.advance(7_500);
    expect(plans.slice(0, 4)).toEqual([0, 1_000, 3_000, 7_000]);
    expect(plans.length).toBeGreaterThan(4);
  });

  test.each<[string, Applied]>([
    ["changes nothing", UNCHANGED],
    ["is committed", COMMITTED],
    ["loses", CONFLICT],
  ])("carries out the rollbacks that are owed when its plan %s, again until none is", async (_, applied) => {
    const tried: string[] = [];
    const { loop, clock } = makeLoop([applied], {
      use: (take) => take({ snapshot: tried.length < 3 ? OWING : SNAPSHOT, nowMs: 50_000 }),
      rollBack: async (deployment) => {
        tried.push(deployment);
        if (tried.length < 3) throw new Error("busy");
      },
    });
    loop.ring();
    await clock.advance(200_000);
    expect(tried).toHaveLength(3);
  });

  test("finishes the plan under way when it stops, and starts none after", async () => {
    let finish: () => void = () => {};
    const { loop, clock, plans } = makeLoop([], {
      apply: async () => {
        plans.push(0);
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        return COMMITTED;
      },
    });
    loop.ring();
    await clock.advance(0);
    let isStopped = false;
    const stopped = loop.stop().then(() => {
      isStopped = true;
    });
    await clock.advance(1_000);
    expect(isStopped).toBe(false);
    finish();
    await stopped;
    loop.ring();
    await clock.advance(100_000);
    expect(plans).toHaveLength(1);
    expect(clock.timers).toBe(0);
  });
});
