/**
 * What a held poll costs and how fast it is woken: 1,000 agents hold theirs on one control plane over loopback HTTP. The
 * control plane is a process of its own; agents and operator are this one.
 *
 * wake.*     from the moment an operator's request to change a service is sent to the moment the agent that it concerns
 *            has the signed manifest: request, preview, commit, plan, commit, signature and answer.
 * poll.held  what resident memory grows by for each held poll, its socket and request included, after collecting garbage.
 */
import { type ChildProcess, fork } from "node:child_process";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent as HttpAgent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FACTS, FakeAgent, type JoinSecret, type Send } from "../test/worker/agent/fake-agent.ts";
import { JOIN_TOKEN_PREFIX, JoinToken } from "../shared/wire/enroll.ts";
import { PrivateEd25519 } from "../worker/keys.ts";
import type { Bench, Line } from "./bench.ts";

const AGENTS = 1_000;
const WARM_ROUNDS = 8;
const CHANGES = 200;
/** Changes apart: longer than the 100 ms between two plans, so that what is measured is not that. */
const CHANGE_EVERY_MS = 250;

interface Server {
  readonly process: ChildProcess;
  readonly url: string;
  readonly adminToken: string;
}

async function start(dataDir: string): Promise<Server> {
  const child = fork(fileURLToPath(new URL("wake-server.ts", import.meta.url)), [dataDir], { execArgv: ["--expose-gc"] });
  const [ready] = (await once(child, "message")) as [{ url: string; adminToken: string }];
  return { process: child, ...ready };
}

async function stop({ process }: Server): Promise<void> {
  process.send("stop");
  await once(process, "exit");
}

async function rssOf({ process }: Server): Promise<number> {
  // Twice with a pause: what the first collection frees, the allocator gives back a little later.
  for (const pauseMs of [1_000, 1_000]) {
    process.send("rss");
    await once(process, "message");
    await sleep(pauseMs);
  }
  process.send("rss");
  const [{ rss }] = (await once(process, "message")) as [{ rss: number }];
  return rss;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Plain node:http, one connection for each request that is under way: what agents behind NAT are to a server. */
function sender(url: string, connections: HttpAgent): Send {
  return (path, init) =>
    new Promise((resolve, reject) => {
      const headers = Object.fromEntries(new Headers(init?.headers));
      const sent = request(`${url}${path}`, { method: init?.method ?? "GET", headers, agent: connections }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("end", () => {
          const status = answer.statusCode ?? 0;
          const body = status === 204 ? null : Buffer.concat(chunks);
          resolve(new Response(body, { status, headers: answer.headers as Record<string, string> }));
        });
        answer.on("error", reject);
      });
      // A kept connection that the server closed just then: as any client does, once more on another.
      sent.on("error", (error) => (sent.reusedSocket ? resolve(sender(url, connections)(path, init)) : reject(error)));
      sent.end(init?.body as string | undefined);
    });
}

class Operator {
  readonly #send: Send;
  readonly #token: string;

  constructor(send: Send, token: string) {
    this.#send = send;
    this.#token = token;
  }

  async ask(method: string, path: string, body: unknown): Promise<unknown> {
    const headers = {
      authorization: `Bearer ${this.#token}`,
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(JSON.stringify(body))),
    };
    const answer = await this.#send(path, { method, headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  async joinToken(uses: number): Promise<JoinSecret> {
    const { token } = (await this.ask("POST", "/v1/join-tokens", { site: "default", uses })) as { token: string };
    const { id, seed } = JoinToken.parse(JSON.parse(Buffer.from(token.slice(JOIN_TOKEN_PREFIX.length), "base64url").toString("utf8")));
    const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.from(seed, "base64url")]);
    const jwk = PrivateEd25519.parse(createPrivateKey({ key: der, format: "der", type: "pkcs8" }).export({ format: "jwk" }));
    return { id, jwk };
  }
}

/** Polls again whenever it is answered, as an agent does; `onManifest` sees each. */
async function keepPolling(agent: FakeAgent, isOver: () => boolean, onManifest: (generation: number) => void): Promise<void> {
  while (!isOver()) {
    try {
      const manifest = await agent.accept();
      if (manifest !== null) onManifest(manifest.generation);
    } catch (error) {
      if (!isOver()) throw error;
    }
  }
}

