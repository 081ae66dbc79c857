// Finds the machine's container engine, and where there is none and it may, installs and starts one. Plain JavaScript
// with nothing but Node 20, because the bootstrap does this while the packages are still being fetched.
//
// Only an answer on the socket proves an engine: a docker client on the PATH does not.
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";

export const ENGINE_SOCKET = "/var/run/docker.sock";
/** API 1.41, which Docker Engine 20.10 brought. */
const API_OLDEST_MINOR = 41;
/** In the data directory: the engine that was started from here, and its log. */
const RECORD_FILE = "engine.json";
const LOG_FILE = "engine.log";

/** A sentence for people; nothing else of it is shown. */
export class EngineProblem extends Error {
  /** @param {string} message @param {string[]} [details] */
  constructor(message, details = []) {
    super(message);
    this.name = "EngineProblem";
    this.details = details;
  }
}

/** An engine answers in a millisecond; on a machine that swaps or builds, in seconds. */
const ASK_TIMEOUT_MS = 20_000;

/** @param {string} socket @param {string} path @returns {Promise<{status: number, headers: import("node:http").IncomingHttpHeaders, text: string}>} */
function ask(socket, path) {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: socket, path, agent: false, timeout: ASK_TIMEOUT_MS }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk) => (text += chunk));
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }));
      answer.on("error", reject);
    });
    sent.on("timeout", () => sent.destroy(Object.assign(new Error("no answer in time"), { code: "ETIMEDOUT" })));
    sent.on("error", reject);
    sent.end();
  });
}

/**
 * What is at a socket. `silent`: nobody answers; `denied`: this account may not ask.
 * @param {string} socket
 * @returns {Promise<{kind: "answers", version: string} | {kind: "silent" | "denied" | "podman" | "rootless" | "old" | "hangs"}>}
 */
export async function probeEngine(socket) {
  try {
    const ping = await ask(socket, "/_ping");
    if (ping.headers["libpod-api-version"] !== undefined) return { kind: "podman" };
    if (ping.status !== 200) return { kind: "silent" };
    const { Version, ApiVersion, Components } = JSON.parse((await ask(socket, "/version")).text);
    if ((Components ?? []).some(({ Name }) => Name === "rootlesskit")) return { kind: "rootless" };
    if (Number(String(ApiVersion ?? "").split(".")[1] ?? API_OLDEST_MINOR) < API_OLDEST_MINOR) return { kind: "old" };
    return { kind: "answers", version: String(Version ?? "") };
  } catch (error) {
    if (error.code === "EACCES" || error.code === "EPERM") return { kind: "denied" };
    if (error.code === "ETIMEDOUT") return { kind: "hangs" };
    return { kind: "silent" };
  }
}

/** The socket to look at: DOCKER_HOST where it names one, else the engine's own. @param {NodeJS.ProcessEnv} env */
export function socketOf(env) {
  const host = env.DOCKER_HOST ?? "";
  if (host === "") return ENGINE_SOCKET;
  if (host.startsWith("unix://")) return host.slice("unix://".length);
  throw new EngineProblem(
    `DOCKER_HOST is ${host}, and berth runs containers through the engine of its own machine: unset DOCKER_HOST, or set it to a unix:// socket.`,
  );
}

const isRoot = () => process.getuid?.() === 0;
const isDebian = () => existsSync("/usr/bin/apt-get") && existsSync("/etc/debian_version");
const daemonPath = () =>
  ["/usr/sbin/dockerd", "/usr/bin/dockerd", "/usr/local/bin/dockerd", "/usr/local/sbin/dockerd"].find((path) => existsSync(path)) ?? null;
const hasSystemd = () => existsSync("/run/systemd/system");

/**
 * Makes sure that an engine answers; throws EngineProblem with what to do where it may not or cannot.
 * @param {{dataDir: string, env: NodeJS.ProcessEnv, say: (line: string) => void}} options
 * @returns {Promise<{socket: string, version: string}>}
 */
