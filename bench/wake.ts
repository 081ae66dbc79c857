/**
 * What a held poll costs and how fast it is woken, with 1,000 agents on one control plane over loopback HTTP. The control
 * plane is a process of its own, so are 999 of the agents; the operator and the agent that is woken are this one.
 *
 * wake.*           from the moment an operator's request to scale a service up or down is sent to the moment the agent that it
 *                  concerns has its signed manifest: request, preview, commit, plan, commit, signature, answer.
 *                  `limit`: two commits of two rows on this disk, one after the other, with nothing around them.
 * wake.committed.* the same from the moment the operator has the answer, which is sent when the change is committed.
 * poll.held        what resident memory grows by for each held poll, its socket and request included, with garbage
 *                  collected and unused pages given back.
 */
import { type ChildProcess, fork } from "node:child_process";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { JOIN_TOKEN_PREFIX, JoinToken } from "../shared/wire/enroll.ts";
import type { Manifest } from "../shared/wire/poll.ts";
import type { ReplicaFact, ReportRequest } from "../shared/wire/report.ts";
import { FACTS, FakeAgent, type JoinSecret, type Send } from "../test/worker/agent/fake-agent.ts";
import { PrivateEd25519 } from "../worker/keys.ts";
import { openDatabaseFile } from "../worker/store/database-embedded.ts";
import type { Bench, Line } from "./bench.ts";
import { connections, sender } from "./sender.ts";
import type { AgentsOrder } from "./wake-agents.ts";

const AGENTS = 1_000;
const WARM_ROUNDS = 8;
const CHANGES = 220;
/** Not counted: code is compiled. */
const CHANGES_WARM = 20;
/** Changes apart: longer than the 100 ms between two plans, so that what is measured is not that. */
const CHANGE_EVERY_MS = 250;
/** Two holds and a bit: every agent holds a poll, at its own time. */
const SETTLE_MS = 12_000;

interface Server {
  readonly process: ChildProcess;
  readonly url: string;
  readonly adminToken: string;
}

interface Measures {
  readonly wakeMs: readonly number[];
  readonly committedMs: readonly number[];
  readonly limitMs: readonly number[];
  readonly bytesHeld: number;
}

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const sorted = (values: readonly number[]) => values.slice(CHANGES_WARM).sort((a, b) => a - b);
const quantile = (ordered: readonly number[], share: number) =>
  ordered[Math.min(ordered.length - 1, Math.floor(ordered.length * share))] ?? Number.NaN;

async function start(dataDir: string): Promise<Server> {
  const child = fork(here("wake-server.ts"), [dataDir], { execArgv: ["--expose-gc"] });
  const [ready] = (await once(child, "message")) as [{ url: string; adminToken: string }];
  return { process: child, ...ready };
}

async function stop({ process }: Server): Promise<void> {
  process.send("stop");
  await once(process, "exit");
}

async function order(agents: ChildProcess, what: AgentsOrder): Promise<void> {
  agents.send(what);
  await once(agents, "message");
}

/** Three collections a second apart: what one frees, the allocator gives back a little later. */
async function rssOf({ process }: Server): Promise<number> {
  let bytes = 0;
  for (let look = 0; look < 3; look++) {
    await sleep(1_000);
    process.send("rss");
    const [{ rss }] = (await once(process, "message")) as [{ rss: number }];
    bytes = rss;
  }
  return bytes;
}

class Operator {
  readonly #send: Send;
  readonly #token: string;

  constructor({ url, adminToken }: Server) {
    this.#send = sender(url, connections(4));
    this.#token = adminToken;
  }

