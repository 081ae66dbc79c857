/**
 * Tells the README's story on machines of its own and holds each screen against what it shows. To write the screens
 * anew from what was seen: `BERTH_README=write npm test -- docs`, then read the difference.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { execute, mustExecute } from "../e2e/hosts/command.ts";
import type { Host } from "../e2e/hosts/host.ts";
import { Lab } from "../e2e/hosts/lab.ts";
import { until } from "../e2e/hosts/until.ts";
import { HUB, type Hub, openHub } from "./hub.ts";
import { normal } from "./same.ts";
import { screenOf } from "./screen.ts";
import { FIRST, HERE, retold, type Screen, storyOf, trimmed } from "./story.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readmePath = join(root, "README.md");
const readme = await readFile(readmePath, "utf8");
const story = storyOf(readme);

/** What stands in the README for what the lab has instead. */
const CLONE_SHOWN = "/home/you/berth";
const OFFICE_SHOWN = "192.0.2.10";
/** Two cores, two engines and whatever else runs there: what hangs is told from what is slow by minutes. */
const SCREEN_MS = 180_000;
/** When screens are written anew, nobody knows the last line of a program that goes on: it is the one after which this long nothing came. */
const QUIET_MS = 15_000;
const LOOKS_MS = 10_000;
const LOOK_EVERY_MS = 500;
const isWriting = process.env.BERTH_README === "write";
/** What the README's files name, as a registry on the lab's bridge offers it under the same name: a web server of busybox. */
const IMAGE = "library/nginx:1.27-alpine";

let lab: Lab;
let office: Host;
let till: Host;
let hub: Hub | undefined;
let clone: string;

/** A program in a terminal. */
class Terminal {
  readonly #child: ChildProcessWithoutNullStreams;
  #output = "";
  #exitCode: number | null = null;

