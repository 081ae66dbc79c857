import { describe, expect, test } from "vitest";
import { Watches } from "../../../worker/shard/watches.ts";
import { settle, VirtualClock } from "./control-plane.ts";

function makeWatches() {
  const clock = new VirtualClock();
  const watches = new Watches(clock);
  watches.reached({ rev: 10, observed: 5 });
  const ended: string[] = [];
  const wait = (name: string, rev: number, timeoutMs: number, signal: AbortSignal | null = null) =>
    void watches.waitFor({ rev, observed: 5 }, timeoutMs, signal).then(() => ended.push(name));
  const reached = (rev: number) => watches.reached({ rev, observed: 0 });
  return { clock, watches, ended, wait, reached };
}

describe("a watch", () => {
  test("ends when the rev is newer than its own, not before", async () => {
    const { watches, ended, wait, reached } = makeWatches();
    wait("known", 9, 1_000);
    wait("next", 10, 1_000);
    wait("later", 12, 1_000);
    await settle();
    expect(ended).toEqual(["known"]);
    reached(12);
    await settle();
    expect(ended).toEqual(["known", "next"]);
    reached(11); // heard late
    expect(watches.rev).toBe(12);
    reached(13);
    await settle();
    expect(ended).toEqual(["known", "next", "later"]);
  });

  test("ends when what is observed is newer than its own, not before", async () => {
    const { watches, ended } = makeWatches();
    const wait = (observed: number) => void watches.waitFor({ rev: 10, observed }, 1_000, null).then(() => ended.push(`${observed}`));
    for (const observed of [4, 5, 6, 7]) wait(observed);
    await settle();
    expect(ended).toEqual(["4"]);
    watches.reached({ rev: 0, observed: 6 });
    await settle();
    expect(ended).toEqual(["4", "5"]);
    watches.reached({ rev: 11, observed: 5 }); // of one counter newer, of the other heard late
    void watches.waitFor({ rev: 11, observed: 5 }, 1_000, null).then(() => ended.push("5"));
    await settle();
    expect(ended).toEqual(["4", "5", "6", "7", "5"]);
    watches.reached({ rev: 0, observed: 8 });
    expect(watches.rev).toBe(11);
  });

  test("ends at its time, when its caller goes away, and when the control plane stops; no timer stays", async () => {
    const { clock, watches, ended, wait } = makeWatches();
    const gone = new AbortController();
    wait("time", 99, 500);
    wait("caller", 99, 60_000, gone.signal);
    wait("stop", 99, 60_000);
    await clock.advance(500);
    expect(ended).toEqual(["time"]);
    gone.abort();
    await settle();
    expect(ended).toEqual(["time", "caller"]);
    watches.stop();
    wait("after", 99, 60_000);
    await settle();
    expect(ended).toEqual(["time", "caller", "stop", "after"]);
    expect(clock.timers).toBe(0);
  });
});
