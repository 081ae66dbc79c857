// `npm start`: everything from a fresh clone to a working cluster. This file needs nothing but Node 20; it fetches the
// packages, makes sure of a container engine meanwhile, and goes on in `berth up` under the locked Node.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL(".", import.meta.url));
const startedMs = Date.now();
const NODE_MAJOR_MIN = 20;
const isTty = process.stdout.isTTY === true && process.env.TERM !== "dumb";
const seconds = (sinceMs) => `${((Date.now() - sinceMs) / 1000).toFixed(1)} s`;

function fail(sentence, details = []) {
  clearStatus();
  console.error(sentence);
  for (const detail of details) console.error(`  | ${detail}`);
  process.exit(1);
}

/** One line at the bottom that is drawn again in place. */
let status = "";
function drawStatus(text) {
  if (!isTty || text === status) return;
  status = text;
  process.stdout.write(`\r\x1b[2K${text.slice(0, (process.stdout.columns ?? 80) - 1)}`);
}
function clearStatus() {
  if (status !== "") process.stdout.write("\r\x1b[2K");
  status = "";
}
function say(line) {
  clearStatus();
  console.log(line);
}

const major = Number(process.versions.node.split(".")[0]);
if (major < NODE_MAJOR_MIN)
  fail(
    `berth's bootstrap needs Node ${NODE_MAJOR_MIN} or newer, and this is Node ${process.versions.node}: install a newer Node (https://nodejs.org), then npm start.`,
  );
if (process.platform !== "linux")
  fail(
    `berth runs containers on Linux, and this is ${{ darwin: "macOS", win32: "Windows" }[process.platform] ?? process.platform}: run it in a Linux virtual machine (on Windows, WSL 2).`,
  );
if (process.arch !== "x64" && process.arch !== "arm64") fail(`berth runs on x64 and arm64, and this machine is ${process.arch}.`);

const lockText = readFileSync(join(root, "package-lock.json"));
/** What stands in node_modules: written after each install. The platform is in it, for directories that move. */
const stamp = `${createHash("sha256").update(lockText).digest("hex")} ${process.platform}-${process.arch}\n`;
const stampPath = join(root, "node_modules", ".berth-lock");
const lockedNode = join(root, "node_modules", `node-linux-${process.arch}`, "bin", "node");

const isCurrent = () => existsSync(lockedNode) && (readText(stampPath) === stamp || matchesLock());

function readText(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** True when somebody's own `npm ci` made exactly what the lockfile says: npm keeps a lockfile of what it installed. */
function matchesLock() {
  try {
    const installed = JSON.parse(readText(join(root, "node_modules", ".package-lock.json"))).packages;
    const wanted = Object.entries(JSON.parse(lockText).packages).filter(([path]) => path !== "");
    return wanted.every(
      ([path, entry]) => installed[path]?.version === entry.version || (installed[path] === undefined && entry.optional === true),
    );
  } catch {
    return false;
  }
}

const run = { child: null };
// Ctrl-C reaches npm or berth by itself; this process waits for what they make of it.
process.on("SIGINT", () => {
  if (run.child === null) process.exit(130);
});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => (run.child === null ? process.exit(1) : run.child.kill(signal)));

function installPackages() {
  const beganMs = Date.now();
  const folders = Object.keys(JSON.parse(lockText).packages).filter((path) => path !== "");
  // npm says where it is itself when it runs this script; else the one on the PATH.
  const npm = process.env.npm_execpath?.endsWith(".js") ? [process.execPath, process.env.npm_execpath] : ["npm"];
  const [command, ...before] = npm;
  if (!isTty) console.log("Installing packages (npm ci)");
  return new Promise((resolve) => {
    // Errors only: the lockfile's engines ask for the locked Node, and npm would warn of the one that runs now.
    const child = spawn(command, [...before, "ci", "--no-audit", "--no-fund", "--loglevel=error", "--no-progress"], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
    });
    run.child = child;
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (output = (output + text).slice(-16_384)));
    const progress = setInterval(() => {
      const there = folders.filter((path) => existsSync(join(root, path))).length;
      drawStatus(
        `Installing packages  ${there} of ${folders.length}  ${seconds(beganMs)}${engine.status === "" ? "" : `   ${engine.status}`}`,
      );
    }, 250);
    child.on("error", (error) =>
      fail(
        error.code === "ENOENT"
          ? "npm is not on the PATH: install npm (it comes with Node, https://nodejs.org), then npm start."
          : `npm cannot be run: ${error.message}`,
      ),
    );
    child.on("close", (code, signal) => {
      clearInterval(progress);
      run.child = null;
      if (signal === "SIGINT" || code === 130) process.exit(130);
      const tail = output
        .split("\n")
        .filter((line) => line.trim() !== "")
        .slice(-12);
      if (code !== 0) fail("npm ci failed: mend what it says, then npm start again.", tail);
      if (!existsSync(lockedNode))
        fail(`npm ci did not bring node-linux-${process.arch}: install without --omit=optional, then npm start again.`, tail);
      writeFileSync(stampPath, stamp);
      say(`Packages installed  ${seconds(beganMs)}`);
      resolve();
    });
  });
}

/** The engine is seen to while the packages are fetched: neither waits for the other. */
const engine = { status: "" };
async function seeToEngine() {
  const { ensureEngine, EngineProblem } = await import("./cli/up/engine.mjs");
  const beganMs = Date.now();
  const tick = setInterval(() => (engine.status = Date.now() - beganMs < 1000 ? "" : `container engine  ${seconds(beganMs)}`), 250);
  try {
    let told = false;
    const { version } = await ensureEngine({
      dataDir: join(root, ".berth"),
      env: process.env,
      say: (line) => {
        told = true;
        say(line);
      },
    });
    if (told) say(`Docker Engine ${version} answers  ${seconds(beganMs)}`);
  } catch (error) {
    if (!(error instanceof EngineProblem)) throw error;
    if (run.child !== null) run.child.kill();
    fail(error.message, error.details);
  } finally {
    clearInterval(tick);
    engine.status = "";
  }
}

const wantsHelp = process.argv.slice(2).some((argument) => argument === "--help" || argument === "-h");
if (process.argv.includes("--down") && !existsSync(join(root, ".berth"))) {
  console.log("Nothing to remove: no cluster was made here.");
  process.exit(0);
}
if (!isCurrent()) await Promise.all([installPackages(), wantsHelp ? undefined : seeToEngine()]);
clearStatus();

const child = spawn(lockedNode, [join(root, "cli", "berth.mjs"), "up", ...process.argv.slice(2)], {
  stdio: "inherit",
  cwd: root,
  env: { ...process.env, BERTH_START_MS: String(startedMs) },
});
run.child = child;
child.on("error", (error) => fail(`the locked Node cannot be run (${error.message}): delete node_modules, then npm start again.`));
child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