async function enrollAll(server: Server): Promise<FakeAgent[]> {
  const connections = new HttpAgent({ keepAlive: true, maxSockets: 64 });
  const send = sender(server.url, connections);
  const token = await new Operator(send, server.adminToken).joinToken(AGENTS);
  const agents: FakeAgent[] = [];
  const one = async () => {
    const agent = await FakeAgent.make(send);
    await agent.enroll(token);
    await agent.openSession();
    await agent.request("POST", "/agent/v1/report", agent.reportBody({ facts: FACTS }));
    agents.push(agent);
  };
  for (let from = 0; from < AGENTS; from += 20) await Promise.all(Array.from({ length: 20 }, one));
  connections.destroy();
  return agents;
}

const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;

async function measureAll(): Promise<{ readonly wakeMs: readonly number[]; readonly bytesHeld: number }> {
  const dataDir = mkdtempSync(join(tmpdir(), "berth-wake-"));
  try {
    const first = await start(dataDir);
    const agents = await enrollAll(first);
    await stop(first);
    // A new process over the same database: its memory holds what a started control plane holds, and no enrolment's rest.
    const server = await start(dataDir);
    const connections = new HttpAgent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
    const send = sender(server.url, connections);
    // The same agents, connected to the new process.
    const moved = agents.map((agent) => agent.over(send));
    const bytesHeld = await heldBytes(server, moved);
    const wakeMs = await wakes(new Operator(send, server.adminToken), moved);
    await stop(server);
    connections.destroy();
    return { wakeMs, bytesHeld };
  } finally {
    rmSync(dataDir, { recursive: true });
  }
}

/**
 * The same number of connections and more requests than the measurement makes, none of them held: compiled code, the
 * heap's young generation and the allocator's arenas have grown to what load takes before anything is counted.
 */
async function warm(agents: readonly FakeAgent[]): Promise<void> {
  const nothing = `/agent/v1/bodies/${"0".repeat(64)}`;
  for (let round = 0; round < WARM_ROUNDS; round++) {
    for (let from = 0; from < agents.length; from += 50)
      await Promise.all(agents.slice(from, from + 50).map((agent) => agent.request("GET", nothing)));
  }
}

async function heldBytes(server: Server, agents: readonly FakeAgent[]): Promise<number> {
  await warm(agents);
  const before = await rssOf(server);
  let isOver = false;
  const polling = agents.map((agent) =>
    keepPolling(
      agent,
      () => isOver,
      () => {},
    ),
  );
  await sleep(12_000);
  const after = await rssOf(server);
  isOver = true;
  await Promise.all(polling);
  return (after - before) / agents.length;
}

async function wakes(operator: Operator, agents: readonly FakeAgent[]): Promise<number[]> {
  let isOver = false;
  let arrived: (atMs: number) => void = () => {};
  const polling = agents.map((agent) =>
    keepPolling(
      agent,
      () => isOver,
      () => arrived(performance.now()),
    ),
  );
  await operator.ask("PUT", "/v1/namespaces/default/apps/bench", {
    spec: { name: "bench", services: { web: { replicas: 0, workload: { image: `registry.invalid/web@sha256:${"a".repeat(64)}` } } } },
  });
  await sleep(2_000);
  const tookMs: number[] = [];
  for (let replicas = 1; replicas <= CHANGES; replicas++) {
    const woken = new Promise<number>((resolve) => {
      arrived = resolve;
    });
    const startMs = performance.now();
    await operator.ask("PATCH", "/v1/namespaces/default/apps/bench/services/web", { replicas });
    tookMs.push((await woken) - startMs);
    await sleep(CHANGE_EVERY_MS);
  }
  isOver = true;
  await Promise.all(polling);
  return tookMs.slice(20).sort((a, b) => a - b);
}

let measured: ReturnType<typeof measureAll> | null = null;
const measureOnce = () => {
  measured ??= measureAll();
  return measured;
};

const bench = (line: Omit<Line, "value">, value: (all: Awaited<ReturnType<typeof measureAll>>) => number): Bench => ({
  name: line.name,
  goal: line.goal,
  unit: line.unit,
  run: async (report) => report({ ...line, value: value(await measureOnce()) }),
});

export const benches: Bench[] = [
  bench({ name: "wake.p50", unit: "ms", goal: 10 }, ({ wakeMs }) => quantile(wakeMs, 0.5)),
  bench({ name: "wake.p99", unit: "ms", goal: 25 }, ({ wakeMs }) => quantile(wakeMs, 0.99)),
  bench({ name: "poll.held", unit: "bytes", goal: 16_384 }, ({ bytesHeld }) => bytesHeld),
];
