import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { NodeId } from "../../../shared/model/name.ts";
import { EVICTION_TIMING, EvictionLimiter, type Silence } from "../../../worker/shard/eviction.ts";
import { EMBEDDED_TIMING, lostAfterMs, presenceAt } from "../../../worker/shard/presence.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { events, nodes } from "../../../worker/store/schema.ts";
import { id, nodeRow } from "../../store/rows.ts";
import { ControlPlane, until } from "./control-plane.ts";
import type { FakeAgent } from "./fake-agent.ts";

describe("presenceAt", () => {
  const polled = { seenMs: 0, holdEndMs: 5_000, returns: 0 };
  test.each([
    ["a held poll", polled, 4_999, "ready", 6_500],
    ["a round trip after its end", polled, 6_000, "ready", 6_500],
    ["one missed poll", polled, 6_500, "unreachable", 8_000],
    ["8 s after the last proof", polled, 8_000, "lost", null],
    ["a hang-up at 1 s", { ...polled, holdEndMs: 1_000 }, 2_500, "unreachable", 8_000],
    ["a report during the hold", { ...polled, seenMs: 4_000 }, 8_000, "unreachable", 12_000],
    ["a hold of 25 s is not lost while it lasts", { ...polled, holdEndMs: 25_000 }, 24_000, "ready", 26_500],
    ["a node that has returned once", { ...polled, returns: 1 }, 15_999, "unreachable", 16_000],
  ])("%s", (_, presence, nowMs, status, nextMs) => {
    expect(presenceAt(presence, nowMs, EMBEDDED_TIMING)).toEqual({ status, nextMs });
  });

  test("the wait doubles with each return, up to five minutes", () => {
    expect([0, 1, 2, 5, 6, 1_000].map((returns) => lostAfterMs(returns, EMBEDDED_TIMING))).toEqual([
      8_000, 16_000, 32_000, 256_000, 300_000, 300_000,
    ]);
  });

  test("a cut is noticed 3 to 8 s after it, wherever in a poll it falls", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5_000 }), (cutMs) => {
        const afterCutMs = lostAfterMs(0, EMBEDDED_TIMING) - cutMs;
        expect(presenceAt(polled, cutMs + afterCutMs, EMBEDDED_TIMING).status).toBe("lost");
        expect(presenceAt(polled, cutMs + afterCutMs - 1, EMBEDDED_TIMING).status).not.toBe("lost");
        expect(afterCutMs).toBeGreaterThanOrEqual(3_000);
        expect(afterCutMs).toBeLessThanOrEqual(8_000);
      }),
    );
  });

  test("looking exactly when it says sees every change", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 30_000 }),
        fc.integer({ min: 0, max: 30_000 }),
        fc.integer({ min: 0, max: 8 }),
        (seenMs, holdEndMs, returns) => {
          const presence = { seenMs, holdEndMs, returns };
          let nowMs = seenMs;
          const seen = [];
          for (let look: number | null = nowMs; look !== null; ) {
            nowMs = Math.max(nowMs, look);
            const { status, nextMs } = presenceAt(presence, nowMs, EMBEDDED_TIMING);
            seen.push(status);
            if (nextMs !== null) {
              expect(nextMs).toBeGreaterThan(nowMs);
              expect(presenceAt(presence, nextMs - 1, EMBEDDED_TIMING).status).toBe(status);
            }
            look = nextMs;
          }
          expect(seen.at(-1)).toBe("lost");
          expect(seen[0]).toBe("ready");
        },
      ),
    );
  });
});

