/**
 * `berth up`, which `npm start` runs: a control plane on this machine, this machine as its node, the example deployed,
 * and what to do next. Everything it makes is in `.berth/`, so a second start goes on with it and `--down` removes it.
 */
import { writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { AgentHandle } from "../../agent/main.ts";
import type { App, DeployAnswer, JoinTokenCreated } from "../../shared/api/resources.ts";
import { ApiError, type Client } from "../client/client.ts";
import { LOCAL_DIRECTORY, TOKEN_FILE } from "../client/contexts.ts";
import { clientOf } from "../client/local.ts";
import { CliError } from "../exit.ts";
import { seconds } from "../render/amount.ts";
import { visible, visibleLog } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { EngineApi } from "../up/engine-api.ts";
import { EngineProblem, ensureEngine } from "../up/engine.mjs";
import { ensureHelloImage, noteHelloImage } from "../up/hello-image.ts";
import { hold, holderOf, isPortTaken, release } from "../up/lock.ts";
import { type FileLog, openLogFile } from "../up/log-file.ts";
import { Stage } from "../up/stage.ts";
import { type HelloResult, untilHealthy } from "../up/wait.ts";
import { appPath } from "./paths.ts";
import { portTaken, startFailure, writeAddress } from "./server.ts";

export interface UpOptions {
  readonly port: number;
  readonly down: boolean;
  readonly deleteData: boolean;
}

export const ROOT_DIRECTORY = fileURLToPath(new URL("../..", import.meta.url));
export const HELLO_DIRECTORY = path.join(ROOT_DIRECTORY, "examples", "hello");
export const HELLO_APP = "hello";
/** Every cluster has this one from its beginning. */
const SITE = "default";
const REPLICAS = 3;

/** What runs in this process. `stop` leaves containers running. */
export interface Cluster {
  readonly client: Client;
  readonly url: string;
  readonly dataDir: string;
  readonly socket: string;
  /** Reference of the example's image, once it is there. */
  readonly image: Promise<string>;
  stop(): Promise<void>;
}

export async function up(shell: Shell, options: UpOptions): Promise<void> {
  const dataDir = path.join(ROOT_DIRECTORY, LOCAL_DIRECTORY);
  if (options.down) {
    const { down } = await import("../up/down.ts");
    await down(shell, { dataDir, deleteData: options.deleteData, port: options.port });
    return;
  }
  if (options.deleteData) throw new CliError("--delete-data belongs to --down", { next: "npm start -- --down --delete-data" });
  const { terminal } = shell;
  const beganMs = startMs(shell);
  const stage = new Stage(terminal, beganMs);
  let cluster: Cluster | undefined;
  try {
    cluster = await startCluster(shell, { dataDir, port: options.port, stage, image: true });
    if (await deployHello(shell, cluster, { stage, beganMs })) {
      line(
        terminal,
        terminal.style.quiet(
          `Ready after ${seconds(performance.now() - beganMs)}. Ctrl-C stops the control plane and the agent; the containers go on.`,
        ),
      );
    }
    await aborted(shell.signal);
  } catch (error) {
    if (!shell.signal.aborted) throw error;
  } finally {
    stage.end();
    await cluster?.stop();
  }
  line(terminal, "\nStopped. The containers go on running; `npm start` takes them up again, `npm start -- --down` removes them.");
}

/** When this start began, as of performance.now(): the bootstrap hands its own beginning on. */
function startMs(shell: Shell): number {
  const wallMs = Number(shell.env.BERTH_START_MS);
  return Number.isFinite(wallMs) ? performance.now() - Math.max(0, Date.now() - wallMs) : performance.now() - process.uptime() * 1000;
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", () => resolve(), { once: true })));

interface ClusterStart {
  readonly dataDir: string;
  readonly port: number;
  readonly stage: Stage;
  /** Make the example's image meanwhile. */
  readonly image: boolean;
}

/** Engine, control plane and agent. Throws CliError with what to do. */
export async function startCluster(shell: Shell, options: ClusterStart): Promise<Cluster> {
  const { dataDir, port, stage } = options;
  const holder = await holderOf(dataDir);
  if (holder !== null)
    throw new CliError(`this cluster runs already, at ${holder.url} (pid ${holder.pid}): stop it with Ctrl-C there`, {
      next: "npx berth ps",
    });
  if (await isPortTaken(port)) throw portTaken(port, `npm start -- --port ${port + 1}`);
  // Taken now, so that Ctrl-C during the start stops in order too.
  const { signal } = shell;
  stage.set("starting the control plane");
  const ready = engineReady({ dataDir, shell, say: (text) => stage.say(text) });
  const image = ready.then(({ socket }) =>
    options.image
      ? ensureHelloImage(new EngineApi(socket), HELLO_DIRECTORY, (reference) => {
          stage.say("Making the example's image from files of this machine");
          return noteHelloImage(dataDir, reference);
        })
      : "",
  );
  // Awaited when it is needed; until then a failure waits too.
  image.catch(() => undefined);
  const [{ startServer }, { runAgent, AgentError }, engine] = await Promise.all([
    import("../../worker/node.ts"),
    import("../../agent/main.ts"),
    ready,
  ]);
  const url = `http://127.0.0.1:${port}`;
  await hold(dataDir, url);
  const serverLog = openLogFile(path.join(dataDir, "server.log"));
  const agentLog = openLogFile(path.join(dataDir, "agent.log"));
  const closing: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const close of closing.reverse()) await close();
    for (const log of [serverLog, agentLog]) log.close();
    await release(dataDir);
  };
  try {
    const server = await startServer({ dataDir, host: "127.0.0.1", port, log: serverLog }).catch((error: unknown) => {
      throw startFailure(error, { dataDir, port, otherPort: `npm start -- --port ${port + 1}` });
    });
    closing.push(() => server.close());
    await writeAddress(dataDir, { url, root: null, spki: null });
    const client = clientOf(dataDir);
    stage.set("enrolling this machine");
    const agent = await startAgent({ runAgent, AgentError, client, dataDir, socket: engine.socket, log: agentLog, env: shell.env, signal });
    closing.push(() => agent.stop());
    return { client, url, dataDir, socket: engine.socket, image, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

export async function engineReady(options: {
  dataDir: string;
  shell: Shell;
  say: (text: string) => void;
}): Promise<{ socket: string; version: string }> {
  try {
    return await ensureEngine({ dataDir: options.dataDir, env: options.shell.env, say: options.say });
  } catch (error) {
    if (error instanceof EngineProblem)
      throw new CliError(error.message, { details: error.details.map((text) => `| ${visibleLog(text)}`) });
    throw error;
  }
}

interface AgentStart {
  readonly runAgent: typeof import("../../agent/main.ts").runAgent;
  readonly AgentError: typeof import("../../agent/main.ts").AgentError;
  readonly client: Client;
  readonly dataDir: string;
  readonly socket: string;
  readonly log: FileLog;
  readonly env: Shell["env"];
  readonly signal: AbortSignal;
}

/** Goes on as the node it was, or joins as a new one. */
async function startAgent({ runAgent, AgentError, client, dataDir, socket, log, env, signal }: AgentStart): Promise<AgentHandle> {
  const options = { dataDir: path.join(dataDir, "agent"), engineSocket: socket, log, env, signal };
  try {
    return await runAgent(options);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    if (error.code !== "notJoined") throw new CliError(error.message);
  }
  const { token } = await client.post<JoinTokenCreated>("/v1/join-tokens", { site: SITE });
  return runAgent({ ...options, joinToken: token, name: nodeName() });
}

/** The host name as a node's name: lower case, what is not allowed as "-". */
function nodeName(): string {
  const name = hostname()
    .toLowerCase()
    .replace(/[^a-z0-9_.-]/g, "-")
    .slice(0, 63)
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "");
  return name === "" ? "this-machine" : name;
}

/** True when all replicas are healthy and every address answers; says so, or what is wrong, either way. */
async function deployHello(shell: Shell, cluster: Cluster, { stage, beganMs }: { stage: Stage; beganMs: number }): Promise<boolean> {
  const { terminal } = shell;
  stage.set("deploying the example");
  const existing = await helloApp(cluster.client, stage);
  if (existing === null) await createHello(shell, cluster);
  stage.end();
  const wanted = existing === null ? REPLICAS : existing.services.reduce((sum, service) => sum + service.wanted, 0);
  const result = await untilHealthy(shell, { client: cluster.client, app: HELLO_APP, wanted, beganMs });
  line(terminal);
  if (result.isHealthy) tellReady(shell, cluster, result.urls);
  else tellTrouble(shell, cluster, result);
  return result.isHealthy;
}

/** How long a removal that was begun earlier is waited for: a stop takes its 10 s of grace at most. */
const REMOVAL_TIMEOUT_MS = 60_000;

/** The example as it is deployed; null: it is not, or not any more. */
async function helloApp(client: Client, stage: Stage): Promise<App | null> {
  const endMs = performance.now() + REMOVAL_TIMEOUT_MS;
  for (;;) {
    try {
      const app = await client.get<App>(appPath("default", HELLO_APP));
      if (!app.deleting) return app;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
    if (performance.now() > endMs)
      throw new CliError("the example is being removed, and its containers do not go", {
        next: "npx berth ps hello   (while `npm start` runs)",
      });
    stage.set("waiting for the removal of the example to end");
    await sleep(100);
  }
}

async function createHello({ terminal }: Shell, { client, image }: Cluster): Promise<void> {
  await writeFile(path.join(HELLO_DIRECTORY, ".env"), `HELLO_IMAGE=${await image}\n`);
  const { readProject } = await import("./deploy.ts");
  const { app } = readProject({ terminal, env: {}, cwd: ROOT_DIRECTORY }, [HELLO_DIRECTORY], {
    file: [],
    envFile: [],
    profile: [],
    build: false,
    report: false,
  });
  await client.put<DeployAnswer>(appPath("default", app.name), { spec: app, message: "npm start" });
}

function tellReady(shell: Shell, { url, dataDir }: Cluster, urls: HelloResult["urls"]): void {
  const { terminal } = shell;
  const { style } = terminal;
  const label = (text: string): string => style.quiet(text.padEnd(14));
  for (const [at, { url: address }] of urls.entries())
    line(terminal, `  ${label(at === 0 ? "hello" : "")}${style.accent(visible(address))}`);
  line(terminal, `  ${label("API docs")}${url}/docs`);
  line(terminal, `  ${label("admin token")}${path.join(dataDir, TOKEN_FILE)}`);
  line(terminal, "\nTry next, in another terminal:\n");
  for (const command of ["npx berth ps", "npx berth scale hello/web=5", "npx berth logs hello --follow"])
    line(terminal, `  ${style.strong(command)}`);
  line(terminal);
}

function tellTrouble({ terminal }: Shell, { dataDir }: Cluster, trouble: HelloResult): void {
  line(terminal, terminal.style.bad("The example did not get healthy. The control plane and the agent go on running."));
  for (const { url } of trouble.urls.filter(({ works }) => !works)) line(terminal, `  ${visible(url)} does not answer`);
  const worst = [...trouble.replicas].sort((a, b) => b.logTail.length - a.logTail.length)[0];
  if (worst !== undefined && worst.message !== "") line(terminal, `  ${visible(worst.message)}`);
  for (const text of worst?.logTail.slice(-10) ?? []) line(terminal, `  | ${visibleLog(text)}`);
  line(terminal, `logs: ${path.join(dataDir, "agent.log")}, ${path.join(dataDir, "server.log")}`);
  line(terminal, `next: ${terminal.style.strong("npx berth why hello")}`);
}
