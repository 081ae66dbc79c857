/**
 * Planted bugs: each patch of `planted/` is put into a copy of the code, which has to compile, and the simulator has to
 * find it. A simulator that lets one through shows nothing by its silence.
 */
import { execFile, execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import type { Outcome } from "./history.ts";
import { type Found, PlantedTable } from "./planted-table.ts";
import { Players } from "./players.ts";

export interface PlantedOptions {
  readonly only: string | undefined;
  /** 0 to 9: every tenth of them, beginning with this one; "auto": see `tenthOf`. */
  readonly tenth: string | undefined;
  /** Document that has the table of them. */
  readonly append: string | undefined;
  readonly json: boolean;
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PATCHES = join(ROOT, "test", "sim", "planted");
const COPIED = ["shared", "worker", "agent", "test/sim", "package.json", "tsconfig.json"];
/** One that needs more escapes. */
const SEEDS_MAX = 300;
const DAY_MS = 86_400_000;
const run = promisify(execFile);

/** Prints what was found; the exit code. */
export async function findPlanted({ only, tenth, append, json }: PlantedOptions): Promise<number> {
  const startedMs = performance.now();
  const table = append === undefined ? null : new PlantedTable(append);
  const all = readdirSync(PATCHES)
    .filter((file) => file.endsWith(".patch"))
    .map((file) => file.slice(0, -".patch".length))
    .sort();
  const say = (line: string) => void (json ? process.stderr : process.stdout).write(`${line}\n`);
  const part = tenthOf(tenth);
  if (part !== null) say(`every tenth, from number ${part}: npm run sim -- --planted --tenth ${part}`);
  const names = all.filter((name, at) => (only === undefined || name === only) && (part === null || at % 10 === part));
  if (names.length === 0) throw new Error(`there is no planted bug ${only ?? ""}`);
  const stale = all.filter((name) => !applies(name));
  for (const name of stale) say(`STALE    ${name} does not apply any more`);

  const waiting = names.filter((name) => !stale.includes(name));
  const found: Found[] = [];
  const garden = new Garden(waiting);
  const tryOn = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const triedMs = performance.now();
      const one = await find(garden, name);
      found.push(one);
      table?.write(one);
      const tookS = ((performance.now() - triedMs) / 1000).toFixed(0);
      say(`${one.seeds === null ? "ESCAPED" : String(one.seeds).padStart(7)}  ${`${tookS} s`.padStart(6)}  ${name.padEnd(40)}  ${one.by}`);
    }
  };
  try {
    await garden.prepare();
    await Promise.all(Array.from({ length: availableParallelism() }, tryOn));
  } finally {
    garden.remove();
  }
  const seeds = found.flatMap((one) => (one.seeds === null ? [] : [one.seeds])).sort((a, b) => a - b);
  const shown = {
    planted: names.length,
    caught: seeds.length,
    medianSeeds: seeds[Math.floor(seeds.length / 2)] ?? null,
    escaped: found.flatMap(({ name, seeds: needed }) => (needed === null ? [name] : [])),
    stale,
  };
  const tookS = ((performance.now() - startedMs) / 1000).toFixed(0);
  process.stdout.write(
    json
      ? `${JSON.stringify(shown)}\n`
      : `${shown.caught} of ${shown.planted} caught, after ${shown.medianSeeds} seeds in the median, in ${tookS} s\n`,
  );
  return shown.caught === shown.planted && stale.length === 0 ? 0 : 1;
}

/**
 * Which tenth: that of the last digit of the number of commits (`git rev-list --count HEAD`), so that each commit tries
 * another one, and whoever has that commit the same. Where not all commits are there, that of the days since 1970 began.
 */
function tenthOf(tenth: string | undefined): number | null {
  if (tenth === undefined) return null;
  if (tenth !== "auto") return Number(tenth) % 10;
  const git = (...args: string[]) => execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: "pipe" }).trim();
  try {
    if (git("rev-parse", "--is-shallow-repository") === "false") return Number(git("rev-list", "--count", "HEAD")) % 10;
  } catch {
    // An archive has none.
  }
  return Math.floor(Date.now() / DAY_MS) % 10;
}