describe("F34: the eviction limiter", () => {
  const START = 1_000_000;
  const site = (name: string, dark: number, bright: number): Silence[] => [
    ...Array.from({ length: dark }, (_, i) => ({ id: `${name}-dark-${i}`, site: name, dark: true, due: true, heardMs: START })),
    ...Array.from({ length: bright }, (_, i) => ({ id: `${name}-bright-${i}`, site: name, dark: false, due: false, heardMs: START })),
  ];
  const limiter = (startedMs = START) => new EvictionLimiter(EVICTION_TIMING, startedMs);

  test.each([
    ["1 of 3", site("a", 1, 2), 1],
    ["2 of 3: too few for a share", site("a", 2, 1), 2],
    ["1 of 4", site("a", 1, 3), 1],
    ["54 of 100", site("a", 54, 46), 54],
    ["55 of 100: one at a time", site("a", 55, 45), 1],
    ["the only node there is", site("a", 1, 0), 1],
    ["the only node of its site", [...site("a", 1, 0), ...site("b", 0, 1)], 1],
    ["a wholly dark site of two", [...site("a", 2, 0), ...site("b", 0, 1)], 0],
    ["everything", site("a", 3, 0), 0],
    ["everything in two sites", [...site("a", 3, 0), ...site("b", 1, 0)], 0],
  ])("%s", (_, nodes, expected) => {
    expect(limiter().allow(nodes, START).lost.size).toBe(expected);
  });

  test("lets one go every 30 s while a large part of a site is dark", () => {
    const nodes = site("a", 6, 4);
    const mine = limiter();
    const first = mine.allow(nodes, START);
    expect([first.lost.size, first.againMs]).toEqual([1, START + 30_000]);
    const left = nodes.map((node) => ({ ...node, due: node.due && !first.lost.has(node.id) }));
    expect(mine.allow(left, START + 29_999).lost.size).toBe(0);
    expect(mine.allow(left, START + 30_000).lost.size).toBe(1);
  });

  test("lets the nodes of a dark site go after 10 min, one every 30 s", () => {
    const nodes = [...site("a", 2, 0), ...site("b", 0, 1)];
    const mine = limiter();
    expect(mine.allow(nodes, START)).toEqual({ lost: new Set(), againMs: START + 600_000 });
    expect(mine.allow(nodes, START + 599_999).lost.size).toBe(0);
    expect(mine.allow(nodes, START + 600_000).lost.size).toBe(1);
    expect(mine.allow(nodes, START + 600_001).lost.size).toBe(0);
    expect(mine.allow(nodes, START + 630_000).lost.size).toBe(1);
  });

  test.each([
    [5_000, 13_000],
    [60_000, 38_000],
    [3_600_000, 38_000],
  ])("waits, after all were dark for %d ms, for the pauses of those that are not back", (darkMs, waitMs) => {
    const mine = limiter(START - 60_000);
    mine.allow(site("a", 3, 0), START);
    const some = site("a", 1, 2);
    expect(mine.allow(some, START + darkMs)).toEqual({ lost: new Set(), againMs: START + darkMs + waitMs });
    expect(mine.allow(some, START + darkMs + waitMs - 1).lost.size).toBe(0);
    expect(mine.allow(some, START + darkMs + waitMs).lost.size).toBe(1);
  });

  test("a node that was heard since is not waited for", () => {
    const mine = limiter();
    mine.allow(site("a", 3, 0), START);
    const some = site("a", 2, 2).map((node, at) => ({ ...node, heardMs: at === 0 ? START + 60_000 : START }));
    expect([...mine.allow(some, START + 60_000).lost]).toEqual(["a-dark-0"]);
  });

  test("waits for nodes that this process never heard, and after it stood still for those that it has not heard since", () => {
    const unheard = site("a", 1, 2).map((node) => ({ ...node, heardMs: node.dark ? null : START }));
    const mine = limiter();
    expect(mine.allow(unheard, START + 37_999)).toEqual({ lost: new Set(), againMs: START + 38_000 });
    expect(mine.allow(unheard, START + 38_000).lost.size).toBe(1);
    mine.returned(START + 50_000, 2_000);
    expect(mine.allow(site("a", 1, 2), START + 59_999).lost.size).toBe(0);
    expect(mine.allow(site("a", 1, 2), START + 60_000).lost.size).toBe(1);
  });

  test.each([
    ["a long and a short one", 60_000, 1_500, 38_000],
    ["two short ones", 3_000, 1_500, 12_500],
  ])("of darknesses, %s, the second while the first is waited out, are one", (_, firstMs, secondMs, waitMs) => {
    const mine = limiter(START - 60_000);
    mine.returned(START + 1_000, firstMs);
    mine.returned(START + 2_000, secondMs);
    expect(mine.allow(site("a", 1, 2), START + 2_000 + waitMs - 1).lost.size).toBe(0);
    expect(mine.allow(site("a", 1, 2), START + 2_000 + waitMs).lost.size).toBe(1);
  });

  test("waits, when a site comes back, for those of it that are slower", () => {
    const mine = limiter();
    const bright = site("b", 0, 1);
    mine.allow([...site("a", 6, 0), ...bright], START);
    // A large part of it is still dark: none goes for that.
    expect(mine.allow([...site("a", 5, 1), ...bright], START + 59_000).lost.size).toBe(0);
    const some = [...site("a", 3, 3), ...bright];
    expect(mine.allow(some, START + 60_000)).toEqual({ lost: new Set(), againMs: START + 98_000 });
    expect(mine.allow(some, START + 98_000).lost.size).toBe(3);
  });
});

