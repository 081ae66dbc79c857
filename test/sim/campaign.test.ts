/** The table of what was played: a slice that is cut off goes on where it got. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Campaign } from "./campaign.ts";

test("a slice's row is made anew as it goes on, and the next slice begins after it", () => {
  const directory = mkdtempSync(join(tmpdir(), "berth-campaign-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "reliability.md");
  const head = "| date | commit | seeds | cluster-hours | faults | broken |\n|---|---|---|---|---|---|";
  writeFileSync(file, `# Reliability\n\n${head}\n\n## After\n`);
  const first = new Campaign(file);
  expect(first.lastSeed).toBe(0);
  const slice = { commit: "abc1234", from: 1, clusterHours: 10, faults: 99, broken: [] };
  first.write({ ...slice, to: 30 });
  first.write({ ...slice, to: 60, broken: ["17 (I22)"] });
  const second = new Campaign(file);
  expect(second.lastSeed).toBe(60);
  second.write({ ...slice, from: 61, to: 61 });
  const rows = readFileSync(file, "utf8").replaceAll(/\d{4}-\d\d-\d\d/g, "DATE");
  expect(rows).toBe(
    `# Reliability\n\n${head}\n| DATE | abc1234 | 1–60 | 10.0 | 99 | 17 (I22) |\n| DATE | abc1234 | 61–61 | 10.0 | 99 | none |\n\n## After\n`,
  );
});
