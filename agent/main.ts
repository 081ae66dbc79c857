/**
 * The agent's entry: makes the ports, and reads the few words of its command line. `berth up` and `berth agent` call
 * `runAgent` in their own process; the one-file bundle runs `main`.
 */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import pino from "pino";
import { z } from "zod";
import { visible } from "../shared/text/visible.ts";
import type { JoinToken } from "../shared/wire/enroll.ts";
import { describeEngineProblem, describePlatformProblem, describeUnreachable, engineSocket } from "./engine/detect.ts";
import { openDocker } from "./engine/docker.ts";
import type { Engine, EngineInfo } from "./engine/engine.ts";
import { enrol, prepareIdentity } from "./enrol.ts";
import { type Identity, identityFile, readJoinToken } from "./identity.ts";
import { openHttp, type ProxyEnvironment, type Trust } from "./link/http.ts";
import { Transport } from "./link/transport.ts";
import { openSockets } from "./link/websocket.ts";
import { type AgentEnd, NodeAgent } from "./daemon.ts";
import { nodeClock, nodeRandom } from "./node-clock.ts";
import { openDisk, sweepTemporaries } from "./node-disk.ts";
import { describeNode } from "./machine.ts";
import { openHost } from "./node-host.ts";
import { lockDirectory } from "./node-lock.ts";
import { keepMemoryLow } from "./node-memory.ts";
import { pause } from "./pause.ts";
import { POLICY_FILE, readPolicy } from "./policy.ts";
import type { Disk, Host, Log, Sockets } from "./ports.ts";
import { type AgentFlags, readCommandLine, USAGE } from "./command-line.ts";
import { hasSystemd, installUnit, passedOn, uninstallUnit, UNIT_NAME } from "./unit.ts";
import { AGENT_VERSION, BUILD_WALL_MS } from "./version.ts";

export { AGENT_VERSION };
export const DATA_DIR_DEFAULT = "/var/lib/berth";
const ENROL_RETRY_MS = 2_000;

export interface AgentOptions {
  /** Default: /var/lib/berth. */
  readonly dataDir?: string;
  /** `berth_join_…`: enroll with it if this data directory holds no node of its cluster yet. */
  readonly joinToken?: string;
  /** Wanted name of the node; default: the host name. */
  readonly name?: string;
  /** Path of the engine's socket; default: DOCKER_HOST, else /var/run/docker.sock. */
  readonly engineSocket?: string;
  /** Default: Docker on that socket. */
  readonly engine?: Engine;
  /** PEM file of a CA besides the well-known ones. */
  readonly caFile?: string;
  /** Default: the process's. Proxy variables and DOCKER_HOST are read from it. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly log?: Log;
  /** Sentences for a person who watches: joined, waiting for approval, connected, cut off. */
  readonly onState?: (sentence: string) => void;
  /** Aborting it is `stop()`. */
  readonly signal?: AbortSignal;
}

export interface AgentHandle {
  readonly node: { readonly id: string; readonly name: string; readonly site: string; readonly url: string };
  /** Ends the agent; containers go on running. */
  stop(): Promise<void>;
  /** Resolves when it has ended: `removed` by an operator, or `stopped`. Rejects with what went wrong. */
  readonly ended: Promise<AgentEnd>;
}

/** What a person has to do something about; the message is one sentence or two. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly code: "platform" | "engine" | "token" | "enroll" | "notJoined" | "usage";
  constructor(code: AgentError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/**
 * Joins if it has to, then runs until stopped. Resolves when the node is enrolled and its loops run; a control plane
 * that is down delays only the joining. Throws AgentError.
 */
