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
import { Players } from "./players.ts";

export interface PlantedOptions {
  readonly only: string | undefined;
  /** 0 to 9: every tenth of them, beginning with this one; "auto": which one, the number of commits says. */
  readonly tenth: string | undefined;
  readonly json: boolean;
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PATCHES = join(ROOT, "test", "sim", "planted");
const COPIED = ["shared", "worker", "agent", "test/sim", "package.json", "tsconfig.json"];
/** One that needs more escapes. */
const SEEDS_MAX = 100;
const run = promisify(execFile);

interface Found {
  readonly name: string;
  /** Seeds until it was found; null: it escaped. */
  readonly seeds: number | null;
  /** Invariants that broke, or why it could not be tried. */
  readonly by: string;
}

/** Prints what was found; the exit code. */
export async function findPlanted({ only, tenth, json }: PlantedOptions): Promise<number> {
  const all = readdirSync(PATCHES)
    .filter((file) => file.endsWith(".patch"))
    .map((file) => file.slice(0, -".patch".length))
    .sort();
  const say = (line: string) => void (json ? process.stderr : process.stdout).write(`${line}\n`);
  const part = tenthOf(tenth);
  if (part !== null) say(`every tenth, from number ${part}${tenth === "auto" ? ", as the number of commits ends with it" : ""}`);
  const names = all.filter((name, at) => (only === undefined || name === only) && (part === null || at % 10 === part));
  if (names.length === 0) throw new Error(`there is no planted bug ${only ?? ""}`);
  const stale = all.filter((name) => !applies(name));
  for (const name of stale) say(`STALE    ${name} does not apply any more`);

  const waiting = names.filter((name) => !stale.includes(name));
  const found: Found[] = [];
  const garden = new Garden(waiting);
  const tryOn = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const startedMs = performance.now();
      const one = await find(garden, name);
      found.push(one);
      const tookS = ((performance.now() - startedMs) / 1000).toFixed(0);
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
  const shown = { planted: names.length, caught: seeds.length, medianSeeds: seeds[Math.floor(seeds.length / 2)] ?? null };
  process.stdout.write(
    json ? `${JSON.stringify(shown)}\n` : `${shown.caught} of ${shown.planted} caught, after ${shown.medianSeeds} seeds in the median\n`,
  );
  return shown.caught === shown.planted && stale.length === 0 ? 0 : 1;
}

/** Which tenth: each commit tries another one, and whoever has that commit the same. */
function tenthOf(tenth: string | undefined): number | null {
  if (tenth === undefined) return null;
  const number = tenth === "auto" ? execFileSync("git", ["rev-list", "--count", "HEAD"], { cwd: ROOT, encoding: "utf8" }) : tenth;
  return Number(number) % 10;
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

  constructor(names: readonly string[]) {
    this.#parts = new Set(names.flatMap(partsOf));
  }

  async prepare(): Promise<void> {
    const sound = this.#copy("sound");
    for (const part of this.#parts) await compile(sound, part);
  }

  /** Throws if the bug does not compile. */
  async plant(name: string): Promise<string> {
    const copy = this.#copy(name);
    execFileSync("git", ["apply", "--unsafe-paths", `--directory=${copy}`, join(PATCHES, `${name}.patch`)], { cwd: "/", stdio: "pipe" });
    for (const part of partsOf(name)) {
      cpSync(join(this.#directory, "sound", knownOf(part)), join(copy, knownOf(part)));
      await compile(copy, part);
    }
    return copy;
  }

  pull(name: string): void {
    rmSync(join(this.#directory, name), { recursive: true, force: true });
  }
  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #copy(name: string): string {
    const copy = join(this.#directory, name);
    mkdirSync(copy);
    for (const path of COPIED) cpSync(join(ROOT, path), join(copy, path), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
    return copy;
  }
}

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
    return await play(name, await garden.plant(name));
  } catch (error) {
    return { name, seeds: null, by: `could not be tried: ${(error as { stdout?: string }).stdout ?? ""} ${String(error)}`.slice(0, 400) };
  } finally {
    garden.pull(name);
  }
}

async function play(name: string, copy: string): Promise<Found> {
  const players = new Players({ count: 1, directory: pathToFileURL(`${join(copy, "test", "sim")}/`) });
  try {
    for (let seed = 1; seed <= SEEDS_MAX; seed++) {
      const { violations } = await players.play({ seed: String(seed) });
      const broken = [...new Set(violations.map(({ invariant }) => invariant))];
      if (broken.length > 0) return { name, seeds: seed, by: broken.join(" ") };
    }
    return { name, seeds: null, by: `nothing broke in ${SEEDS_MAX} seeds` };
  } finally {
    players.end();
  }
}
