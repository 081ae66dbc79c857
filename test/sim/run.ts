/**
 * `npm run sim -- --seeds N [--seed S] [--from K] [--budget 60m] [--faults F22,F23] [--each] [--stop] [--trace FILE] [--json]`: plays
 * histories on every core and says what broke; --each plays the seeds of each fault by itself, --stop ends at the first
 * that breaks something. `npm run sim -- --planted [--only NAME] [--tenth N]`: see planted.ts. `npm run sim -- --awaits
 * [--only POINT]`: see kill-at-awaits.ts. Exit code 1 when an invariant did, or when the faults of a batch did not bite.
 */
import { type ChildProcess, fork, spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { FAULTS } from "./faults.ts";
import type { HistoryOptions, Outcome } from "./history.ts";
import { type AwaitsOptions, killAtAwaits } from "./kill-at-awaits.ts";
import { findPlanted, type PlantedOptions } from "./planted.ts";

const SEEDS_DEFAULT = "20";
const TRACE_LINES = 400;
const SHOWN_LINES = 60;
/** A batch in which one of these never happened has shown nothing. From this many seeds on it is expected. */
const BITE_SEEDS = 10;
const MUST_BITE = [
  "deploymentsSucceeded",
  "deploymentsFailed",
  "nodesLost",
  "nodesReturned",
  "unanswered",
  "writesBusy",
  "acknowledgementsLost",
  "writesLate",
  "repliesLost",
  "postsRepeated",
  "cutByProxies",
  "webPages",
] as const;

interface Options {
  readonly histories: readonly HistoryOptions[];
  readonly budgetMs: number;
  readonly isMixed: boolean;
  /** Stop at the first seed that breaks something. */
  readonly stops: boolean;
  readonly json: boolean;
  /** File for every event that is kept of the last seed. */
  readonly trace: string | undefined;
}

function readOptions(): Options | { readonly planted: PlantedOptions } | { readonly awaits: AwaitsOptions } {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string", default: SEEDS_DEFAULT },
      seed: { type: "string" },
      from: { type: "string", default: "1" },
      budget: { type: "string" },
      faults: { type: "string" },
      each: { type: "boolean", default: false },
      stop: { type: "boolean", default: false },
      trace: { type: "string" },
      planted: { type: "boolean", default: false },
      awaits: { type: "boolean", default: false },
      only: { type: "string" },
      tenth: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  if (values.awaits) return { awaits: { only: values.only, json: values.json } };
  if (values.planted)
    return { planted: { only: values.only, tenth: values.tenth === undefined ? undefined : Number(values.tenth), json: values.json } };
  const faults = values.faults?.split(",");
  const unknown = faults?.find((name) => FAULTS[name] === undefined);
  if (unknown !== undefined) usage(`there is no fault ${unknown}; there are ${Object.keys(FAULTS).join(" ")}`);
  const count = Number(values.seeds);
  const from = Number(values.from);
  if (!Number.isInteger(count) || count < 1 || !Number.isInteger(from)) usage("--seeds and --from take whole numbers");
  const seeds = values.seed === undefined ? Array.from({ length: count }, (_, at) => String(from + at)) : [values.seed];
  const mixes = values.each ? (faults ?? Object.keys(FAULTS)).map((name) => [name]) : [faults];
  const histories = mixes.flatMap((mix) =>
    seeds.map((seed) => ({
      seed,
      traceLines: values.trace === undefined ? TRACE_LINES : Number.MAX_SAFE_INTEGER,
      ...(mix === undefined ? {} : { faults: mix }),
    })),
  );
  return {
    histories,
    isMixed: !values.each && faults === undefined,
    stops: values.stop,
    trace: values.trace,
    json: values.json,
    budgetMs: values.budget === undefined ? Number.POSITIVE_INFINITY : durationMs(values.budget),
  };
}

function durationMs(text: string): number {
  const [, number, unit] = /^(\d+)([smh])$/.exec(text) ?? [];
  if (number === undefined) usage(`${text} is no duration like 90s, 60m or 2h`);
  return Number(number) * { s: 1_000, m: 60_000, h: 3_600_000 }[unit as "s" | "m" | "h"];
}

function usage(message: string): never {
  process.stderr.write(`sim: ${message}\n`);
  process.exit(2);
}

class Batch {
  readonly #options: Options;
  readonly #waiting: HistoryOptions[];
  readonly #startedMs = performance.now();
  readonly outcomes: Outcome[] = [];

  constructor(options: Options) {
    this.#options = options;
    this.#waiting = [...options.histories];
  }

  get tookMs(): number {
    return performance.now() - this.#startedMs;
  }

  async play(): Promise<void> {
    const count = Math.min(availableParallelism(), this.#waiting.length);
    await Promise.all(Array.from({ length: count }, () => this.#player()));
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  }

  #player(): Promise<void> {
    const hooks = new URL("./hooks.ts", import.meta.url).href;
    const player = fork(fileURLToPath(new URL("./player.ts", import.meta.url)), {
      execArgv: ["--import", hooks],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    return new Promise((resolve, reject) => {
      player.on("message", (message: "ready" | Outcome) => {
        if (message !== "ready") this.#take(message);
        this.#next(player);
      });
      player.on("exit", (code) => {
        if (code === 0 || player.killed) resolve();
        else reject(new Error(`a player ended with ${code}`));
      });
    });
  }

  #next(player: ChildProcess): void {
    const isOver =
      this.tookMs > this.#options.budgetMs || (this.#options.stops && this.outcomes.some(({ violations }) => violations.length > 0));
    const history = isOver ? undefined : this.#waiting.shift();
    if (history === undefined) player.kill();
    else player.send(history);
  }

  #take(outcome: Outcome): void {
    this.outcomes.push(outcome);
    if (process.stderr.isTTY && !this.#options.json) {
      const broken = this.outcomes.filter(({ violations }) => violations.length > 0).length;
      process.stderr.write(
        `\r\x1b[K${this.outcomes.length} of ${this.#options.histories.length} seeds, ${broken} broken, ${(this.tookMs / 1000).toFixed(0)} s`,
      );
    }
  }
}

const sum = (outcomes: readonly Outcome[], part: (outcome: Outcome) => Readonly<Record<string, number>>): Record<string, number> => {
  const total: Record<string, number> = {};
  for (const outcome of outcomes) for (const [name, count] of Object.entries(part(outcome))) total[name] = (total[name] ?? 0) + count;
  return Object.fromEntries(Object.entries(total).sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })));
};
const wordsOf = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join("  ");

