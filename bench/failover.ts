/**
 * From the moment that a host is cut off to the moment that as many replicas as it had are seen running on the other hosts:
 * six hosts with an engine each, joined as a user joins them, every setting as shipped. Every host of five is cut off once,
 * at a moment by chance: one that was lost before counts as flapping, and is waited for longer.
 *
 * The images are on all hosts beforehand: what a pull takes is the registry's and the link's business.
 *
 * What the defaults add up to: a node is lost 8 s after its last proved request (`lostAfterMs`), and proves itself every
 * 4.5 to 5 s (`pollHoldMs`, less its jitter). So a cut is noticed 3 to 8 s after it happened, 5.6 s in the mean; a sooner
 * answer would count a living node as lost that is 3 s late with one poll.
 */
import { randomInt } from "node:crypto";
import type { Replica } from "../shared/api/resources.ts";
import { Cluster } from "../test/e2e/cluster.ts";
import type { Host } from "../test/e2e/hosts/host.ts";
import { Lab } from "../test/e2e/hosts/lab.ts";
import { until } from "../test/e2e/hosts/until.ts";
import { EMBEDDED_TIMING } from "../worker/shard/presence.ts";
import { type Bench, type Line, RUNS } from "./bench.ts";

const HOSTS = 6;
const REPLICAS = 12;
const SITE = "berlin";
/** One hold, so that the moment of the cut is any moment of it. */
const PHASE_MS = EMBEDDED_TIMING.pollHoldMs;
const SETTLE_MS = 90_000;
/** The first holds of an agent are spread over the whole hold, which is not how it polls from then on. */
const POLLED_MS = 6_000;

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const spread = (values: readonly number[]): number => (Math.max(...values) - Math.min(...values)) / median(values);

interface Failover {
  readonly lostMs: number;
  readonly runningMs: number;
}

const compose = (image: string) => `
services:
  web:
    image: ${image}
    stop_grace_period: 1s
    deploy:
      replicas: ${REPLICAS}
    x-berth:
      minHealthy: 1s
`;

const runsElsewhere = (replica: Replica, host: Host) =>
  replica.node.name !== host.name && replica.node.status === "ready" && replica.desired === "run" && replica.state === "running";

async function cutOff(cluster: Cluster, host: Host): Promise<Failover> {
  await wait(randomInt(PHASE_MS));
  const startMs = performance.now();
  await host.cutOff();
  // Both are looked for at once, every 15 ms: neither waits for the other.
  const lost = until(
    `${host.name} to be lost`,
    async () => (await cluster.nodes()).some((node) => node.name === host.name && node.status === "lost") && performance.now() - startMs,
    { timeoutMs: SETTLE_MS },
  );
  const running = until(
    `the replicas of ${host.name} to run elsewhere`,
    async () =>
      (await cluster.replicas("web")).filter((replica) => runsElsewhere(replica, host)).length === REPLICAS && performance.now() - startMs,
    { timeoutMs: SETTLE_MS },
  );
  const [lostMs, runningMs] = await Promise.all([lost, running]);
  await host.reconnect();
  await cluster.settled("web", REPLICAS, SETTLE_MS);
  return { lostMs, runningMs };
}

async function run(report: (line: Line) => void): Promise<void> {
  const lab = await Lab.create({ name: "benchfail" });
  try {
    await lab.bareRoot();
    const cluster = new Cluster(lab);
    const registry = await lab.registry();
    const [hosts] = await Promise.all([Promise.all(Array.from({ length: HOSTS }, (_, n) => lab.host(`h${n + 1}`))), cluster.startServer()]);
    const { tag } = await registry.push("web:1", { cmd: ["sh", "-c", "trap exit TERM; sleep 100000 & wait"] });
    await cluster.mustBerth(["site", "create", SITE]);
    for (const host of hosts) await cluster.join(host, SITE);
    await Promise.all(hosts.map((host) => host.engine.client.pull(tag)));
    await cluster.mustDeploy("web", compose(tag));
    await cluster.settled("web", REPLICAS, SETTLE_MS);
    await wait(POLLED_MS);
    const all: Failover[] = [];
    for (const host of hosts.slice(0, RUNS)) all.push(await cutOff(cluster, host));
    const seconds = (of: (failover: Failover) => number) => all.map((failover) => of(failover) / 1_000);
    const line = (name: string, goal: number, values: readonly number[], limit?: number): Line => ({
      name,
      value: median(values),
      unit: "s",
      goal,
      spread: spread(values),
      ...(limit === undefined ? {} : { limit }),
    });
    const { lostAfterMs, pollHoldMs, jitter } = EMBEDDED_TIMING;
    const noticedMs = lostAfterMs - (pollHoldMs * (1 - jitter / 2)) / 2;
    report(
      line(
        "failover.ordinary",
        8.7,
        seconds(({ runningMs }) => runningMs),
        noticedMs / 1_000,
      ),
    );
    report({
      ...line("failover.ordinary.worst", lostAfterMs / 1_000 + 0.7, [Math.max(...seconds(({ runningMs }) => runningMs))]),
      limit: lostAfterMs / 1_000,
    });
    report(
      line(
        "failover.ordinary.lost",
        lostAfterMs / 1_000,
        seconds(({ lostMs }) => lostMs),
        noticedMs / 1_000,
      ),
    );
    report(
      line(
        "failover.ordinary.placed",
        0.7,
        seconds(({ lostMs, runningMs }) => runningMs - lostMs),
      ),
    );
  } finally {
    await lab.close();
  }
}

export const benches: Bench[] = [{ name: "failover.ordinary", goal: 8.7, unit: "s", run }];
