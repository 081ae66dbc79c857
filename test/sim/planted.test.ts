/**
 * A planted bug that no longer fits the code shows nothing by its escape, and one that escapes shows that the simulator has
 * become kinder. A tenth of them are tried here, another one with each commit; all of them: `npm run sim -- --planted`.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { PlantedTable } from "./planted-table.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const patches = readdirSync(new URL("./planted/", import.meta.url)).filter((file) => file.endsWith(".patch"));

test("there are as many as were promised", () => expect(patches.length).toBeGreaterThanOrEqual(40));

test.each(patches)("%s applies to the code as it is", (patch) => {
  execFileSync("git", ["apply", "--check", `test/sim/planted/${patch}`], { cwd: root, stdio: "pipe" });
});

test("a tenth of them are found, another one with each commit", async () => {
  const args = [fileURLToPath(new URL("./run.ts", import.meta.url)), "--planted", "--tenth", "auto", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const { planted, caught, escaped } = JSON.parse(stdout) as { planted: number; caught: number; escaped: string[] };
  expect(escaped).toEqual([]);
  expect(caught).toBe(planted);
  expect(planted).toBeGreaterThanOrEqual(Math.floor(patches.length / 10));
});

test("the table has a row for each, which is made anew when it is tried again", () => {
  const directory = mkdtempSync(join(tmpdir(), "berth-planted-table-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "reliability.md");
  const head = "| planted bug | found by | seeds |\n|---|---|---|";
  writeFileSync(file, `# Reliability\n\n${head}\n\n## After\n`);
  new PlantedTable(file).write({ name: "second", seeds: null, by: "nothing broke" });
  const table = new PlantedTable(file);
  table.write({ name: "first", seeds: 2, by: "I5 I9" });
  table.write({ name: "second", seeds: 7, by: "I22" });
  expect(readFileSync(file, "utf8")).toBe(`# Reliability\n\n${head}\n| first | I5 I9 | 2 |\n| second | I22 | 7 |\n\n## After\n`);
});
