/**
 * From an operator's call to 30 containers on three hosts that the API shows as running, beside the same create bodies
 * given to the three engines by hand. Both in turn; images are on the hosts beforehand; every setting as shipped.
 */
import { setTimeout as pause } from "node:timers/promises";
import { Cluster } from "../test/e2e/cluster.ts";
import type { ContainerInspect } from "../test/e2e/hosts/engine-client.ts";
import type { Host } from "../test/e2e/hosts/host.ts";
import { Lab } from "../test/e2e/hosts/lab.ts";
import { until } from "../test/e2e/hosts/until.ts";
import { type Bench, type Line, RUNS } from "./bench.ts";

const HOSTS = 3;
const REPLICAS = 30;
const SITE = "berlin";
/** As many creates at a time as the agent has under way. */
const AT_ONCE = 4;
/** Looking takes the control plane's time too. */
const LOOK_MS = 50;
const TIMEOUT_MS = 120_000;

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const spread = (values: readonly number[]): number => (Math.max(...values) - Math.min(...values)) / median(values);

/** What one engine is asked for. */
interface Asked {
  readonly host: Host;
  readonly network: Record<string, unknown> & { readonly Name: string };
  readonly containers: readonly (Record<string, unknown> & { readonly Image: string })[];
}

async function run(report: (line: Line) => void): Promise<void> {
  const lab = await Lab.create({ name: "benchdeploy" });
  try {
    await lab.bareRoot();
    const cluster = new Cluster(lab);
    const registry = await lab.registry();
    const [hosts] = await Promise.all([Promise.all(Array.from({ length: HOSTS }, (_, n) => lab.host(`h${n + 1}`))), cluster.startServer()]);
    const { tag } = await registry.push("web:1", { cmd: ["sh", "-c", "trap exit TERM; sleep 100000 & wait"] });
    await cluster.mustBerth(["site", "create", SITE]);
    for (const host of hosts) await cluster.join(host, SITE);
    await Promise.all(hosts.map((host) => host.engine.client.pull(tag)));
    const engineMs: number[] = [];
    const berthMs: number[] = [];
    let asked: readonly Asked[] | null = null;
    // The first warms the engines' caches up, and shows what the agents ask them for.
    for (let round = 0; round <= RUNS; round++) {
      const rawMs = asked === null ? null : await byHand(asked);
      const tookMs = await byBerth(cluster, `web-${round}`, tag);
      asked ??= await Promise.all(hosts.map((host) => askedOf(host)));
      await remove(cluster, hosts, `web-${round}`);
      if (rawMs === null) continue;
      engineMs.push(rawMs);
      berthMs.push(tookMs);
    }
    const ratios = berthMs.map((ms, at) => ms / (engineMs[at] ?? Number.NaN));
    report({ name: "deploy30.engine", value: median(engineMs) / 1_000, unit: "s", goal: 6, spread: spread(engineMs) });
    report({ name: "deploy30.berth", value: median(berthMs) / 1_000, unit: "s", goal: 6, spread: spread(berthMs) });
    report({ name: "deploy30.ratio", value: median(ratios), unit: "× engine", goal: 1.05, floor: 1.3, spread: spread(ratios) });
  } finally {
    await lab.close();
  }
}

async function byBerth(cluster: Cluster, app: string, image: string): Promise<number> {
  const spec = { name: app, services: { web: { replicas: REPLICAS, workload: { image, stopGraceMs: 1_000 } } } };
  const startMs = performance.now();
  await cluster.api("PUT", `/v1/namespaces/default/apps/${app}`, { spec });
  for (;;) {
    const running = (await cluster.replicas(app)).filter(({ state }) => state === "running").length;
    const tookMs = performance.now() - startMs;
    if (running === REPLICAS) return tookMs;
    if (tookMs > TIMEOUT_MS) throw new Error(`after ${TIMEOUT_MS} ms ${running} of ${REPLICAS} replicas run`);
    await pause(LOOK_MS);
  }
}

async function remove(cluster: Cluster, hosts: readonly Host[], app: string): Promise<void> {
  await cluster.api("DELETE", `/v1/namespaces/default/apps/${app}`);
  await until("the hosts to be empty", async () => (await Promise.all(hosts.map(isEmpty))).every(Boolean), { timeoutMs: TIMEOUT_MS });
}

async function isEmpty({ engine: { client } }: Host): Promise<boolean> {
  return (await client.containers()).length === 0 && (await ownNetworks(client)).length === 0;
}

/** Those that are not the engine's. */
const ownNetworks = async (client: Host["engine"]["client"]) =>
  (JSON.parse((await client.request("GET", "/networks")).text) as { Name: string; Labels: Record<string, string> }[]).filter(
    ({ Name }) => !["bridge", "host", "none"].includes(Name),
  );

/** What berth's containers and network were made from, with names and labels that no agent takes for its own. */
async function askedOf(host: Host): Promise<Asked> {
  const { client } = host.engine;
  const [network] = await ownNetworks(client);
  if (network === undefined) throw new Error(`${host.name} has no network of berth's`);
  const made = await Promise.all((await client.containers()).map(({ Id }) => client.inspect(Id)));
  return {
    host,
    network: { Name: "raw", Driver: "bridge", Labels: foreign(network.Labels) },
    containers: made.map((container) => bodyOf(container, network.Name)),
  };
}

function bodyOf({ Config, HostConfig, NetworkSettings }: ContainerInspect, network: string): Asked["containers"][number] {
  const endpoint = NetworkSettings.Networks[network] as { Aliases?: readonly string[] } | undefined;
  return {
    ...Config,
    Labels: foreign(Config.Labels),
    HostConfig: { ...HostConfig, NetworkMode: "raw" },
    NetworkingConfig: { EndpointsConfig: { raw: { Aliases: endpoint?.Aliases ?? [] } } },
  };
}

const foreign = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).map(([key, value]) => [key.replace(/^berth/, "other"), value]));

async function byHand(asked: readonly Asked[]): Promise<number> {
  const startMs = performance.now();
  await Promise.all(asked.map(onHost));
  const tookMs = performance.now() - startMs;
  await Promise.all(
    asked.map(async ({ host }) => {
      const { client } = host.engine;
      for (const { Id } of await client.containers()) await client.removeContainer(Id);
      await client.request("POST", "/networks/prune");
    }),
  );
  return tookMs;
}

async function onHost({ host, network, containers }: Asked): Promise<void> {
  const { client } = host.engine;
  const { status, text } = await client.request("POST", "/networks/create", { body: network });
  if (status !== 201) throw new Error(`the engine made no network: ${text}`);
  const queue = [...containers.entries()];
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await client.runContainer(`raw-${next[0]}`, next[1]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

export const benches: Bench[] = [{ name: "deploy30", goal: 1.05, unit: "× engine", run }];