describe("a node", () => {
  let plane: ControlPlane;
  let agent: FakeAgent;
  beforeEach(async () => {
    plane = await ControlPlane.start();
    agent = await plane.node();
  });
  afterEach(() => plane.stop());

  const status = async (node = agent.node) => (await plane.context.store.db.select().from(nodes)).find(({ id }) => id === node)?.status;
  /** The agent polls so many times, and each is held to its end. */
  const polls = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const held = agent.poll();
      await plane.held(1);
      await plane.clock.advance(5_000);
      expect(await held).toBeNull();
    }
  };
  const written = async () => (await plane.context.store.db.select().from(events)).map(({ type }) => type);

  test("that polls stays ready, and nothing is written for it", async () => {
    const rev = (await plane.context.store.marks()).rev;
    await polls(20);
    expect(await status()).toBe("ready");
    expect((await plane.context.store.marks()).rev).toBe(rev);
  });

  test("that is cut off during a held poll is unreachable, then lost 8 s after its last request", async () => {
    await polls(1);
    void agent.poll();
    await plane.held(1);
    await plane.clock.advance(5_900);
    expect(await status()).toBe("ready");
    await plane.clock.advance(600);
    expect(await status()).toBe("unreachable");
    await plane.clock.advance(1_499);
    expect(await status()).toBe("unreachable");
    await plane.clock.advance(1);
    expect(await status()).toBe("lost");
    expect(await written()).toEqual(["enrolled", "ready", "unreachable", "lost"]);
  });

  test("that missed a poll is ready again with its first request", async () => {
    await plane.clock.advance(7_000);
    expect(await status()).toBe("unreachable");
    const held = agent.poll();
    await plane.held(1);
    await plane.clock.advance(0);
    expect(await status()).toBe("ready");
    await plane.clock.advance(5_000);
    await held;
  });

  test("I24: that was lost returns with a new session, and nothing counts that it said in the one before", async () => {
    const reported = () => plane.context.snapshots.use(({ snapshot }) => snapshot.nodes.find(({ id }) => id === agent.node)?.reported);
    expect((await agent.request("POST", "/agent/v1/report", agent.reportBody())).status).toBe(200);
    expect(await reported()).toBe(true);
    await plane.clock.advance(8_000);
    expect(await status()).toBe("lost");
    await expect(agent.poll()).rejects.toThrow("session_replaced");
    expect((await agent.request("POST", "/agent/v1/report", agent.reportBody())).status).toBe(401);
    await plane.clock.advance(100);
    expect(await status()).toBe("lost");
    await agent.openSession();
    expect(await status()).toBe("ready");
    expect(await reported()).toBe(false);
    await agent.request("POST", "/agent/v1/report", agent.reportBody());
    expect(await reported()).toBe(true);
  });

  test("F32: that flaps every 20 s for an hour is lost twice, and not again until it was quiet", async () => {
    for (let second = 0; second < 3_600; second += 40) {
      await plane.clock.advance(20_000); // cut off
      if ((await status()) === "lost") await agent.openSession();
      await polls(4);
    }
    expect((await written()).filter((type) => type === "lost")).toHaveLength(2);
    await polls(122);
    await plane.clock.advance(8_000);
    expect((await written()).filter((type) => type === "lost")).toHaveLength(3);
  });

  test("F33: that was heard by a process that is gone counts as seen when the new one starts", async () => {
    await plane.clock.advance(6_000);
    plane = await plane.restart();
    await plane.clock.advance(7_999);
    expect(await status()).not.toBe("lost");
    await plane.clock.advance(1);
    expect(await status()).toBe("lost");
  });

  test("that was lost when the process started is not called back by it", async () => {
    await plane.clock.advance(8_000);
    plane = await plane.restart();
    await plane.clock.advance(100);
    expect(await status()).toBe("lost");
  });

  test("is not lost because this process stood still", async () => {
    void agent.poll();
    await plane.held(1);
    await plane.clock.standStill(600_000);
    expect(await status()).not.toBe("lost");
    await plane.clock.advance(8_000);
    expect(await status()).toBe("lost");
  });

  test("is not lost because another is heard before this process knows that it stood still", async () => {
    const [other, third] = [await plane.node(), await plane.node()];
    for (const one of [agent, other, third]) void one.poll();
    await plane.held(3);
    await plane.clock.advance(5_000);
    void third.poll();
    await plane.held(1);
    await plane.clock.advance(1_600);
    expect([await status(), await status(other.node), await status(third.node)]).toEqual(["unreachable", "unreachable", "ready"]);
    const waited = () => void other.poll();
    await plane.clock.standStill(30_000, waited);
    expect([await status(), await status(third.node)]).toEqual(["unreachable", "ready"]);
    // Who knows when that was sent: it may be in a pause like the others.
    await plane.clock.advance(20_000);
    expect([await status(), await status(other.node), await status(third.node)]).not.toContain("lost");
    void other.poll();
    await until("the other's return", async () => (await status(other.node)) === "ready");
  });

  test("that has enrolled and never connected is neither lost nor ready", async () => {
    const silent = await plane.agent();
    await silent.enroll(await plane.joinToken());
    await polls(5);
    expect(await status(silent.node)).toBe("unreachable");
    const mine = (await plane.context.store.db.select().from(events)).filter(({ objectId }) => objectId === silent.node);
    expect(mine.map(({ type }) => type)).toEqual(["enrolled"]);
  });

  test("whose poll was replaced by a newer one is expected when the newer one ends", async () => {
    const first = agent.poll();
    await plane.held(1);
    const second = agent.poll();
    await first;
    await plane.held(1);
    await plane.clock.advance(4_400);
    expect(await status()).toBe("ready");
    await plane.clock.advance(600);
    await second;
  });

  /** Runs `meanwhile` when the first edge to `to` is on its way to the database. */
  const whenEdgeLeaves = (to: string, meanwhile: () => Promise<unknown>) => {
    const { store } = plane.context;
    const commit = store.commit.bind(store);
    let isOver = false;
    store.commit = async (mutation) => {
      if (!mutation.events?.some(({ type }) => type === to)) return commit(mutation);
      store.commit = commit;
      await meanwhile();
      const result = await commit(mutation);
      isOver = true;
      return result;
    };
    return () => until(`an edge to ${to}`, () => isOver);
  };

  test("that opens a session while it is being called lost is not", async () => {
    const left = whenEdgeLeaves("lost", () => agent.openSession());
    await plane.clock.advance(8_000);
    await left();
    await plane.clock.advance(100);
    expect(await status()).toBe("ready");
    expect(await written()).toEqual(["enrolled", "ready", "unreachable", "ready"]);
  });

  test("I12: that was silent and is back before an edge that was given up comes is not called silent by it", async () => {
    const isCalled = (word: "ready" | "unreachable") =>
      plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, status: word, statusMs: NOW }] }] });
    const left = whenEdgeLeaves("unreachable", async () => {
      await isCalled("unreachable");
      await isCalled("ready");
      plane.context.shard.proved(plane.context.shard.known(agent.node as NodeId)!);
    });
    await plane.clock.advance(1_500);
    await left();
    expect(await status()).toBe("ready");
  });

  test("whose return is by a new session is not called lost again before its first request", async () => {
    await plane.clock.advance(8_000);
    await plane.clock.advance(60_000);
    await agent.openSession();
    await plane.clock.advance(100);
    expect(await written()).toEqual(["enrolled", "ready", "unreachable", "lost", "ready"]);
  });

  test("that is removed while it is being called lost leaves no event and takes no rev", async () => {
    let rev = 0;
    const left = whenEdgeLeaves("lost", async () => {
      rev = await plane.commit({ changes: [{ op: "delete", table: "nodes", keys: [{ id: agent.node }] }] });
    });
    await plane.clock.advance(8_000);
    await left();
    await plane.clock.advance(2_000);
    expect((await plane.context.store.marks()).rev).toBe(rev);
    expect(await written()).toEqual(["enrolled", "ready", "unreachable"]);
    expect(plane.log.lines.filter(({ level }) => level === "error")).toEqual([]);
  });

  test("that proves itself while others are being called unreachable is not called so after them", async () => {
    const count = 600;
    const rows = Array.from({ length: count }, (_, i) => nodeRow(i + 1));
    await plane.commit({ changes: [{ op: "insert", table: "nodes", rows }] });
    await plane.context.shard.refresh();
    const last = id("n", count);
    const link = plane.context.shard.known(last as NodeId)!;
    const left = whenEdgeLeaves("unreachable", async () => plane.context.shard.proved(link));
    await plane.clock.advance(1_500);
    await left();
    await until("two commits", async () => (await written()).filter((type) => type === "unreachable").length >= count);
    expect(await status(last)).toBe("ready");
    expect(await status(id("n", count - 1))).toBe("unreachable");
  });

  test("was last seen when it last proved itself", async () => {
    expect(plane.context.shard.lastSeenAgoMs(agent.node)).toBe(0);
    await plane.clock.advance(1_234);
    expect(plane.context.shard.lastSeenAgoMs(agent.node)).toBe(1_234);
    plane = await plane.restart();
    expect(plane.context.shard.lastSeenAgoMs(agent.node)).toBeNull();
  });
});