/** A copy of the code, as planted bugs get, is of no commit. */
function commit(): string {
  const { status, stdout } = spawnSync("git", ["rev-parse", "--short", "HEAD"], {
    encoding: "utf8",
    cwd: fileURLToPath(new URL(".", import.meta.url)),
  });
  return status === 0 ? stdout.trim() : "none";
}

function describeFailure(outcome: Outcome): string {
  const seen = new Set<string>();
  const sentences = outcome.violations.filter(({ invariant, message }) => {
    const kind = `${invariant} ${message.replace(/[a-z]*_[0-9a-z]{10,}/g, "")}`;
    return !seen.has(kind) && seen.add(kind);
  });
  const lines = sentences.slice(0, 12).map(({ invariant, atMs, message }) => `  ${invariant} at ${(atMs / 1000).toFixed(1)} s: ${message}`);
  return [
    `seed ${outcome.seed} at commit ${commit()}: npm run sim -- --seed ${outcome.seed}${outcome.mix.length === 0 ? "" : ` --faults ${outcome.mix.join(",")}`}`,
    ...lines,
    "  the last events:",
    ...outcome.trace.slice(-SHOWN_LINES).map((line) => `    ${line.slice(0, 200)}`),
  ].join("\n");
}

const asked = readOptions();
if ("awaits" in asked) process.exit(await killAtAwaits(asked.awaits));
if ("planted" in asked) process.exit(await findPlanted(asked.planted));
const options = asked;
const batch = new Batch(options);
await batch.play();
const { outcomes } = batch;
const failures = outcomes.filter(({ violations }) => violations.length > 0).sort((a, b) => Number(a.seed) - Number(b.seed));
const faults = sum(outcomes, (outcome) => outcome.faults);
const looked = sum(outcomes, (outcome) => outcome.looked);
const counts = sum(outcomes, (outcome) => outcome.counts);
const steps = outcomes.reduce((total, outcome) => total + outcome.steps, 0);
const virtualHours = outcomes.reduce((total, outcome) => total + outcome.virtualMs, 0) / 3_600_000;
const blunt = outcomes.length < BITE_SEEDS || !options.isMixed ? [] : MUST_BITE.filter((name) => (counts[name] ?? 0) === 0);

if (options.trace !== undefined) writeFileSync(options.trace, outcomes.at(-1)?.trace.join("\n") ?? "");

if (!options.json) {
  const minutes = batch.tookMs / 60_000;
  process.stdout.write(
    [
      `seeds       ${outcomes.length} of ${options.histories.length} in ${(batch.tookMs / 1000).toFixed(1)} s`,
      `steps       ${steps}`,
      `virtual     ${virtualHours.toFixed(1)} cluster-hours, ${(virtualHours / minutes).toFixed(0)} a minute`,
      `faults      ${wordsOf(faults)}`,
      `invariants  ${wordsOf(looked)}`,
      `happened    ${wordsOf(counts)}`,
      `broken      ${failures.length}`,
      ...(outcomes.length === 1 ? [`digest      ${outcomes[0]!.digest}`] : []),
      ...blunt.map((name) => `nothing shown: ${name} never happened`),
      ...failures.slice(0, 5).map((failure) => `\n${describeFailure(failure)}`),
      ...(failures.length > 5
        ? [
            `\nand seeds ${failures
              .slice(5)
              .map(({ seed }) => seed)
              .join(" ")}`,
          ]
        : []),
      "",
    ].join("\n"),
  );
} else {
  for (const failure of failures) process.stderr.write(`${describeFailure(failure)}\n`);
  const shown = {
    seeds: outcomes.length,
    steps,
    virtualHours: Number(virtualHours.toFixed(2)),
    faults,
    failures: failures.map(({ seed }) => seed),
    invariants: looked,
    ...(outcomes.length === 1 ? { digest: outcomes[0]!.digest } : {}),
  };
  process.stdout.write(`${JSON.stringify(shown)}\n`);
}
process.exitCode = failures.length > 0 || blunt.length > 0 ? 1 : 0;
