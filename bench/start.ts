/**
 * From the start of `npm start` to its last line, when all of examples/hello is healthy, on the fresh machine that
 * test/fresh/check.sh makes: a debootstrap root with git, Node 20 and npm only.
 *
 * start.cold  on a fresh clone without node_modules: `npm ci`, the engine by apt, the image, and all that follows. Once, for
 *             it takes the network's and the disk's time more than berth's.
 * start.warm  again after Ctrl-C, with everything there and the containers running: the median of five.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Bench, Line } from "./bench.ts";

const SCRIPT = fileURLToPath(new URL("../test/fresh/check.sh", import.meta.url));
const TAIL_CHARACTERS = 2_000;

/** Ended with this process: the script undoes what it made when it is told to end. */
async function freshMachine(): Promise<string> {
  const child = spawn("bash", [SCRIPT, "bench"], { stdio: ["ignore", "pipe", "pipe"] });
  const end = () => void child.kill("SIGTERM");
  process.once("exit", end);
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      said += chunk;
    });
  const [code] = (await once(child, "close")) as [number | null];
  process.off("exit", end);
  if (code !== 0) throw new Error(`check.sh bench ended with ${code}:\n${said.slice(-TAIL_CHARACTERS)}`);
  return said;
}

async function run(report: (line: Line) => void): Promise<void> {
  const said = await freshMachine();
  const secondsOf = (name: string) =>
    Array.from(said.matchAll(new RegExp(`^== ${name}: ([0-9.]+) s$`, "gm")), ([, value]) => Number(value));
  const [cold] = secondsOf("first-start");
  const warm = secondsOf("warm-start-[0-9]+").sort((a, b) => a - b);
  const median = warm[warm.length >> 1];
  if (cold === undefined || median === undefined)
    throw new Error(`check.sh bench did not say how long it took:\n${said.slice(-TAIL_CHARACTERS)}`);
  report({ name: "start.cold", value: cold, unit: "s", goal: 90 });
  report({ name: "start.warm", value: median, unit: "s", goal: 5, spread: (warm.at(-1)! - warm[0]!) / median });
}

export const benches: Bench[] = [{ name: "start", goal: 5, unit: "s", run }];
