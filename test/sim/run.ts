/**
 * `npm run sim -- [--seeds N] [--from K] [--faults F22,F23] [--budget 60m] [--json]` plays histories on every core and says
 * what broke; what broke is made short first (--shrink 60s is how long that may take each; 0s: not at all).
 *
 *   --seed S [--only f3,o12] [--trace FILE]    one seed, or some of its acts alone; every event written down
 *   --each                                     the seeds of each fault by itself
 *   --pinned                                   the seeds of pinned.json
 *   --stop                                     ends at the first that breaks something
 *   --append FILE [--resume]                   keeps a row of the table in FILE (campaign.ts), or goes on after its last one
 *   --planted [--only NAME] [--tenth N|auto] [--append FILE]   see planted.ts
 *   --awaits [--only POINT]                    see kill-at-awaits.ts
 *
 * Exit code 1 when an invariant broke, or when the faults of a batch did not bite.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Campaign } from "./campaign.ts";
import { FAULTS } from "./faults.ts";
import type { HistoryOptions, Outcome } from "./history.ts";
import { type AwaitsOptions, killAtAwaits } from "./kill-at-awaits.ts";
import { findPlanted, type PlantedOptions } from "./planted.ts";
import { Players } from "./players.ts";
import { firstOf, historyOf, shrink } from "./shrink.ts";
import { storyOf } from "./story.ts";

const SEEDS_DEFAULT = "20";
/** Failures that are made short and shown whole; of the others only the seeds. */
const SHOWN_MAX = 3;
const SHRINK_DEFAULT = "60s";
const SHRINK_TRIES_MAX = 400;
const PROGRESS_MS = 10_000;
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
  /** Without an end where only the budget is one. */
  readonly histories: Iterator<HistoryOptions>;
  /** How many these are, if that is known. */
  readonly count: number | null;
  readonly budgetMs: number;
  readonly shrinkMs: number;
  readonly isMixed: boolean;
  /** Stop at the first seed that breaks something. */
  readonly stops: boolean;
  readonly json: boolean;
  /** File for every event of the last seed. */
  readonly trace: string | undefined;
  readonly campaign: { readonly table: Campaign; readonly from: number } | null;
}

interface Pinned {
  readonly seed: string;
  readonly faults?: readonly string[];
  readonly only?: readonly string[];
  /** Where it broke, and what. */
  readonly commit: string;
  readonly broke: string;
}

function readOptions(): Options | { readonly planted: PlantedOptions } | { readonly awaits: AwaitsOptions } {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      seed: { type: "string" },
      from: { type: "string" },
      budget: { type: "string" },
      faults: { type: "string" },
      each: { type: "boolean", default: false },
      pinned: { type: "boolean", default: false },
      stop: { type: "boolean", default: false },
      shrink: { type: "string", default: SHRINK_DEFAULT },
      trace: { type: "string" },
      append: { type: "string" },
      resume: { type: "boolean", default: false },
      planted: { type: "boolean", default: false },
      awaits: { type: "boolean", default: false },
      only: { type: "string" },
      tenth: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const { only, json } = values;
  if (values.awaits) return { awaits: { only, json } };
  if (values.planted) return { planted: { only, tenth: values.tenth, append: values.append, json } };
  const faults = values.faults?.split(",");
  const unknown = faults?.find((name) => FAULTS[name] === undefined);
  if (unknown !== undefined) usage(`there is no fault ${unknown}; there are ${Object.keys(FAULTS).join(" ")}`);
  const table = values.append === undefined ? null : new Campaign(values.append);
  if (values.resume && table === null) usage("--resume goes on after the last row of --append FILE");
  const from = values.resume && table !== null ? table.lastSeed + 1 : Number(values.from ?? 1);
  const budgetMs = values.budget === undefined ? Number.POSITIVE_INFINITY : durationMs(values.budget);
  const isEndless = values.seeds === undefined && values.budget !== undefined;
  const count = isEndless ? null : Number(values.seeds ?? SEEDS_DEFAULT);
  if (!Number.isInteger(from) || !(count === null || (Number.isInteger(count) && count > 0)))
    usage("--seeds and --from take whole numbers");
  const common = {
    budgetMs,
    shrinkMs: durationMs(values.shrink),
    isMixed: false,
    stops: values.stop,
    json,
    trace: values.trace,
    campaign: null,
  };
  const some = (histories: readonly HistoryOptions[]): Options => ({ ...common, histories: histories.values(), count: histories.length });
  const mix = faults === undefined ? {} : { faults };
  if (values.pinned) return some(pinned().map(({ seed, ...one }) => ({ seed, ...partsOf(one) })));
  if (values.seed !== undefined) return some([{ seed: values.seed, ...mix, ...(only === undefined ? {} : { only: only.split(",") }) }]);
  if (values.each) return some((faults ?? Object.keys(FAULTS)).flatMap((name) => [...seedsFrom(from, count ?? 1, { faults: [name] })]));
  return {
    ...common,
    histories: seedsFrom(from, count ?? Number.POSITIVE_INFINITY, mix),
    count,
    isMixed: faults === undefined,
    campaign: table === null ? null : { table, from },
  };
}

