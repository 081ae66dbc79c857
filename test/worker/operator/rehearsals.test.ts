/** Rehearsals give way: to the event loop, to each other, and to the planner. */
import { describe, expect, test } from "vitest";
import type { DeployAnswer } from "../../../shared/api/resources.ts";
import type { Clock } from "../../../worker/ports.ts";
import { Rehearsals } from "../../../worker/rehearsals.ts";
import { appSpec, World } from "./world.ts";

/** Time passes in rounds and rests alone. */
class WorkClock implements Clock {
  readonly rests: number[] = [];
  #nowMs = 0;
  nowMs = () => this.#nowMs;
  work(ms: number): void {
    this.#nowMs += ms;
  }
  after(ms: number, run: () => void): () => void {
    this.rests.push(ms);
    this.#nowMs += ms;
    setImmediate(run);
    return () => {};
  }
}

const rounds = (clock: WorkClock, count: number, ms: number, onRound: (round: number) => void = () => {}) => {
  let done = 0;
  return {
    get done() {
      return done;
    },
    step: () => {
      clock.work(ms);
      onRound(++done);
      return done < count;
    },
  };
};

describe("rehearsals", () => {
  test("rest between long rounds, a quarter of the work, and not between short ones", async () => {
    const clock = new WorkClock();
    const rehearsals = new Rehearsals(clock);
    let turns = 0;
    const count = () => {
      turns++;
      if (turns < 1_000) setImmediate(count);
    };
    setImmediate(count);
    const seen: number[] = [];
    expect((await rehearsals.run("a", async () => rounds(clock, 4, 200, () => seen.push(turns)))).done).toBe(4);
    turns = 1_000;
    expect(clock.rests).toEqual([50, 50, 50]);
    expect(new Set(seen).size).toBe(4);

    clock.rests.length = 0;
    await rehearsals.run("a", async () => rounds(clock, 1, 0));
    expect(clock.rests).toEqual([50]);
    await rehearsals.run("a", async () => rounds(clock, 8, 1));
    expect(clock.rests).toEqual([50]);
  });

  test("of one namespace follow each other, of several take turns", async () => {
    const clock = new WorkClock();
    const rehearsals = new Rehearsals(clock);
    const order: string[] = [];
    const run = (namespace: string, name: string) =>
      rehearsals.run(namespace, async () => {
        order.push(`${name} begins`);
        return rounds(clock, 3, 20, (round) => order.push(`${name}${round}`));
      });
    await Promise.all([run("a", "x"), run("a", "y"), run("b", "z")]);
    expect(order).toEqual(["x begins", "z begins", "x1", "z1", "x2", "z2", "x3", "y begins", "z3", "y1", "y2", "y3"]);
  });

  test("one that fails holds nobody up", async () => {
    const rehearsals = new Rehearsals(new WorkClock());
    const failing = rehearsals.run("a", async () => ({
      step: () => {
        throw new Error("boom");
      },
    }));
    await expect(failing).rejects.toThrow("boom");
    expect((await rehearsals.run("a", async () => rounds(new WorkClock(), 2, 0))).done).toBe(2);
  });

  test("one is left as it is after 10 s of its own work", async () => {
    const clock = new WorkClock();
    const rehearsals = new Rehearsals(clock);
    const [long, beside] = await Promise.all([
      rehearsals.run("a", async () => rounds(clock, 1_000, 400)),
      rehearsals.run("b", async () => rounds(clock, 20, 400)),
    ]);
    expect([long.done, beside.done]).toEqual([25, 20]);
  });
});

describe("while a deploy is rehearsed", () => {
  async function held() {
    const world = await World.start();
    await world.node(1);
    const spec = appSpec("shop", { services: { web: { workload: { image: "x.test/web:1", networkMode: "none" }, replicas: 2 } } });
    const { rehearsals } = world.context;
    const run = rehearsals.run.bind(rehearsals);
    let release: () => void = () => {};
    const isReleased = new Promise<void>((resolve) => {
      release = resolve;
    });
    const begun = new Promise<void>((resolve) => {
      rehearsals.run = (namespace, begin) =>
        run(namespace, async () => {
          const rehearsal = await begin();
          resolve();
          await isReleased;
          return rehearsal;
        });
    });
    return { world, spec, begun, release };
  }

  test("the planner has its snapshot and goes on, and the rehearsal knows nothing of it", async () => {
    const { world, spec, begun, release } = await held();
    const deploying = world.call<DeployAnswer>("PUT", "/v1/namespaces/default/apps/shop", { body: { spec } });
    await begun;
    await world.node(2);
    expect(await world.context.snapshots.use(({ snapshot }) => snapshot.nodes.length)).toBe(2);
    release();
    const { status, body } = await deploying;
    expect(status).toBe(200);
    expect(body.plan.services[0]?.replicas.map(({ to }) => to)).toEqual(["node-1", "node-1"]);
  });

  test("of eight real deploys of one namespace one is rehearsed at a time", async () => {
    const { world, spec, begun, release } = await held();
    let [now, most] = [0, 0];
    const { snapshots, rehearsals } = world.context;
    const run = rehearsals.run.bind(rehearsals);
    const use = snapshots.use.bind(snapshots);
    snapshots.use = (take) => {
      most = Math.max(most, ++now);
      return use(take);
    };
    rehearsals.run = async (namespace, begin) => {
      const rehearsal = await run(namespace, begin);
      now--;
      return rehearsal;
    };
    const answers = Array.from({ length: 8 }, (_, n) =>
      world.call<DeployAnswer>("PUT", `/v1/namespaces/default/apps/shop-${n}`, { body: { spec: { ...spec, name: `shop-${n}` } } }),
    );
    await begun;
    release();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(Array(8).fill(200));
    expect(most).toBe(1);
  });
});
