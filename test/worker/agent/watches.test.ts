import { describe, expect, test } from "vitest";
import { Watches } from "../../../worker/shard/watches.ts";
import { settle, VirtualClock } from "./control-plane.ts";

function makeWatches() {
  const clock = new VirtualClock();
  const watches = new Watches(clock);
  watches.reached(10);
  const ended: string[] = [];
  const wait = (name: string, rev: number, timeoutMs: number, signal: AbortSignal | null = null) =>
    void watches.waitFor(rev, timeoutMs, signal).then(() => ended.push(name));
  return { clock, watches, ended, wait };
}

describe("a watch", () => {
  test("ends at its rev, not before", async () => {
    const { watches, ended, wait } = makeWatches();
    wait("known", 10, 1_000);
    wait("next", 11, 1_000);
    wait("later", 13, 1_000);
    await settle();
    expect(ended).toEqual(["known"]);
    watches.reached(12);
    await settle();
    expect(ended).toEqual(["known", "next"]);
    watches.reached(11); // heard late
    expect(watches.rev).toBe(12);
    watches.reached(13);
    await settle();
    expect(ended).toEqual(["known", "next", "later"]);
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