export async function ensureEngine({ dataDir, env, say }) {
  if (process.platform !== "linux") {
    const name = { darwin: "macOS", win32: "Windows" }[process.platform] ?? process.platform;
    throw new EngineProblem(
      `berth runs containers on Linux, and this is ${name}: run it in a Linux virtual machine${name === "Windows" ? " or WSL 2" : ""}.`,
    );
  }
  const socket = socketOf(env);
  const found = await probeEngine(socket);
  if (found.kind === "answers") return { socket, version: found.version };
  refuseUnfit(found.kind, socket);
  if (socket !== ENGINE_SOCKET)
    throw new EngineProblem(`Nothing answers on ${socket}, which DOCKER_HOST names: start that engine, or unset DOCKER_HOST.`);
  if (!isRoot()) {
    refuseOthers(env);
    throw new EngineProblem(withoutRoot());
  }
  if (daemonPath() === null) {
    if (!isDebian()) throw new EngineProblem(withoutRoot());
    await install(say);
  }
  await start({ dataDir, socket, say });
  return { socket, version: await untilAnswers({ dataDir, socket }) };
}

/** @param {string} kind @param {string} socket */
function refuseUnfit(kind, socket) {
  if (kind === "denied")
    throw new EngineProblem(
      `A container engine listens on ${socket}, but this account may not use it: run \`sudo usermod -aG docker $USER\`, log in again, then npm start.`,
    );
  if (kind === "podman")
    throw new EngineProblem(
      `Podman answers on ${socket}, and berth runs on Docker Engine: install Docker Engine, or set DOCKER_HOST=unix:///path/to/its.sock.`,
    );
  if (kind === "rootless")
    throw new EngineProblem(
      `The engine on ${socket} is a rootless Docker, whose containers berth cannot limit or reach: use the system's Docker Engine on ${ENGINE_SOCKET}.`,
    );
  if (kind === "old")
    throw new EngineProblem(
      `The engine on ${socket} is older than Docker Engine 20.10, and berth needs its API 1.41 or newer: upgrade it, then npm start.`,
    );
  if (kind === "hangs")
    throw new EngineProblem(
      `The container engine on ${socket} takes connections and does not answer for ${ASK_TIMEOUT_MS / 1000} s: restart it${hasSystemd() ? " (sudo systemctl restart docker)" : ""}, then npm start.`,
    );
}

/** Engines that berth does not use are named, so that nobody wonders why a second one would be installed. @param {NodeJS.ProcessEnv} env */
function refuseOthers(env) {
  const home = env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`;
  for (const [path, name] of [
    [join(home, "docker.sock"), "a rootless Docker"],
    [join(home, "podman/podman.sock"), "Podman"],
    ["/run/podman/podman.sock", "Podman"],
  ]) {
    if (existsSync(path))
      throw new EngineProblem(
        `There is ${name} on ${path}, and berth runs on the system's Docker Engine: ${isDebian() ? "sudo apt-get install docker.io" : "install it"}, then npm start.`,
      );
  }
}

function withoutRoot() {
  const known = `No container engine answers on ${ENGINE_SOCKET}`;
  if (daemonPath() !== null)
    return `${known}: start it (${hasSystemd() ? "sudo systemctl start docker" : "sudo dockerd"}), then npm start.`;
  return isDebian()
    ? `${known}, and installing one needs root: run \`sudo npm start\`, or \`sudo apt-get install docker.io\` and then npm start.`
    : `${known}: install Docker Engine (https://docs.docker.com/engine/install/) and start it, then npm start.`;
}

const POLICY_PATH = "/usr/sbin/policy-rc.d";
/** 101: "action forbidden by policy". */
const POLICY = "#!/bin/sh\nexit 101\n";