function applies(name: string): boolean {
  try {
    execFileSync("git", ["apply", "--check", join(PATCHES, `${name}.patch`)], { cwd: ROOT, stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Copies of the code side by side, and what the compiler knows of the sound one: it looks again only at what a bug changes. */
class Garden {
  readonly #directory = mkdtempSync(join(tmpdir(), "berth-planted-"));
  readonly #parts: ReadonlySet<string>;
  readonly #brokenAnyway = new Map<string, Promise<ReadonlySet<string>>>();
  #sound: Players | null = null;

  constructor(names: readonly string[]) {
    this.#parts = new Set(names.flatMap(partsOf));
  }

  async prepare(): Promise<void> {
    const sound = this.#directoryOf(SOUND);
    mkdirSync(sound);
    for (const path of COPIED) cpSync(join(ROOT, path), join(sound, path), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(sound, "node_modules"));
    for (const part of this.#parts) await compile(sound, part);
    this.#sound = new Players({ count: 1, directory: simOf(sound) });
  }

  /** Invariants that this seed breaks without any bug: that they break shows nothing. */
  brokenAnyway(seed: string): Promise<ReadonlySet<string>> {
    const known = this.#brokenAnyway.get(seed) ?? this.#sound!.play({ seed }).then((outcome) => new Set(brokenOf(outcome)));
    this.#brokenAnyway.set(seed, known);
    return known;
  }

  /** Throws if the bug does not compile. */
  async plant(name: string): Promise<string> {
    const copy = this.#directoryOf(name);
    cpSync(this.#directoryOf(SOUND), copy, { recursive: true });
    execFileSync("git", ["apply", "--unsafe-paths", `--directory=${copy}`, join(PATCHES, `${name}.patch`)], { cwd: "/", stdio: "pipe" });
    for (const part of partsOf(name)) await compile(copy, part);
    return copy;
  }

  pull(name: string): void {
    rmSync(this.#directoryOf(name), { recursive: true, force: true });
  }
  remove(): void {
    this.#sound?.end();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #directoryOf(name: string): string {
    return join(this.#directory, name);
  }
}

const SOUND = "sound";
const simOf = (copy: string): URL => pathToFileURL(`${join(copy, "test", "sim")}/`);
const brokenOf = ({ violations }: Outcome): string[] => [...new Set(violations.map(({ invariant }) => invariant))];
const knownOf = (part: string): string => `${part}.tsbuildinfo`;

async function compile(copy: string, part: string): Promise<void> {
  const compiler = join(ROOT, "node_modules", "typescript", "bin", "tsc");
  await run(process.execPath, [compiler, "-p", part, "--incremental", "--tsBuildInfoFile", knownOf(part)], { cwd: copy });
}

/** The parts of the code that a patch touches. */
function partsOf(name: string): string[] {
  const patch = readFileSync(join(PATCHES, `${name}.patch`), "utf8");
  return [...new Set([...patch.matchAll(/^\+\+\+ b\/(shared|worker|agent)\//gm)].map(([, part]) => part ?? ""))];
}

async function find(garden: Garden, name: string): Promise<Found> {
  try {
    return await play(garden, name);
  } catch (error) {
    return { name, seeds: null, by: `could not be tried: ${(error as { stdout?: string }).stdout ?? ""} ${String(error)}`.slice(0, 400) };
  } finally {
    garden.pull(name);
  }
}

async function play(garden: Garden, name: string): Promise<Found> {
  const players = new Players({ count: 1, directory: simOf(await garden.plant(name)) });
  try {
    for (let seed = 1; seed <= SEEDS_MAX; seed++) {
      const broken = brokenOf(await players.play({ seed: String(seed) }));
      const anyway = broken.length === 0 ? new Set() : await garden.brokenAnyway(String(seed));
      const by = broken.filter((invariant) => !anyway.has(invariant));
      if (by.length > 0) return { name, seeds: seed, by: by.join(" ") };
    }
    return { name, seeds: null, by: `nothing broke in ${SEEDS_MAX} seeds` };
  } finally {
    players.end();
  }
}