function* seedsFrom(from: number, count: number, mix: Omit<HistoryOptions, "seed">): Generator<HistoryOptions, undefined> {
  for (let seed = from; seed < from + count; seed++) yield { seed: String(seed), ...mix };
  return undefined;
}

const pinned = (): readonly Pinned[] => JSON.parse(readFileSync(new URL("./pinned.json", import.meta.url), "utf8")) as Pinned[];
const partsOf = ({ faults, only }: Pick<Pinned, "faults" | "only">): Omit<HistoryOptions, "seed"> => ({
  ...(faults === undefined ? {} : { faults }),
  ...(only === undefined ? {} : { only }),
});

function durationMs(text: string): number {
  const [, number, unit] = /^(\d+)([smh])$/.exec(text) ?? [];
  if (number === undefined) usage(`${text} is no duration like 90s, 60m or 2h`);
  return Number(number) * { s: 1_000, m: 60_000, h: 3_600_000 }[unit as "s" | "m" | "h"];
}

function usage(message: string): never {
  process.stderr.write(`sim: ${message}\n`);
  process.exit(2);
}

const isBroken = ({ violations }: Outcome): boolean => violations.length > 0;

/** Plays the histories, until they or the time are over or somebody interrupts. */
class Batch {
  readonly #options: Options;
  readonly #players: Players;
  readonly #startedMs = performance.now();
  readonly outcomes: Outcome[] = [];
  #isInterrupted = false;

  constructor(options: Options, players: Players) {
    this.#options = options;
    this.#players = players;
  }

  get tookMs(): number {
    return performance.now() - this.#startedMs;
  }
  get isOver(): boolean {
    const { budgetMs, stops } = this.#options;
    return this.#isInterrupted || this.tookMs > budgetMs || (stops && this.outcomes.some(isBroken));
  }

