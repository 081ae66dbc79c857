/**
 * What an agent costs a node: on a host of the lab with a real engine, the agent as the one file that machines download,
 * and a control plane that only speaks the wire.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { REPO, appOf, Ground } from "../test/agent/ground.ts";
import type { Bench, Line } from "./bench.ts";

const CONTAINERS = 20;
/** With what is watched after it: five minutes. */
const SETTLE_MS = 240_000;
const WATCH_MS = 60_000;
/** Node has started, and has asked and collected a few times. */
const ALONE_MS = 30_000;
/** Kernel ticks of 10 ms. */
const MS_PER_TICK = 10;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

interface Spent {
  readonly rssMiB: number;
  readonly anonMiB: number;
  /** Mapped from files: Node's program nearly all of it. */
  readonly fileMiB: number;
  readonly cpuMs: number;
}

async function spent(pid: number): Promise<Spent> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\) /, "").split(" ");
  const kiB = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]);
  return {
    rssMiB: kiB("VmRSS") / 1024,
    anonMiB: kiB("RssAnon") / 1024,
    fileMiB: kiB("RssFile") / 1024,
    cpuMs: (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK,
  };
}

const bundle = (...args: readonly string[]) => promisify(execFile)(process.execPath, [join(REPO, "agent", "bundle.mjs"), ...args]);
const LEAST = join(REPO, "dist", "least-agent.mjs");

/** What a process takes that has had the time to settle. */
async function alone(ground: Ground, args: readonly string[]): Promise<Spent> {
  const started = await ground.host.spawn([process.execPath, ...args]);
  await wait(ALONE_MS);
  const took = await spent(started.pid);
  await started.stop("SIGKILL");
  return took;
}

/** With 20 containers that have a health check every 10 s, and polls held for 5 s: an embedded control plane's. */
async function cost(report: (line: Line) => void): Promise<void> {
  const ground = await Ground.make("benchagent");
  try {
    await bundle();
    const { tag } = await ground.registry.push("web:1");
    await ground.fresh();
    ground.control.holdMs = 5_000;
    const agent = await ground.spawn(join(REPO, "dist", "agent.mjs"));
    const healthcheck = { test: ["CMD", "true"], intervalMs: 10_000 };
    const app = appOf(tag, { ports: [{ target: 8080 }], healthcheck });
    const replicas = ground.control.assign(Array.from({ length: CONTAINERS }, (_, slot) => ({ app, service: "web", slot: String(slot) })));
    for (const replica of replicas) await ground.control.until(replica, "running", ({ state }) => state === "running", 120_000);
    await wait(SETTLE_MS);
    const before = await spent(agent.pid);
    await wait(WATCH_MS);
    const after = await spent(agent.pid);
    // Peer: Node and nothing else, most of it its own program, mapped from the file and shared by all of a machine.
    const bare = await alone(ground, ["--eval", "setInterval(() => {}, 1000)"]);
    await bundle(LEAST, join(REPO, "bench", "least-agent.ts"));
    const least = await alone(ground, ["--max-semi-space-size=1", LEAST, ground.control.url, ground.host.socket]);
    report({ name: "agent.rss", value: after.rssMiB, unit: "MiB", goal: 60, floor: 110, peer: bare.rssMiB, limit: least.rssMiB });
    report({ name: "agent.file", value: after.fileMiB, unit: "MiB", goal: 40, peer: bare.fileMiB, limit: least.fileMiB });
    report({ name: "agent.anon", value: after.anonMiB, unit: "MiB", goal: 30, floor: 45, peer: bare.anonMiB, limit: least.anonMiB });
    report({ name: "agent.cpu", value: ((after.cpuMs - before.cpuMs) / WATCH_MS) * 100, unit: "% of a core", goal: 0.2, floor: 1 });
  } finally {
    await ground.close();
  }
}

export const benches: Bench[] = [{ name: "agent", goal: 60, unit: "MiB", run: cost }];
