#!/usr/bin/env node
// The `berth` command. Plain JavaScript, so that whatever Node a machine has can read it: the command itself is
// TypeScript and runs under the locked Node that `npm ci` put into node_modules.
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { fileURLToPath } from "node:url";

const main = new URL("./main.ts", import.meta.url);
const [major, minor] = process.versions.node.split(".").map(Number);
/** From here on Node runs TypeScript by itself, without a warning. */
const isNew = major > 24 || (major === 24 && minor >= 3);

if (isNew && process.features.typescript) {
  // Compiled code is kept between runs: a third of the start-up time.
  nodeModule.enableCompileCache?.();
  await import(main.href);
} else {
  const locked = lockedNode();
  if (locked === null) {
    console.error(
      `berth: needs Node 24, and this is Node ${process.versions.node}; run \`npm start\` (or \`npm ci\`) in berth's directory, which brings it.`,
    );
    process.exit(2);
  }
  const { spawn } = await import("node:child_process");
  const child = spawn(locked, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  // Ctrl-C reaches the child by itself; this process only waits for what it makes of it.
  process.on("SIGINT", () => {});
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
}

function lockedNode() {
  const require = nodeModule.createRequire(import.meta.url);
  try {
    const path = require.resolve(`node-linux-${process.arch}/bin/node`);
    return existsSync(path) ? path : null;
  } catch {
    return null;
  }
}
