/** `npm run sim -- --awaits`: the history of each-await.ts, once whole and once for each await that it passes, on every core. */
import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { enumerate, type Point } from "./awaits.ts";
import type { AwaitOutcome } from "./each-await.ts";

export interface AwaitsOptions {
  /** One of them: `file:line:column` below worker/. */
  readonly only: string | undefined;
  readonly json: boolean;
}

/** Prints how many awaits the source has, how many were killed at, and what broke; the exit code. */
export async function killAtAwaits({ only, json }: AwaitsOptions): Promise<number> {
  const { points, behindPorts } = enumerate();
  const [whole] = await play(["nowhere"]);
  const passed = new Set(whole?.reached);
  const targets = points.filter((point) => (only === undefined ? passed.has(point) : point === only));
  const outcomes = whole === undefined || whole.violations.length > 0 ? [] : await play(targets);
  const notPassed = points.filter((point) => !passed.has(point));
  const broken = [...(whole === undefined ? [] : [whole]), ...outcomes].filter(({ violations }) => violations.length > 0);
  for (const { target, violations, trace } of broken) {
    const lines = violations
      .slice(0, 6)
      .map(({ invariant, atMs, message }) => `  ${invariant} at ${(atMs / 1000).toFixed(1)} s: ${message}`);
    process.stderr.write(`killed at ${target ?? "nothing"}: npm run sim -- --awaits --only ${target ?? ""}\n${lines.join("\n")}\n`);
    if (only !== undefined) process.stderr.write(`${trace.map((line) => `    ${line.slice(0, 200)}`).join("\n")}\n`);
  }
  const shown = {
    awaits: points.length,
    killedAt: outcomes.length,
    notPassed,
    behindPorts: behindPorts.length,
    failures: broken.map(({ target }) => target ?? "none"),
  };
  if (json) process.stdout.write(`${JSON.stringify(shown)}\n`);
  else
    process.stdout.write(
      [
        `awaits      ${shown.awaits} in worker/, ${shown.behindPorts} more in what the simulator stands in for`,
        `killed at   ${shown.killedAt}`,
        `not passed  ${notPassed.length}  ${notPassed.join("  ")}`,
        `broken      ${broken.length}`,
        "",
      ].join("\n"),
    );
  return broken.length > 0 || outcomes.length !== targets.length ? 1 : 0;
}

async function play(targets: readonly (Point | "nowhere")[]): Promise<AwaitOutcome[]> {
  const waiting = [...targets];
  const outcomes: AwaitOutcome[] = [];
  const next = (player: ChildProcess) => {
    const target = waiting.shift();
    if (target === undefined) player.kill();
    else player.send(target);
  };
  const players = Array.from({ length: Math.min(availableParallelism(), targets.length) }, () => {
    const hooks = ["./hooks.ts", "./awaits-hooks.ts"].flatMap((file) => ["--import", new URL(file, import.meta.url).href]);
    const player = fork(fileURLToPath(new URL("./await-player.ts", import.meta.url)), {
      execArgv: hooks,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    return new Promise<void>((resolve, reject) => {
      player.on("message", (message: "ready" | AwaitOutcome) => {
        if (message !== "ready") outcomes.push(message);
        if (message !== "ready" && process.stderr.isTTY) process.stderr.write(`\r\x1b[K${outcomes.length} of ${targets.length} awaits`);
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
