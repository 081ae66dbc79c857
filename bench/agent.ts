/**
 * What an agent costs a node, and what it adds to what the engine itself needs. Each is measured on a host of the lab with
 * a real engine, the agent as the one file that machines download, and a control plane that only speaks the wire.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { REPO, appOf, Ground } from "../test/agent/ground.ts";
import type { Bench, Line } from "./bench.ts";

const CONTAINERS = 20;
const SETTLE_MS = 30_000;
const WATCH_MS = 60_000;
/** Node has started and collected what that left. */
const BARE_MS = 3_000;
const DEPLOYED = 30;
const DEPLOY_RUNS = 5;
/** Kernel ticks of 10 ms. */
const MS_PER_TICK = 10;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

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

/** With 20 containers that have a health check every 10 s, and polls held for 5 s: an embedded control plane's. */
async function cost(report: (line: Line) => void): Promise<void> {
  const ground = await Ground.make("benchagent");
  try {
    await promisify(execFile)(process.execPath, [join(REPO, "agent", "bundle.mjs")]);
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
    // Of the resident memory of any Node, most is its own program, mapped from the file and shared by all of a machine.
    const bare = await ground.host.spawn([process.execPath, "--eval", "setInterval(() => {}, 1000)"]);
    await wait(BARE_MS);
    const least = await spent(bare.pid);
    await bare.stop("SIGKILL");
    report({ name: "agent.rss", value: after.rssMiB, unit: "MiB", goal: 60, floor: 110, limit: least.rssMiB });
    report({ name: "agent.file", value: after.fileMiB, unit: "MiB", goal: 40, limit: least.fileMiB });
    report({ name: "agent.anon", value: after.anonMiB, unit: "MiB", goal: 30, floor: 45, limit: least.anonMiB });
    report({ name: "agent.cpu", value: ((after.cpuMs - before.cpuMs) / WATCH_MS) * 100, unit: "% of a core", goal: 0.2, floor: 1 });
  } finally {
    await ground.close();
  }
}

/** From the moment that a manifest of 30 can be had to the report that the last of them runs, against the engine's API alone. */
async function deploy(report: (line: Line) => void): Promise<void> {
  const ground = await Ground.make("benchdeploy");
  try {
    const { tag } = await ground.registry.push("web:1");
    const { client } = ground.host.engine;
    await client.pull(tag);
    const raw: number[] = [];
    const ours: number[] = [];
    for (let run = 0; run <= DEPLOY_RUNS; run++) {
      const [floorMs, agentMs] = [await rawDeploy(ground, tag), await agentDeploy(ground, tag)];
      // The first warms the engine's caches up.
      if (run === 0) continue;
      raw.push(floorMs);
      ours.push(agentMs);
    }
    const ratios = ours.map((ms, index) => ms / (raw[index] ?? Number.NaN));
    report({ name: "deploy30.engine", value: median(raw) / 1000, unit: "s", goal: 6 });
    report({ name: "deploy30.agent", value: median(ours) / 1000, unit: "s", goal: 6, limit: median(raw) / 1000 });
    report({
      name: "deploy30.ratio",
      value: median(ratios),
      unit: "× engine",
      goal: 1.05,
      floor: 1.3,
      spread: (Math.max(...ratios) - Math.min(...ratios)) / median(ratios),
    });
  } finally {
    await ground.close();
  }
}

/** What the agent asks of the engine and nothing else: a network, then create and start of each, four at a time. */
async function rawDeploy(ground: Ground, image: string): Promise<number> {
  await ground.clean();
  const { client } = ground.host.engine;
  const queue = Array.from({ length: DEPLOYED }, (_, slot) => slot);
  const startMs = performance.now();
  await client.request("POST", "/networks/create", { body: { Name: "raw", Driver: "bridge", CheckDuplicate: true } });
  const worker = async () => {
    for (let slot = queue.shift(); slot !== undefined; slot = queue.shift()) {
      await client.runContainer(`raw-${slot}`, {
        Image: image,
        HostConfig: { NetworkMode: "raw", LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } } },
        NetworkingConfig: { EndpointsConfig: { raw: { Aliases: ["web"] } } },
      });
    }
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  return performance.now() - startMs;
}

async function agentDeploy(ground: Ground, image: string): Promise<number> {
  await ground.fresh();
  await ground.start();
  await wait(500);
  const startMs = performance.now();
  const replicas = ground.control.assign(
    Array.from({ length: DEPLOYED }, (_, slot) => ({ app: appOf(image), service: "web", slot: String(slot) })),
  );
  for (const replica of replicas)
    await ground.control.until(replica, "running", ({ state, containerId }) => state === "running" && containerId !== null, 120_000);
  const tookMs = performance.now() - startMs;
  await ground.stop();
  return tookMs;
}

export const benches: Bench[] = [
  { name: "agent", goal: 30, unit: "MiB", run: cost },
  { name: "deploy30", goal: 1.05, unit: "× engine", run: deploy },
];
