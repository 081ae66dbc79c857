/**
 * `npm test`: everything, one heavy suite after another, and a last line `N passed, N failed`.
 * Plain JavaScript for Node 20: it installs the packages when they are missing and goes on under the locked Node.
 *
 *   npm test                 all stages
 *   npm test -- core store   only these
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = join(root, "node_modules", ".bin");
const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
const run = (command, args) => spawnSync(command, args, { cwd: root, env, stdio: "inherit" }).status === 0;

if (!existsSync(join(bin, "vitest")) && !run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"])) {
  console.error("npm ci failed; mend what it says above and run npm test again");
  process.exit(1);
}

/** Each static check counts as one test. */
const CHECKS = ["types", "lint", "format"];
/** Suites in the order of their cost; `engines` ones need container engines and install them. */
const SUITES = [
  { name: "core" },
  { name: "store" },
  { name: "worker" },
  { name: "cli" },
  { name: "sim" },
  { name: "agent", engines: true },
  { name: "hosts", engines: true },
  { name: "e2e", engines: true },
  { name: "docs", engines: true },
];

const wanted = process.argv.slice(2);
const known = new Set(["check", ...SUITES.map((suite) => suite.name)]);
for (const name of wanted) {
  if (known.has(name)) continue;
  console.error(`no suite "${name}"; there are: ${[...known].join(", ")}`);
  process.exit(2);
}
const isWanted = (name) => wanted.length === 0 || wanted.includes(name);

let passed = 0;
let failed = 0;
/** What failed and how, said again at the end: a long run's reader sees its last lines only. */
const failures = [];
const count = (ok, what) => {
  if (ok) passed++;
  else failed++;
  if (!ok) failures.push(what);
  if (!ok) console.error(`FAILED: ${what}`);
};

/** Each failed test of a suite's JSON report: its file, its name, the first lines of what it says. */
const failuresIn = (suite, result) =>
  (result.testResults ?? []).flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName, failureMessages }) => {
        const says = failureMessages.join("\n").split("\n").slice(0, 12).join("\n    ");
        return `${suite}: ${relative(root, name)}: ${fullName}\n    ${says}`;
      }),
  );

if (isWanted("check")) for (const check of CHECKS) count(run("npm", ["run", "--silent", check]), `npm run ${check}`);

let enginesReady = null;
const reports = mkdtempSync(join(tmpdir(), "berth-test-"));
for (const suite of SUITES) {
  if (!isWanted(suite.name)) continue;
  if (suite.engines) {
    enginesReady ??= run("node", ["test/e2e/install.mjs"]);
    if (!enginesReady) {
      count(
        false,
        `${suite.name}: container engines could not be installed; run as root on Debian or Ubuntu, or install what test/e2e/install.mjs lists`,
      );
      continue;
    }
  }
  const startedMs = Date.now();
  console.log(`\n== ${suite.name}`);
  const report = join(reports, `${suite.name}.json`);
  const ok = run("vitest", ["run", "--project", suite.name, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`]);
  const result = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : { numPassedTests: 0, numFailedTests: 0, numTotalTests: 0 };
  passed += result.numPassedTests;
  failed += result.numFailedTests;
  failures.push(...failuresIn(suite.name, result));
  const notRun = result.numTotalTests - result.numPassedTests - result.numFailedTests;
  if (notRun > 0) count(false, `${suite.name}: ${notRun} tests were not run`);
  if (result.numTotalTests === 0) count(false, `${suite.name}: no test was found`);
  else if (!ok && result.numFailedTests === 0) count(false, `${suite.name}: the suite failed outside its tests`);
  console.log(
    `== ${suite.name}: ${result.numPassedTests} passed, ${result.numFailedTests} failed, ${((Date.now() - startedMs) / 1000).toFixed(1)} s`,
  );
}
rmSync(reports, { recursive: true, force: true });

if (failures.length > 0) console.log(`\nfailed:\n${failures.map((failure) => `  ${failure}`).join("\n")}`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
