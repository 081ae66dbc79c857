/** The simulator as a suite: random mixtures, each fault by itself, and that a seed is the whole of a run. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { FAULTS } from "./faults.ts";
import PINNED from "./pinned.json" with { type: "json" };

interface Summary {
  readonly seeds: number;
  readonly virtualHours: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
  readonly invariants: Readonly<Record<string, number>>;
}

const execute = promisify(execFile);

/** What it prints. A broken invariant ends it with 1, and what it says then is the message. */
async function run(...args: string[]): Promise<string> {
  const script = fileURLToPath(new URL("./run.ts", import.meta.url));
  const { stdout } = await execute(process.execPath, [script, "--shrink", "20s", ...args], { maxBuffer: 64 * 1024 * 1024 });
  return stdout;
}

const sim = async (...args: string[]): Promise<Summary> => JSON.parse(await run("--json", ...args)) as Summary;

const SEEDS = 500;
/** Awaits that the history of `--awaits` does not pass, and why: `--each` and mixtures pass most of them. */
const NOT_PASSED = {
  "downloads, which the simulated world lacks": ["app.ts: downloads.sum", "app.ts: downloads.open"],
  "sockets to agents, which it lacks": ["routes/operator/logs.ts: channels.open"],
  "a body that grows past its limit as it arrives": ["body.ts: reader.cancel"],
  "previews that take longer than a turn": ["rehearsals.ts: this.#rest"],
  "several processes that serve at once": [
    "routes/agent/proof.ts: context.shard.reload",
    "shard/shard.ts: readLink",
    "routes/agent/session.ts: removal",
    "store/migrator.ts: appliedIds",
  ],
  "a plan that is refused again and again": [
    "store/apply-plan.ts: this.#applyByApp",
    "store/apply-plan.ts: this.#applyByApp",
    "store/apply-plan.ts: this.#applyChunks",
    "store/apply-plan.ts: this.#explain",
  ],
};

describe("histories in virtual time", () => {
  test(`${SEEDS} seeds of everything that can go wrong break no invariant`, async () => {
    const { seeds, failures, virtualHours, invariants } = await sim("--seeds", String(SEEDS));
    expect(failures).toEqual([]);
    expect(seeds).toBe(SEEDS);
    expect(virtualHours).toBeGreaterThan((SEEDS * 20) / 60 - 0.1);
    for (const invariant of ["I5", "I8", "I9", "I10", "I11", "I12", "I15", "I17", "I19", "I21", "I25", "I29", "I32"])
      expect(invariants[invariant], invariant).toBeGreaterThan(0);
  });

  test("what once broke does not break again", async () => {
    const { seeds, failures } = await sim("--pinned");
    expect(failures).toEqual([]);
    expect(seeds).toBe(PINNED.length);
  });

  test("each fault by itself breaks none either", async () => {
    const { failures, faults } = await sim("--seeds", "1", "--each");
    expect(failures).toEqual([]);
    for (const name of Object.keys(FAULTS)) expect(faults[name], name).toBeGreaterThan(0);
  });

  test("F35: killed at each await of the control plane's code, it loses nothing and does nothing twice", async () => {
    const { awaits, killedAt, notPassed, failures } = JSON.parse(await run("--awaits", "--json")) as {
      awaits: number;
      killedAt: number;
      notPassed: string[];
      failures: string[];
    };
    expect(failures).toEqual([]);
    expect(killedAt + notPassed.length).toBe(awaits);
    expect(notPassed.sort()).toEqual(Object.values(NOT_PASSED).flat().sort());
  });

  test.each([
    ["7", "the stand-in for jose"],
    ["100", "jose itself"],
  ])("a seed is the whole of a run: two processes, one beside a busy core, have one digest (seed %s, with %s)", async (seed) => {
    const spin = execFile(process.execPath, ["-e", "for (const end = Date.now() + 60000; Date.now() < end; );"]);
    try {
      const digestOf = async () => /^digest {6}([0-9a-f]{64})$/m.exec(await run("--seed", seed))?.[1];
      const [one, other] = await Promise.all([digestOf(), digestOf()]);
      expect(one).toBeDefined();
      expect(other).toBe(one);
    } finally {
      spin.kill("SIGKILL");
    }
  });
});
