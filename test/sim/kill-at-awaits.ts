/** `npm run sim -- --awaits`: the history of each-await.ts, once whole and then until it was killed at each await that it passes, on every core. */
import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { enumerate, type Point } from "./awaits.ts";
import type { AwaitOutcome } from "./each-await.ts";

export interface AwaitsOptions {
  /** Some of them, `file:line:column` below worker/, with commas between. */
  readonly only: string | undefined;
  readonly json: boolean;
}

/** Kills in one history: few enough that it has time to come to rest between them. */
const KILLS_A_HISTORY = 8;

/** Prints how many awaits the source has, how many were killed at, and what broke; the exit code. */
export async function killAtAwaits({ only, json }: AwaitsOptions): Promise<number> {
  const { points, behindPorts } = enumerate();
  const [whole] = await play([[]]);
  if (whole === undefined) throw new Error("the history without a kill was not played");
  const wanted = only === undefined ? whole.reached : only.split(",");
  const outcomes = [whole];
  if (only !== undefined) outcomes.push(...(await play([wanted])));
  else if (whole.violations.length === 0) outcomes.push(...(await playEach(wanted)));
  const killedAt = new Set(outcomes.flatMap((outcome) => outcome.killedAt));
  const broken = outcomes.filter(({ violations }) => violations.length > 0);
  for (const { killedAt: kills, violations, trace } of broken) {
    const lines = violations
      .slice(0, 6)
      .map(({ invariant, atMs, message }) => `  ${invariant} at ${(atMs / 1000).toFixed(1)} s: ${message}`);
    process.stderr.write(`npm run sim -- --awaits --only ${kills.join(",")}\n${lines.join("\n")}\n`);
    if (only !== undefined) process.stderr.write(`${trace.map((line) => `    ${line.slice(0, 200)}`).join("\n")}\n`);
  }
  const reached = new Set(outcomes.flatMap((outcome) => outcome.reached));
  const shown = {
    awaits: points.size,
    killedAt: killedAt.size,
    notPassed: [...points].filter(([point]) => !reached.has(point)).map(([, text]) => text),
    notKilledAt: [...reached].filter((point) => !killedAt.has(point)),
    behindPorts,
    failures: broken.map(({ killedAt: kills }) => kills),
  };
  if (json) process.stdout.write(`${JSON.stringify(shown)}\n`);
  else
    process.stdout.write(
      [
        `awaits      ${shown.awaits} in worker/, ${shown.behindPorts} more in what the simulator stands in for`,
        `killed at   ${shown.killedAt}, in ${outcomes.length} histories`,
        ...(shown.notKilledAt.length === 0 ? [] : [`escaped     ${shown.notKilledAt.join("  ")}`]),
        `not passed  ${shown.notPassed.length}`,
        ...shown.notPassed.map((text) => `            ${text}`),
        `broken      ${broken.length}`,
        "",
      ].join("\n"),
    );
  return broken.length === 0 && (only !== undefined || shown.notKilledAt.length === 0) ? 0 : 1;
}

/** Spread over the history, so that kills are far apart; what a history did not pass after its other kills is tried alone. */
async function playEach(points: readonly Point[]): Promise<AwaitOutcome[]> {
  const count = Math.ceil(points.length / KILLS_A_HISTORY);
  const outcomes = await play(Array.from({ length: count }, (_, first) => points.filter((__, at) => at % count === first)));
  // What only other kills open the way to is passed with these again.
  const killed = new Set(outcomes.flatMap(({ killedAt }) => killedAt));
  const companions = (point: Point): readonly Point[] => outcomes.find(({ reached }) => reached.includes(point))?.killedAt ?? [];
  const left = [...new Set([...points, ...outcomes.flatMap(({ reached }) => reached)])].filter((point) => !killed.has(point));
  return [...outcomes, ...(await play(left.map((point) => [...companions(point), point])))];
}

async function play(histories: readonly (readonly Point[])[]): Promise<AwaitOutcome[]> {
  const waiting = [...histories];
  const outcomes: AwaitOutcome[] = [];
  const next = (player: ChildProcess) => {
    const targets = waiting.shift();
    if (targets === undefined) player.kill();
    else player.send(targets);
  };
  const players = Array.from({ length: Math.min(availableParallelism(), histories.length) }, () => {
    const hooks = ["./hooks.ts", "./awaits-hooks.ts"].flatMap((file) => ["--import", new URL(file, import.meta.url).href]);
    const player = fork(fileURLToPath(new URL("./await-player.ts", import.meta.url)), {
      execArgv: hooks,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    return new Promise<void>((resolve, reject) => {
      player.on("message", (message: "ready" | AwaitOutcome) => {
        if (message !== "ready") outcomes.push(message);
        if (message !== "ready" && process.stderr.isTTY)
          process.stderr.write(`\r\x1b[K${outcomes.length} of ${histories.length} histories`);
        next(player);
      });
      player.on("exit", (code) => {
        if (code === 0 || player.killed) resolve();
        else reject(new Error(`a player ended with ${code}`));
      });
    });
  });
  await Promise.all(players);
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  return outcomes;
}
