/** The Clock and Random ports over Linux and Node. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Clock, Random } from "./ports.ts";

/** Node's monotonic clock stops while the machine is suspended; `/proc/uptime` does not. */
export const nodeClock: Clock = {
  wallMs: () => Date.now(),
  bootMs: () => Math.round(Number.parseFloat(readFileSync("/proc/uptime", "latin1")) * 1000),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

export const nodeRandom: Random = {
  bytes: (count) => new Uint8Array(randomBytes(count)),
  fraction: () => Math.random(),
};
