import { describe, expect, onTestFinished, test } from "vitest";
import { type Ticked, TickLoop } from "../../../worker/shard/tick-loop.ts";
import { collectLog, ControlPlane, settle, VirtualClock } from "./control-plane.ts";

const TICK: Ticked = { moved: true, clockMs: 0, nowMs: 0, clamped: false, isAuditLeft: false };

function makeLoop(tick: () => Promise<Ticked> = async () => TICK) {
  const clock = new VirtualClock();
  const log = collectLog();
  const world = { isPending: true, ticks: 0 };
  const loop = new TickLoop({
    clock,
    log,
    isOverdue: () => world.isPending,
    tick: () => {
      world.ticks += 1;
      return tick();
    },
  });
  return { clock, log, loop, world };
}

describe("the tick loop", () => {
  test("ticks every 3 s while something is pending, and then leaves no timer", async () => {
    const { clock, loop, world } = makeLoop();
    loop.kick();
    loop.kick();
    await clock.advance(2_999);
    expect(world.ticks).toBe(0);
    await clock.advance(6_001);
    expect(world.ticks).toBe(3);
    world.isPending = false;
    await clock.advance(60_000);
    expect([world.ticks, clock.timers]).toEqual([3, 0]);
    world.isPending = true;
    loop.kick();
    await clock.advance(3_000);
    expect(world.ticks).toBe(4);
  });

  test("does nothing when nothing is pending", async () => {
    const { clock, loop, world } = makeLoop();
    world.isPending = false;
    loop.kick();
    expect(clock.timers).toBe(0);
    world.isPending = true;
    loop.kick();
    world.isPending = false;
    await clock.advance(60_000);
    expect([world.ticks, clock.timers]).toEqual([0, 0]);
  });

  test("ticks for audit rows, and once more for those that came while it did or were left", async () => {
    const left = [true, false, false];
    const { clock, loop, world } = makeLoop(async () => {
      if (world.ticks === 2) loop.auditWaits();
      return { ...TICK, isAuditLeft: left[world.ticks - 1]! };
    });
    world.isPending = false;
    loop.auditWaits();
    await clock.advance(60_000);
    expect([world.ticks, clock.timers]).toEqual([3, 0]);
  });

  test("goes on when the database is busy", async () => {
    let failures = 2;
    const { clock, loop, log, world } = makeLoop(async () => {
      if (failures-- > 0) throw new Error("SQLITE_BUSY: database is locked");
      return TICK;
    });
    loop.kick();
    await clock.advance(9_000);
    expect([world.ticks, log.lines.map(({ level }) => level)]).toEqual([3, ["error", "error"]]);
  });

  test("stops before the next tick, and leaves no timer", async () => {
    const { clock, loop, world } = makeLoop();
    loop.kick();
    await loop.stop();
    expect(clock.timers).toBe(0);
    loop.auditWaits();
    await clock.advance(60_000);
    expect(world.ticks).toBe(0);
  });

  test("stops after the tick that is under way, and leaves no timer", async () => {
    let finish = () => {};
    const { clock, loop, world } = makeLoop(() => new Promise((resolve) => (finish = () => resolve(TICK))));
    loop.kick();
    await clock.advance(3_000);
    let isStopped = false;
    const stopping = loop.stop().then(() => {
      isStopped = true;
    });
    await settle();
    expect(isStopped).toBe(false);
    finish();
    await stopping;
    loop.kick();
    await clock.advance(60_000);
    expect([world.ticks, clock.timers]).toEqual([1, 0]);
  });

  test("says that the database's clock jumped, but not after a while without ticks", async () => {
    const { clock, loop, log, world } = makeLoop(async () => ({ ...TICK, clamped: true }));
    loop.kick();
    await clock.advance(3_000);
    expect(log.lines).toEqual([]);
    await clock.advance(3_000);
    expect(log.lines).toHaveLength(1);
    world.isPending = false;
    await clock.advance(60_000);
    world.isPending = true;
    loop.kick();
    await clock.advance(3_000);
    expect(log.lines).toHaveLength(1);
  });
});

describe("the cluster clock", () => {
  const clockMs = async (plane: ControlPlane) => (await plane.context.store.cluster()).clockMs;
  /** The database's clock is real: as if the last tick had been so long ago. */
  const lag = (plane: ControlPlane, ms: number) => plane.context.store.database.write([`update cluster set wall_ms = wall_ms - ${ms}`]);

  test("moves while a node is silent and not lost, and stands in an idle cluster", async () => {
    // Two nodes, both dark: neither is called lost, since it may be our own link.
    const plane = await ControlPlane.start();
    onTestFinished(() => plane.stop());
    const nodes = [await plane.node(), await plane.node()];
    await lag(plane, 4_000);
    const before = await clockMs(plane);
    for (let turn = 0; turn < 4; turn++) {
      const held = nodes.map((node) => node.poll());
      await plane.held(2);
      await plane.clock.advance(5_000);
      await Promise.all(held);
    }
    expect(await clockMs(plane)).toBe(before);
    await plane.clock.advance(12_000);
    expect((await clockMs(plane)) - before).toBeGreaterThanOrEqual(4_000);
  });
});