export async function runAgent(options: AgentOptions = {}): Promise<AgentHandle> {
  const ground = await prepare(options);
  const unlock = await lock(ground);
  if (unlock === null) throw anotherRuns(ground);
  try {
    await sweepTemporaries(ground.disk.absolute(""));
    return run(await join(options, ground), unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

function run(joined: Joined, unlock: () => void): AgentHandle {
  const { stop, signal, http, enrolled } = joined;
  const agent = new NodeAgent({ ...joined, identityFile: joined.file, clock: nodeClock, random: nodeRandom, agentVersion: AGENT_VERSION });
  const ended = agent.run(signal).finally(async () => {
    await http.close();
    unlock();
  });
  ended.catch(() => undefined);
  const { node, name, site } = enrolled;
  return {
    node: { id: node, name, site, url: joined.identity.url },
    ended,
    stop: async () => {
      stop();
      await ended.catch(() => undefined);
    },
  };
}

/** Enrolls this machine and ends: what `join` without `--foreground` does. Throws AgentError. */
export async function joinCluster(options: AgentOptions): Promise<AgentHandle["node"] & { readonly isPending: boolean }> {
  const ground = await prepare(options);
  const unlock = await lock(ground);
  // The line is pasted again to bring a new version: the node runs then, and is a member.
  if (unlock === null && !(await isMember(ground))) throw anotherRuns(ground);
  try {
    const { identity, enrolled, http } = await join(options, ground);
    await http.close();
    const { node, name, site, admission } = enrolled;
    return { id: node, name, site, url: identity.url, isPending: admission === "pending" };
  } finally {
    unlock?.();
  }
}

const lock = ({ disk }: Ground): Promise<(() => void) | null> => lockDirectory(disk.absolute(""), nodeClock);

const anotherRuns = ({ disk }: Ground): AgentError =>
  new AgentError(
    "usage",
    `another agent runs with the data directory ${disk.absolute("")}; stop it, or name another directory with --data-dir`,
  );

async function isMember({ token, disk, log }: Ground): Promise<boolean> {
  const held = await identityFile(disk, log).read();
  return held !== null && held.enrolled !== null && !held.removed && held.root === token?.root;
}

interface Joined extends Ground {
  readonly identity: Identity;
  readonly enrolled: NonNullable<Identity["enrolled"]>;
  readonly file: ReturnType<typeof identityFile>;
  readonly transport: Transport;
  readonly sockets: Sockets;
  readonly http: { close(): Promise<void> };
}

/**
 * Only with the directory's lock, because it writes the identity; or for a member whose agent runs and holds the lock: then
 * nothing but the address changes, which that agent keeps when it writes.
 */
async function join(options: AgentOptions, ground: Ground): Promise<Joined> {
  const { disk, log, env } = ground;
  const file = identityFile(disk, log);
  const identity = await identityFor(ground, file);
  const trust: Trust = {
    spki: identity.spki,
    ca: readCa(options.caFile),
    notBeforeWallMs: Math.max(BUILD_WALL_MS, identity.wallMs),
    wallMs: nodeClock.wallMs,
  };
  const http = openHttp({ trust, env });
  const transport = new Transport({ http, url: identity.url, agentVersion: AGENT_VERSION });
  const member = identity.enrolled !== null ? identity : await enrolUntilDone(options, { ...ground, file, transport, identity });
  if (member.enrolled === null) throw new AgentError("enroll", "this machine is not enrolled");
  return { ...ground, identity: member, enrolled: member.enrolled, file, transport, http, sockets: openSockets({ trust, env }) };
}

interface Ground {
  /** Null: none was given, so the machine has joined already. */
  readonly token: JoinToken | null;
  readonly disk: Disk;
  readonly host: Host;
  readonly log: Log;
  readonly engine: Engine;
  readonly socketPath: string;
  readonly env: ProxyEnvironment & Readonly<Record<string, string | undefined>>;
  readonly onState: (sentence: string) => void;
  readonly signal: AbortSignal;
  readonly stop: () => void;
}

async function prepare(options: AgentOptions): Promise<Ground> {
  const problem = describePlatformProblem(process.platform);
  if (problem !== null) throw new AgentError("platform", problem);
  const env = options.env ?? process.env;
  const socket = options.engineSocket === undefined ? engineSocket(env.DOCKER_HOST) : { path: options.engineSocket };
  if ("problem" in socket) throw new AgentError("engine", socket.problem);
  const token = tokenOf(options);
  const dataDir = options.dataDir ?? DATA_DIR_DEFAULT;
  // Opening makes the directory, and a machine that is no node should not look like one.
  if (token === null && !existsSync(dataDir)) throw notJoined();
  const stopper = new AbortController();
  return {
    token,
    disk: await openDisk(dataDir),
    host: await openHost(),
    log: options.log ?? openLog(env),
    engine: options.engine ?? openDocker(socket.path),
    socketPath: socket.path,
    env,
    onState: options.onState ?? (() => undefined),
    signal: options.signal === undefined ? stopper.signal : AbortSignal.any([options.signal, stopper.signal]),
    stop: () => stopper.abort(),
  };
}

const openLog = (env: Readonly<Record<string, string | undefined>>): Log =>
  pino({ name: "agent", level: env.BERTH_LOG ?? "info" }, pino.destination({ dest: 2, sync: true }));

const notJoined = (): AgentError =>
  new AgentError("notJoined", `this machine has not joined a cluster; get a line to paste with: berth join-token create`);

function tokenOf({ joinToken }: AgentOptions): JoinToken | null {
  if (joinToken === undefined) return null;
  const token = readJoinToken(joinToken);
  if (token === null)
    throw new AgentError(
      "token",
      "that is not a whole join token: it begins with berth_join_ and has no spaces; copy it again from where it was made",
    );
  return token;
}

async function identityFor({ token }: Ground, file: ReturnType<typeof identityFile>): Promise<Identity> {
  if (token === null) {
    const held = await file.read();
    if (held === null) throw notJoined();
    return held;
  }
  const identity = await prepareIdentity(token, file, nodeClock);
  if (identity === null)
    throw new AgentError(
      "enroll",
      `this machine is a node of another cluster already; leave that one first, or name another data directory with --data-dir`,
    );
  return identity;
}

async function enrolUntilDone(
  options: AgentOptions,
  ground: Ground & { readonly file: ReturnType<typeof identityFile>; readonly transport: Transport; readonly identity: Identity },
): Promise<Identity> {
  const { token } = ground;
  if (token === null) throw new AgentError("notJoined", "joining was begun and not finished; run the join line again");
  const policy = await ground.disk.read(POLICY_FILE);
  const facts = await describeNode({
    host: ground.host,
    engine: await engineInfo(ground),
    policy: readPolicy(policy === null ? null : new TextDecoder().decode(policy), null).policy,
    agentVersion: AGENT_VERSION,
  });
  let said = "";
  while (!ground.signal.aborted) {
    const result = await enrol(ground.identity, {
      token,
      name: options.name,
      file: ground.file,
      transport: ground.transport,
      clock: nodeClock,
      facts,
    });
    if (result.kind === "enrolled") {
      ground.onState(`joined as node ${result.identity.enrolled?.name ?? ""} of site ${result.identity.enrolled?.site ?? ""}`);
      return result.identity;
    }
    if (!result.mayPass) throw new AgentError("enroll", result.message);
    const sentence = `${result.message}; trying again`;
    if (sentence !== said) ground.onState(sentence);
    said = sentence;
    await pause(nodeClock, ENROL_RETRY_MS, ground.signal);
  }
  throw new AgentError("enroll", "called off");
}

/** Joining without an engine would make a node that can run nothing: better said now than found out later. */
async function engineInfo({ engine, socketPath }: Ground): Promise<EngineInfo> {
  let info: EngineInfo;
  try {
    info = await engine.info();
  } catch (error) {
    throw new AgentError("engine", describeUnreachable(socketPath, error instanceof Error ? error.message : String(error)), error);
  }
  const problem = describeEngineProblem(info);
  if (problem !== null) throw new AgentError("engine", problem);
  return info;
}

/**
 * Makes this node's agent a systemd service, now and at each boot, and answers a sentence that says so. With a join token it
 * joins first. `script`: absolute path of what `run` is asked of. Throws AgentError.
 */
export async function installService(options: AgentOptions & { readonly script: string }): Promise<string> {
  const dataDir = resolve(options.dataDir ?? DATA_DIR_DEFAULT);
  if (options.joinToken === undefined && !existsSync(dataDir)) throw notJoined();
  if (!hasSystemd()) throw new AgentError("platform", "no systemd runs here; start the agent with: agent.mjs run, or berth agent");
  requireRoot();
  if (options.joinToken !== undefined) await joinCluster(options);
  const env = options.env ?? process.env;
  const held = await identityFile(await openDisk(dataDir), options.log ?? openLog(env)).read();
  if (held === null || held.enrolled === null || held.removed) throw notJoined();
  await installUnit({
    node: process.execPath,
    script: options.script,
    dataDir,
    args: [
      ...(options.caFile === undefined ? [] : ["--ca", resolve(options.caFile)]),
      ...(options.engineSocket === undefined ? [] : ["--engine", options.engineSocket]),
    ],
    environment: passedOn(env),
  });
  return `${UNIT_NAME} runs, and starts at each boot`;
}

/** Ends and removes the service, and answers a sentence that says so. Throws AgentError. */
export async function uninstallService(): Promise<string> {
  if (!hasSystemd()) throw new AgentError("platform", "no systemd runs here, so there is no service to remove");
  requireRoot();
  await uninstallUnit();
  return `removed ${UNIT_NAME}; containers go on running`;
}

function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new AgentError("usage", "only root may change the machine's services; run this with sudo");
}

function readCa(file: string | undefined): string | null {
  if (file === undefined) return null;
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new AgentError("usage", `the authority ${file} cannot be read: ${(error as Error).message}`);
  }
}

export { POLICY_FILE };
export const policyPath = (dataDir: string = DATA_DIR_DEFAULT): string => resolve(dataDir, POLICY_FILE);

/** Exit codes: 0 done, 1 it went wrong, 2 asked wrongly. */
export async function main(argv: readonly string[]): Promise<number> {
  // Messages are few and small: parsers compiled for speed would only cost memory.
  z.config({ jitless: true });
  const line = readCommandLine(argv, process.env);
  if (line.kind === "help") return say(process.stdout, USAGE, 0);
  if (line.kind === "version") return say(process.stdout, `${AGENT_VERSION}\n`, 0);
  if (line.kind === "wrong") return say(process.stderr, `berth agent: ${line.message}\n\n${USAGE}`, 2);
  const { command, token, flags } = line;
  const options: AgentOptions = {
    ...optionsOf(flags),
    ...(token === undefined ? {} : { joinToken: token }),
    onState: (sentence) => void say(process.stderr, `berth: ${visible(sentence)}\n`, 0),
  };
  try {
    if (command === "uninstall") {
      return say(process.stdout, `${await uninstallService()}\n`, 0);
    }
    if (command === "install")
      return say(process.stdout, `${await installService({ ...options, script: resolve(process.argv[1] ?? "") })}\n`, 0);
    if (command === "join" && !flags.foreground) {
      const node = await joinCluster(options);
      if (node.isPending)
        return say(
          process.stdout,
          `this machine is node ${node.name} (${node.id}) of site ${node.site}, and waits for an operator: berth node approve ${node.name}\n`,
          0,
        );
      return say(process.stdout, `this machine is node ${node.name} (${node.id}) of site ${node.site}\n`, 0);
    }
    return await runUntilSignal(options);
  } catch (error) {
    return say(process.stderr, `berth agent: ${visible(error instanceof Error ? error.message : String(error))}\n`, 1);
  }
}

const say = (stream: NodeJS.WriteStream, text: string, code: number): number => {
  stream.write(text);
  return code;
};

const optionsOf = ({ dataDir, name, caFile, engineSocket: socket }: AgentFlags): AgentOptions => ({
  ...(dataDir === undefined ? {} : { dataDir: resolve(dataDir) }),
  ...(name === undefined ? {} : { name }),
  ...(caFile === undefined ? {} : { caFile }),
  ...(socket === undefined ? {} : { engineSocket: socket }),
});

async function runUntilSignal(options: AgentOptions): Promise<number> {
  const stopped = new AbortController();
  const stop = () => stopped.abort();
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  const agent = await runAgent({ ...options, signal: stopped.signal });
  const release = keepMemoryLow(nodeClock);
  const end = await agent.ended.finally(release);
  return end === "removed"
    ? say(process.stderr, `berth: node ${agent.node.name} was removed from its cluster; what it ran has been stopped\n`, 0)
    : 0;
}

/**
 * glibc keeps a memory pool for each thread and returns little of it, and V8 sizes its nursery for servers. With these an
 * agent of 20 containers holds 28 MiB of its own instead of 43. They are read before a program's first line, so the
 * program replaces itself: same process, 60 ms.
 */
const LEAN_ENV = { MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072" } as const;
const LEAN_FLAGS = ["--max-semi-space-size=1", "--disable-warning=ExperimentalWarning"] as const;

function becomeLean(argv: readonly string[]): void {
  const line = readCommandLine(argv, process.env);
  const isDaemon = line.kind === "command" && (line.command === "run" || (line.command === "join" && line.flags.foreground));
  if (!isDaemon || process.env.MALLOC_ARENA_MAX !== undefined || process.execve === undefined) return;
  const script = process.argv[1] ?? "";
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...LEAN_FLAGS, script, ...argv], {
    ...process.env,
    ...LEAN_ENV,
  });
}

if (import.meta.main) {
  const argv = process.argv.slice(2);
  becomeLean(argv);
  process.exitCode = await main(argv);
}
