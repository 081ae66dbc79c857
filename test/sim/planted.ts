/**
 * Planted bugs: each patch of `planted/` is put into a copy of the code, which has to compile, and the simulator has to
 * find it. A simulator that lets one through shows nothing by its silence.
 */
import { execFile, execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export interface PlantedOptions {
  readonly only: string | undefined;
  /** 0 to 9: every tenth of them, beginning with this one. */
  readonly tenth: number | undefined;
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
  const names = readdirSync(PATCHES)
    .filter((file) => file.endsWith(".patch"))
    .map((file) => file.slice(0, -".patch".length))
    .sort()
    .filter((name, at) => (only === undefined || name === only) && (tenth === undefined || at % 10 === tenth % 10));
  if (names.length === 0) throw new Error(`there is no planted bug ${only ?? ""}`);
  const found: Found[] = [];
  for (const name of names) {
    const one = await find(name);
    found.push(one);
    if (!json) process.stdout.write(`${one.seeds === null ? "ESCAPED" : String(one.seeds).padStart(7)}  ${name.padEnd(40)}  ${one.by}\n`);
  }
  const seeds = found.flatMap((one) => (one.seeds === null ? [] : [one.seeds])).sort((a, b) => a - b);
  const shown = { planted: found.length, caught: seeds.length, medianSeeds: seeds[Math.floor(seeds.length / 2)] ?? null };
  process.stdout.write(
    json ? `${JSON.stringify(shown)}\n` : `${shown.caught} of ${shown.planted} caught, after ${shown.medianSeeds} seeds in the median\n`,
  );
  return shown.caught === shown.planted ? 0 : 1;
}

async function find(name: string): Promise<Found> {
  const copy = mkdtempSync(join(tmpdir(), "berth-planted-"));
  try {
    for (const path of COPIED) cpSync(join(ROOT, path), join(copy, path), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
    execFileSync("git", ["apply", "--unsafe-paths", `--directory=${copy}`, join(PATCHES, `${name}.patch`)], { cwd: "/", stdio: "pipe" });
    for (const part of partsOf(name))
      await run(process.execPath, [join(ROOT, "node_modules", "typescript", "bin", "tsc"), "-p", part], { cwd: copy });
    return await play(name, copy);
  } catch (error) {
    return { name, seeds: null, by: `could not be tried: ${(error as { stdout?: string }).stdout ?? ""} ${String(error)}`.slice(0, 400) };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** The parts of the code that a patch touches. */
function partsOf(name: string): Set<string> {
  const patch = readFileSync(join(PATCHES, `${name}.patch`), "utf8");
  return new Set([...patch.matchAll(/^\+\+\+ b\/(shared|worker|agent)\//gm)].map(([, part]) => part ?? ""));
}

async function play(name: string, copy: string): Promise<Found> {
  const args = [join(copy, "test", "sim", "run.ts"), "--seeds", String(SEEDS_MAX), "--stop", "--json"];
  try {
    await run(process.execPath, args, { cwd: copy, maxBuffer: 256 * 1024 * 1024 });
    return { name, seeds: null, by: `nothing broke in ${SEEDS_MAX} seeds` };
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    const line = stdout.trim().split("\n").at(-1) ?? "";
    if (!line.startsWith("{")) return { name, seeds: null, by: `the simulator itself failed: ${stderr.slice(0, 300)}` };
    const summary = JSON.parse(line) as { seeds: number; failures: string[] };
    const broken = [...new Set([...stderr.matchAll(/^ {2}(I\d+|crash|sim) at /gm)].map(([, invariant]) => invariant))];
    return { name, seeds: summary.failures.length === 0 ? null : summary.seeds, by: broken.join(" ") };
  }
}