/** @param {(line: string) => void} say */
async function install(say) {
  // A kernel with AppArmor and no parser for its profiles makes the engine refuse every container.
  const needsAppArmor =
    readText("/sys/module/apparmor/parameters/enabled").startsWith("Y") &&
    !existsSync("/usr/sbin/apparmor_parser") &&
    !existsSync("/sbin/apparmor_parser");
  const packages = ["docker.io", ...(needsAppArmor ? ["apparmor"] : [])];
  say(`No container engine answers on ${ENGINE_SOCKET}: installing Docker Engine with apt-get install ${packages.join(" ")}`);
  // One source of a machine that cannot be reached fails the update while the others are fine: the install decides.
  await run("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=300", "update"]).catch(() => "");
  // Where no init runs, the package's own start script would leave an engine that nobody keeps track of.
  const ownsPolicy = !hasSystemd() && !existsSync(POLICY_PATH);
  if (ownsPolicy) writeFileSync(POLICY_PATH, POLICY, { mode: 0o755 });
  try {
    await run("apt-get", [
      "-q",
      "-o",
      "DPkg::Lock::Timeout=300",
      "-o",
      "Dpkg::Options::=--force-confold",
      "install",
      "-y",
      "--no-install-recommends",
      ...packages,
    ]);
  } catch (error) {
    throw new EngineProblem(`apt-get could not install Docker Engine: install docker.io by hand, then npm start.`, tailOf(error.message));
  } finally {
    if (ownsPolicy) rmSync(POLICY_PATH, { force: true });
  }
  if (daemonPath() === null)
    throw new EngineProblem(
      "apt-get installed docker.io, but there is no dockerd: install Docker Engine (https://docs.docker.com/engine/install/), then npm start.",
    );
}

/** @param {{dataDir: string, socket: string, say: (line: string) => void}} options */
async function start({ dataDir, socket, say }) {
  if (hasSystemd()) {
    say("Starting Docker Engine (systemctl enable --now docker)");
    await run("systemctl", ["enable", "--now", "docker"]).catch((error) => {
      throw new EngineProblem("Docker Engine did not start: see `journalctl -u docker`.", tailOf(error.message));
    });
    return;
  }
  if (existsSync("/run/openrc/softlevel")) {
    say("Starting Docker Engine (rc-service docker start)");
    await run("rc-service", ["docker", "start"]).catch((error) => {
      throw new EngineProblem("Docker Engine did not start: see /var/log/docker.log.", tailOf(error.message));
    });
    return;
  }
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  await mountCgroups();
  const log = join(dataDir, LOG_FILE);
  say(`Starting Docker Engine; no init runs here, so it is kept by berth (log: ${log})`);
  const output = openSync(log, "a", 0o600);
  const daemon = daemonPath() ?? "dockerd";
  // A session of its own: Ctrl-C in this terminal is not for the engine, whose containers go on.
  const child = spawn(daemon, ["-H", `unix://${socket}`], { detached: true, stdio: ["ignore", output, output] });
  closeSync(output);
  await new Promise((resolve, reject) =>
    child.once("spawn", resolve).once("error", (error) => reject(new EngineProblem(`${daemon} cannot be run: ${error.message}.`))),
  );
  child.unref();
  writeFileSync(join(dataDir, RECORD_FILE), `${JSON.stringify({ pid: child.pid, started: startOf(child.pid), socket })}\n`, {
    mode: 0o600,
  });
}

/** Starting takes half a second, and up to half a minute with many containers and images on a slow disk. */
const ANSWER_TIMEOUT_MS = 60_000;