  /** `argv` comes to a shell in a terminal of 140 columns; a reader's is narrower, and cuts nothing that stands in the README. */
  constructor(argv: readonly string[]) {
    const [program = "", ...args] = argv;
    this.#child = spawn(program, args, { detached: true });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
      });
    this.#child.once("close", (code) => {
      this.#exitCode = code ?? -1;
    });
    this.#child.stdin.on("error", () => {});
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  get exitCode(): number | null {
    return this.#exitCode;
  }

  /** Lines shown since `from`, which counts characters of output. */
  shown(from = 0): string[] {
    return trimmed(screenOf(this.#output.slice(from)));
  }

  get length(): number {
    return this.#output.length;
  }
}

const inTerminal = (command: string): string[] => ["script", "-qefc", `stty cols 140 rows 60; ${command}`, "/dev/null"];

async function terminalAt(where: string, command: string): Promise<Terminal> {
  const env = { TERM: "xterm", NO_COLOR: "1" };
  if (where === HERE || where === FIRST)
    return new Terminal(office.command(inTerminal(command), { cwd: clone, env: { ...env, NODE_EXTRA_CA_CERTS: hub?.certificate ?? "" } }));
  if (where === office.name) return new Terminal(office.command(inTerminal(command), { env }));
  if (where === till.name) return new Terminal(await till.commandBare(inTerminal(command), { env }));
  throw new Error(`the README names a machine "${where}" that this test does not have`);
}

/** What was seen, as the README would show it. */
function asShown(lines: readonly string[]): string[] {
  return lines.map((line) =>
    line
      .replaceAll(clone, CLONE_SHOWN)
      .replaceAll(office.address, OFFICE_SHOWN)
      .replaceAll(till.address, "192.0.2.11")
      .replace(/berth_join_[A-Za-z0-9_-]+/g, "berth_join_…")
      .replace(/sha256\/\/[A-Za-z0-9+/]+=*/g, "sha256//…")
      .replace(/--root [A-Za-z0-9_-]+/g, "--root …"),
  );
}

/** Every line printed so far, whole: what a shortened command stands for. */
const printed: string[] = [];

function wholeCommand(command: string): string {
  if (!command.includes("…")) return command;
  const [whole] = printed.filter((line) => asShown([line])[0]?.trim() === command).slice(-1);
  if (whole === undefined) throw new Error(`nothing was printed that "${command}" could stand for`);
  return whole.trim();
}

let first: Terminal | null = null;

/** The screen that a step leaves; `expected` is looked at only to know when a program that goes on has said it all. */
async function tell(screen: Screen): Promise<string[]> {
  if (screen.command === null) return await interrupt();
  const terminal = await terminalAt(screen.where, wholeCommand(screen.command));
  if (screen.where === FIRST) first = terminal;
  const answers = screen.shown.flatMap((line) => / \[y\/N\] (\S+)$/.exec(line)?.[1] ?? []);
  let answered = 0;
  let [lastLength, lastMs] = [0, performance.now()];
  const isOver = (): boolean => {
    const lines = terminal.shown();
    if (terminal.length !== lastLength) [lastLength, lastMs] = [terminal.length, performance.now()];
    const asked = lines.filter((line) => line.includes("[y/N]")).length;
    if (asked > answered) terminal.type(`${answers[answered++] ?? (isWriting ? "y" : "n")}\n`);
    if (terminal.exitCode !== null) return true;
    if (screen.where !== FIRST) return false;
    if (isWriting) return lines.length > 0 && performance.now() - lastMs > QUIET_MS;
    return normal(asShown(lines).at(-1) ?? "") === normal(screen.shown.at(-1) ?? "");
  };
  await until(`the screen of \`${screen.command}\``, isOver, { timeoutMs: SCREEN_MS, detail: async () => terminal.shown().join("\n") });
  const lines = terminal.shown();
  printed.push(...lines);
  if (screen.where === FIRST && terminal.exitCode !== null) throw new Error(`\`${screen.command}\` ended:\n${lines.join("\n")}`);
  return asShown(lines);
}

/** What is only looked at is looked at again, as people do: a node that has joined reports in a moment. */
async function lookUntilItSays(screen: Screen): Promise<string[]> {
  const isLook = screen.where !== FIRST && / (?:ls|status|nodes)$/.test(screen.command ?? "");
  const wanted = screen.shown.map(normal).join("\n");
  for (const deadlineMs = performance.now() + LOOKS_MS; ; await pause(LOOK_EVERY_MS)) {
    const lines = await tell(screen);
    if (isWriting || !isLook || lines.map(normal).join("\n") === wanted || performance.now() > deadlineMs) return lines;
  }
}

async function interrupt(): Promise<string[]> {
  const terminal = first;
  if (terminal === null) throw new Error("nothing runs in the first terminal");
  const from = terminal.length;
  terminal.type("\u0003");
  await until("Ctrl-C to end it", () => terminal.exitCode !== null, {
    timeoutMs: 60_000,
    detail: async () => terminal.shown(from).join("\n"),
  });
  first = null;
  return asShown(terminal.shown(from));
}

/** Stands in for systemd, which no namespace has: starts what the agent's unit says, as systemd would. */
const SYSTEMCTL = `#!/bin/sh
[ "$1" = restart ] || exit 0
unit=/etc/systemd/system/$2
command=$(sed -n 's/^ExecStart=//p' "$unit" | tr -d '"')
setsid $command >>/var/log/unit.log 2>&1 </dev/null &
`;

beforeAll(async () => {
  lab = await Lab.create({ name: "docs" });
  await lab.bareRoot();
  const registry = await lab.registry();
  [office, till] = await Promise.all([lab.host("office"), lab.host("till1")]);
  await registry.push(IMAGE, { env: { PORT: "80" } });
  hub = await openHub(lab.gatewayIp, registry.address, lab.dir);
  await Promise.all([office, till].map((host) => prepare(host, registry.address)));
  const systemctl = "cat >/usr/local/bin/systemctl; chmod 755 /usr/local/bin/systemctl; mkdir -p /run/systemd/system";
  await office.exec(["sh", "-c", systemctl], { input: SYSTEMCTL });
  await till.execBare(["sh", "-c", systemctl], { input: SYSTEMCTL });
  clone = join(office.dir, "berth");
  await cloneTo(clone);
}, 600_000);

afterAll(async () => {
  await hub?.close();
  await lab?.close();
}, 120_000);

async function prepare(host: Host, mirror: string): Promise<void> {
  // The settings of whoever runs the tests are not the reader's.
  const script = `rm -f /root/.npmrc; echo ${lab.gatewayIp} ${HUB} >>/etc/hosts; mkdir -p /etc/docker; cat >/etc/docker/daemon.json`;
  await host.run(["sh", "-c", script], { input: JSON.stringify({ "registry-mirrors": [`http://${mirror}`] }) });
  await host.engine.restart();
}

/** What a clone of the working tree is, with its packages installed: the lab has no network to install them from. */
async function cloneTo(directory: string): Promise<void> {
  await mkdir(directory);
  const files = (await mustExecute(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root })).split("\0");
  for (const file of files) {
    if (file === "") continue;
    await mkdir(dirname(join(directory, file)), { recursive: true });
    // A file that git knows and somebody has just removed is no part of the working tree.
    await cp(join(root, file), join(directory, file)).catch(unlessMissing);
  }
  const modules = join(directory, "node_modules");
  const linked = await execute(["cp", "-al", join(root, "node_modules"), modules], { timeoutMs: 120_000 });
  if (linked.code !== 0) {
    await rm(modules, { recursive: true, force: true });
    await mustExecute(["cp", "-a", join(root, "node_modules"), modules], { timeoutMs: 300_000 });
  }
}

function unlessMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

/** What the control plane and the agent of the clone have to say, where they are still there. */
async function logTails(): Promise<string> {
  const tails = await office.exec(["sh", "-c", "tail -n 12 .berth/server.log .berth/agent.log; docker ps -a"], { cwd: clone });
  return `\n${tails.stdout}`;
}

describe("the README", () => {
  const seen = new Map<number, readonly string[]>();

  test("its screens are what its commands print, in order", { timeout: 1_200_000 }, async () => {
    for (const step of story) {
      if (step.kind === "file") {
        await mkdir(dirname(join(clone, step.path)), { recursive: true });
        await writeFile(join(clone, step.path), step.text);
        continue;
      }
      const lines = await lookUntilItSays(step);
      seen.set(step.line, lines);
      if (isWriting) continue;
      const isSame = lines.map(normal).join("\n") === step.shown.map(normal).join("\n");
      const logs = isSame ? "" : await logTails();
      expect(lines.map(normal), `README.md:${step.line}: ${step.command ?? "Ctrl-C"}${logs}`).toEqual(step.shown.map(normal));
    }
    if (isWriting) await writeFile(readmePath, retold(readme, seen));
  });
});
