/** A planted bug that no longer fits the code shows nothing by its escape. That each is found: `npm run sim -- --planted`. */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const patches = readdirSync(new URL("./planted/", import.meta.url)).filter((file) => file.endsWith(".patch"));

test("there are as many as were promised", () => expect(patches.length).toBeGreaterThanOrEqual(40));

test.each(patches)("%s applies to the code as it is", (patch) => {
  execFileSync("git", ["apply", "--check", `test/sim/planted/${patch}`], { cwd: root, stdio: "pipe" });
});