/** @param {{dataDir: string, socket: string}} options */
async function untilAnswers({ dataDir, socket }) {
  const log = join(dataDir, LOG_FILE);
  const record = readRecord(dataDir);
  for (const endMs = Date.now() + ANSWER_TIMEOUT_MS; Date.now() < endMs; ) {
    const found = await probeEngine(socket);
    if (found.kind === "answers") return found.version;
    if (record !== null && startOf(record.pid) !== record.started)
      throw new EngineProblem(`Docker Engine ended right after its start; its log is ${log}.`, tailOf(readText(log)));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new EngineProblem(
    `Docker Engine does not answer on ${socket} within a minute${record === null ? "" : `; its log is ${log}`}.`,
    record === null ? [] : tailOf(readText(log)),
  );
}

/** Where no init has done it, the control groups are not mounted, and no container can start. */
async function mountCgroups() {
  const isMounted = readText("/proc/mounts")
    .split("\n")
    .some((line) => / \/sys\/fs\/cgroup(?:\/\S*)? cgroup2? /.test(line));
  if (isMounted) return;
  // Version 2 holds whatever controllers no version 1 hierarchy has taken (second column 0).
  const controllers = readText("/proc/cgroups")
    .split("\n")
    .slice(1)
    .filter((line) => line !== "")
    .map((line) => line.split("\t"));
  const free = controllers.every(([, hierarchy]) => hierarchy === "0");
  if (free && readText("/proc/filesystems").includes("cgroup2")) {
    await run("mount", ["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]);
    return;
  }
  await run("mount", ["-t", "tmpfs", "-o", "uid=0,gid=0,mode=0755", "cgroup", "/sys/fs/cgroup"]);
  for (const [name, , , enabled] of controllers) {
    if (name === undefined || enabled !== "1") continue;
    mkdirSync(`/sys/fs/cgroup/${name}`, { recursive: true });
    await run("mount", ["-n", "-t", "cgroup", "-o", name, "cgroup", `/sys/fs/cgroup/${name}`]).catch(() => "");
  }
  // Hierarchies without a controller too: containerd looks for every one that a process is in, and where one lacks it hears
  // of no container that ran out of memory.
  for (const [, name] of readText("/proc/self/cgroup").matchAll(/^\d+:name=([\w.-]+):/gm)) {
    mkdirSync(`/sys/fs/cgroup/${name}`, { recursive: true });
    await run("mount", ["-n", "-t", "cgroup", "-o", `none,name=${name}`, "cgroup", `/sys/fs/cgroup/${name}`]).catch(() => "");
  }
}

/**
 * The engine that was started from here and still runs; null: none.
 * @param {string} dataDir
 * @returns {{pid: number, started: string, socket: string} | null}
 */
export function ownEngine(dataDir) {
  const record = readRecord(dataDir);
  return record !== null && startOf(record.pid) === record.started ? record : null;
}

/** It gives its containers 10 s, and itself 15. */
const STOP_TIMEOUT_MS = 30_000;

/** Ends the engine that was started from here. True when there was one. @param {string} dataDir */
export async function stopOwnEngine(dataDir) {
  const own = ownEngine(dataDir);
  if (own === null) return false;
  process.kill(own.pid, "SIGTERM");
  for (const endMs = Date.now() + STOP_TIMEOUT_MS; Date.now() < endMs && startOf(own.pid) === own.started; )
    await new Promise((resolve) => setTimeout(resolve, 50));
  rmSync(join(dataDir, RECORD_FILE), { force: true });
  return true;
}

/** @param {string} dataDir @returns {{pid: number, started: string, socket: string} | null} */
function readRecord(dataDir) {
  try {
    return JSON.parse(readText(join(dataDir, RECORD_FILE)));
  } catch {
    return null;
  }
}

/** When a process began, in clock ticks since boot: with the pid it names one process for ever. Empty: it is gone, or a zombie. */
function startOf(pid) {
  const stat = readText(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? "" : (fields[19] ?? "");
}

/** @param {string} path */
function readText(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** The last lines of a command's or a log's output. @param {string} text */
const tailOf = (text) =>
  text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(-8)
    .map((line) => line.slice(0, 240));

/** Resolves to the output; rejects with it as the message. @param {string} command @param {string[]} args @returns {Promise<string>} */
function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" },
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (chunk) => (output = (output + chunk).slice(-65_536)));
    child.on("error", (error) => reject(new Error(`${command}: ${error.message}`)));
    child.on("close", (code) =>
      code === 0 ? resolve(output) : reject(new Error(`${output}\n${command} ${args.join(" ")} exited with ${code}`)),
    );
  });
}