  async play(): Promise<void> {
    const interrupt = () => {
      if (this.#isInterrupted) process.exit(130);
      this.#isInterrupted = true;
    };
    for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, interrupt);
    const progress = setInterval(() => this.#tell(), PROGRESS_MS);
    await Promise.all(Array.from({ length: this.#players.count }, () => this.#playOn()));
    clearInterval(progress);
    for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, interrupt);
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
    this.#keep();
  }

  async #playOn(): Promise<void> {
    const traceLines = this.#options.trace === undefined ? 0 : Number.MAX_SAFE_INTEGER;
    while (!this.isOver) {
      const { value: history } = this.#options.histories.next() as { value: HistoryOptions | undefined };
      if (history === undefined) return;
      this.outcomes.push(await this.#players.play({ ...history, traceLines }));
      if (process.stderr.isTTY) this.#tell();
    }
  }

  #tell(): void {
    const { count } = this.#options;
    const broken = this.outcomes.filter(isBroken).length;
    const line = `${this.outcomes.length}${count === null ? "" : ` of ${count}`} seeds, ${broken} broken, ${(this.tookMs / 1000).toFixed(0)} s`;
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
    this.#keep();
  }

  /** In the table, up to the first seed that is still missing. */
  #keep(): void {
    const { campaign } = this.#options;
    if (campaign === null) return;
    const { table, from } = campaign;
    const bySeed = new Map(this.outcomes.map((outcome) => [Number(outcome.seed), outcome]));
    let to = from - 1;
    while (bySeed.has(to + 1)) to++;
    if (to < from) return;
    const kept = [...bySeed.values()].filter(({ seed }) => Number(seed) <= to).sort((a, b) => Number(a.seed) - Number(b.seed));
    const injected = sum(kept, ({ faults }) => faults);
    table.write({
      commit: commit(),
      from,
      to,
      clusterHours: hoursOf(kept),
      faults: Object.values(injected).reduce((total, count) => total + count, 0),
      broken: kept.filter(isBroken).map((outcome) => `${outcome.seed} (${invariantsOf(outcome).join(" ")})`),
    });
  }
}

const hoursOf = (outcomes: readonly Outcome[]): number => outcomes.reduce((total, { virtualMs }) => total + virtualMs, 0) / 3_600_000;
const invariantsOf = ({ violations }: Outcome): string[] => [...new Set(violations.map(({ invariant }) => invariant))];

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

/** What was seen, each kind of it once. */
function sentencesOf({ violations }: Outcome): string[] {
  const seen = new Set<string>();
  const kinds = violations.filter(({ invariant, message }) => {
    const kind = `${invariant} ${message.replaceAll(/[a-z]*_[0-9a-z]{10,}/g, "")}`;
    return !seen.has(kind) && seen.add(kind);
  });
  return kinds.slice(0, 12).map(({ invariant, atMs, message }) => `  ${invariant} at ${(atMs / 1000).toFixed(1)} s: ${message}`);
}

function commandOf({ seed, faults, only }: HistoryOptions): string {
  return `npm run sim -- --seed ${seed}${faults === undefined ? "" : ` --faults ${faults.join(",")}`}${only === undefined ? "" : ` --only ${only.join(",")}`}`;
}

/** As short as there is time for, what was done and what came of it, and the line by which it is played again for ever. */
async function describeFailure(players: Players, broken: Outcome, budgetMs: number): Promise<string> {
  const whole = historyOf(broken);
  const lines = [`seed ${broken.seed} at commit ${commit()}: ${commandOf(whole)}`, ...sentencesOf(broken)];
  if (budgetMs === 0) return lines.join("\n");
  const startedMs = performance.now();
  const { outcome, tries, isMinimal } = await shrink(players, broken, { budgetMs, triesMax: SHRINK_TRIES_MAX });
  const tookS = ((performance.now() - startedMs) / 1000).toFixed(0);
  const only = outcome.acts.map(({ id }) => id);
  const traced = await players.play({ ...whole, only, traceLines: Number.MAX_SAFE_INTEGER });
  const { invariant, message } = firstOf(traced);
  const pin: Pinned = { seed: broken.seed, ...partsOf({ ...whole, only }), commit: commit(), broke: `${invariant}: ${message}` };
  return [
    ...lines,
    "",
    `  ${only.length} of its ${broken.acts.length} faults and requests break ${invariant}${isMinimal ? ", and no fewer" : ""} (${tries} tries, ${tookS} s): ${commandOf({ ...whole, only })}`,
    ...outcome.acts.map(({ id, atMs, what }) => `    ${id.padEnd(5)} ${`${(atMs / 1000).toFixed(1)} s`.padStart(8)}  ${what}`),
    ...sentencesOf(traced),
    `  ${storyOf(traced).join("\n    ")}`,
    `  to pin it, a line of test/sim/pinned.json: ${JSON.stringify(pin)}`,
  ].join("\n");
}

const asked = readOptions();
if ("awaits" in asked) process.exit(await killAtAwaits(asked.awaits));
if ("planted" in asked) process.exit(await findPlanted(asked.planted));
const options = asked;
const players = new Players(options.count === null ? {} : { count: Math.min(new Players().count, options.count) });
const batch = new Batch(options, players);
await batch.play();
const { outcomes } = batch;
const failures = outcomes.filter(isBroken).sort((a, b) => Number(a.seed) - Number(b.seed));
const faults = sum(outcomes, (outcome) => outcome.faults);
const looked = sum(outcomes, (outcome) => outcome.looked);
const counts = sum(outcomes, (outcome) => outcome.counts);
const steps = outcomes.reduce((total, outcome) => total + outcome.steps, 0);
const virtualHours = hoursOf(outcomes);
const blunt = outcomes.length < BITE_SEEDS || !options.isMixed ? [] : MUST_BITE.filter((name) => (counts[name] ?? 0) === 0);

if (options.trace !== undefined) writeFileSync(options.trace, outcomes.at(-1)?.trace.join("\n") ?? "");

const { tookMs } = batch;
const shown: string[] = [];
for (const failure of failures.slice(0, SHOWN_MAX)) shown.push(await describeFailure(players, failure, options.shrinkMs));
if (failures.length > SHOWN_MAX) {
  const others = failures.slice(SHOWN_MAX).map((outcome) => `${outcome.seed} (${invariantsOf(outcome).join(" ")})`);
  shown.push(`and seeds ${others.join(", ")}`);
}
players.end();

if (!options.json) {
  process.stdout.write(
    [
      `seeds       ${outcomes.length}${options.count === null ? "" : ` of ${options.count}`} in ${(tookMs / 1000).toFixed(1)} s`,
      `steps       ${steps}`,
      `virtual     ${virtualHours.toFixed(1)} cluster-hours, ${(virtualHours / (tookMs / 60_000)).toFixed(0)} a minute`,
      `faults      ${wordsOf(faults)}`,
      `invariants  ${wordsOf(looked)}`,
      `happened    ${wordsOf(counts)}`,
      `broken      ${failures.length}`,
      ...(outcomes.length === 1 ? [`digest      ${outcomes[0]!.digest}`] : []),
      ...blunt.map((name) => `nothing shown: ${name} never happened`),
      ...shown.map((text) => `\n${text}`),
      "",
    ].join("\n"),
  );
} else {
  for (const text of [...blunt.map((name) => `nothing shown: ${name} never happened`), ...shown]) process.stderr.write(`${text}\n`);
  const summary = {
    seeds: outcomes.length,
    steps,
    virtualHours: Number(virtualHours.toFixed(2)),
    faults,
    failures: failures.map(({ seed }) => seed),
    invariants: looked,
  };
  process.stdout.write(`${JSON.stringify(summary)}\n`);
}
process.exitCode = failures.length > 0 || blunt.length > 0 ? 1 : 0;
