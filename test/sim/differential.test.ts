/**
 * The same histories on the simulated database and on the real one: what the control plane asked of the first is asked of
 * libSQL through the port that ships, in the same order and at the same time. Each answer and, in the end, each row of
 * each table has to be the same.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Differential, DifferentialOptions } from "./differential-player.ts";

async function compare(options: DifferentialOptions): Promise<Differential> {
  const player = fork(fileURLToPath(new URL("./differential-player.ts", import.meta.url)), {
    execArgv: ["--import", new URL("./hooks.ts", import.meta.url).href],
  });
  try {
    const ended = once(player, "exit").then(([code]) => {
      throw new Error(`the player ended with ${String(code)}`);
    });
    player.send(options);
    const [differential] = (await Promise.race([once(player, "message"), ended])) as [Differential];
    return differential;
  } finally {
    player.kill();
  }
}

/** Processes that plan at once, and writes that come late or are not heard of: what guards refuse. */
const RIVALS: DifferentialOptions = { seed: "2", faults: ["F35", "F36", "F38", "F39"] };

describe("the simulated database beside the real one", () => {
  test.each<DifferentialOptions>([{ seed: "1" }, { seed: "3" }, RIVALS])(
    "$seed $faults: every answer and every row is the same",
    async (history) => {
      const { batches, rows, differences } = await compare(history);
      expect(differences).toEqual([]);
      expect(batches).toBeGreaterThan(1_000);
      expect(rows).toBeGreaterThan(200);
    },
  );

  test.each<[string, DifferentialOptions["spoil"] & {}]>([
    ["a guard that lets everything through", ["json('cas')", "1"]],
    ["a cluster that counts twice", ["rev = rev + 1", "rev = rev + 2"]],
  ])("%s is found", async (_, spoil) => {
    const { differences, refusals } = await compare({ ...RIVALS, spoil });
    expect(refusals).toBeGreaterThan(0);
    expect(differences).not.toEqual([]);
  });
});