  async ask(method: string, path: string, asked: unknown): Promise<unknown> {
    const body = JSON.stringify(asked);
    const headers = {
      authorization: `Bearer ${this.#token}`,
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(body)),
    };
    const answer = await this.#send(path, { method, headers, body });
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

async function measureAll(): Promise<Measures> {
  const dataDir = mkdtempSync(join(tmpdir(), "berth-wake-"));
  const agents = fork(here("wake-agents.ts"));
  try {
    const first = await start(dataDir);
    const token = await new Operator(first).joinToken(AGENTS);
    await order(agents, { kind: "enroll", url: first.url, token, count: AGENTS - 1 });
    const mine = await FakeAgent.make(sender(first.url, connections(1)));
    await mine.enroll(token, { payload: { name: "woken" } });
    await mine.openSession();
    await mine.request("POST", "/agent/v1/report", mine.reportBody({ facts: FACTS }));
    await stop(first);

    // A new process over the same database: it holds what a started control plane holds, and nothing of enrolments.
    const server = await start(dataDir);
    await order(agents, { kind: "warm", url: server.url, rounds: WARM_ROUNDS });
    const before = await rssOf(server);
    await order(agents, { kind: "poll", url: server.url });
    await sleep(SETTLE_MS);
    const after = await rssOf(server);
    const wakes = await measureWakes(server, mine.over(sender(server.url, connections(4))));
    await order(agents, { kind: "stop" });
    await stop(server);
    return { ...wakes, limitMs: await measureCommits(dataDir), bytesHeld: (after - before) / (AGENTS - 1) };
  } finally {
    agents.disconnect();
    rmSync(dataDir, { recursive: true });
  }
}

async function measureWakes(server: Server, agent: FakeAgent): Promise<Pick<Measures, "wakeMs" | "committedMs">> {
  const operator = new Operator(server);
  // It was silent for longer than a node may be.
  await agent.openSession();
  await agent.request("POST", "/agent/v1/report", agent.reportBody({ facts: FACTS }));
  const image = `registry.invalid/web@sha256:${"a".repeat(64)}`;
  const placement = { constraints: [{ key: "node.name", operator: "=", values: ["woken"] }] };
  const reservation = { cpuMillis: 0, memoryMiB: 0 };
  const web = { replicas: 0, workload: { image }, placement, reservation };
  await operator.ask("PUT", "/v1/namespaces/default/apps/bench", { spec: { name: "bench", services: { web } } });
  await sleep(1_000);
  const wakeMs: number[] = [];
  const committedMs: number[] = [];
  for (let change = 1; change <= CHANGES; change++) {
    const woken = nextManifest(agent).then((manifest) => ({ manifest, atMs: performance.now() }));
    await sleep(CHANGE_EVERY_MS);
    const sentMs = performance.now();
    await operator.ask("PATCH", "/v1/namespaces/default/apps/bench/services/web", { replicas: change % 2 });
    const answeredMs = performance.now();
    const { manifest, atMs } = await woken;
    wakeMs.push(atMs - sentMs);
    // The agent may have it before the operator has the answer.
    committedMs.push(Math.max(0, atMs - answeredMs));
    await agent.request("POST", "/agent/v1/report", running(agent, manifest));
  }
  return { wakeMs: sorted(wakeMs), committedMs: sorted(committedMs) };
}

async function nextManifest(agent: FakeAgent): Promise<Manifest> {
  for (;;) {
    const manifest = await agent.accept();
    if (manifest !== null) return manifest;
  }
}

/** All that the manifest names runs, and nothing else is left. */
function running(agent: FakeAgent, { generation, assignments }: Manifest): ReportRequest {
  const replicas = assignments.map(
    ({ replica }): ReplicaFact => ({
      replica,
      state: "running",
      reason: "",
      message: "",
      containerId: "c0ffee",
      health: "none",
      readyForMs: 60_000,
      restarts: 0,
      exitCode: null,
      oomKilled: false,
      ports: [],
      pull: null,
      logTail: [],
      ageMs: 0,
    }),
  );
  return agent.reportBody({ complete: true, generation, replicas });
}

async function measureCommits(dataDir: string): Promise<number[]> {
  const database = await openDatabaseFile(join(dataDir, "limit.db"));
  await database.write(["create table t (a integer)"]);
  const commit = () => database.write(["insert into t values (1)", "insert into t values (2)"]);
  const tookMs: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    await sleep(20);
    const startMs = performance.now();
    await commit();
    await commit();
    tookMs.push(performance.now() - startMs);
  }
  await database.close();
  return sorted(tookMs);
}

let measured: Promise<Measures> | null = null;
const measureOnce = () => {
  measured ??= measureAll();
  return measured;
};

const bench = (line: Pick<Line, "name" | "unit" | "goal">, value: (all: Measures) => { value: number; limit?: number }): Bench => ({
  ...line,
  run: async (report) => report({ ...line, ...value(await measureOnce()) }),
});
const quantiles = (share: number) => (all: Measures) => ({ value: quantile(all.wakeMs, share), limit: quantile(all.limitMs, share) });

export const benches: Bench[] = [
  bench({ name: "wake.p50", unit: "ms", goal: 15 }, quantiles(0.5)),
  bench({ name: "wake.p99", unit: "ms", goal: 25 }, quantiles(0.99)),
  bench({ name: "wake.committed.p50", unit: "ms", goal: 10 }, ({ committedMs }) => ({ value: quantile(committedMs, 0.5) })),
  bench({ name: "wake.committed.p99", unit: "ms", goal: 25 }, ({ committedMs }) => ({ value: quantile(committedMs, 0.99) })),
  bench({ name: "poll.held", unit: "bytes", goal: 16_384 }, ({ bytesHeld }) => ({ value: bytesHeld })),
];
