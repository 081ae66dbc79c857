/** The scripts of `berth completion` as a shell runs them, with the command itself behind them. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RunningServer, startServer } from "../../worker/node.ts";

const run = promisify(execFile);
const berth = fileURLToPath(new URL("../../cli/berth.mjs", import.meta.url));
const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
let dir: string;
let server: RunningServer;
let env: Record<string, string>;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-completion-"));
  server = await startServer({ dataDir: join(dir, "data"), host: "127.0.0.1", port: 0, log: silent });
  await mkdir(join(dir, "bin"));
  await writeFile(join(dir, "bin", "berth"), `#!/bin/sh\nexec '${process.execPath}' '${berth}' "$@"\n`, { mode: 0o755 });
  env = {
    PATH: `${join(dir, "bin")}:${process.env["PATH"] ?? ""}`,
    HOME: dir,
    BERTH_URL: server.url,
    BERTH_TOKEN: server.adminToken ?? "",
  };
  await writeFile(join(dir, "shop.yaml"), "name: shop\nservices: {web: {image: a}}\n");
  await run("berth", ["deploy", "-y", "--detach", join(dir, "shop.yaml")], { env, cwd: dir });
  await run("berth", ["registry", "login", "r.test:5000", "-u", "ada", "--password", "words"], { env, cwd: dir });
});
afterAll(async () => {
  await server.close();
  await rm(dir, { recursive: true, force: true });
});

/** What bash would offer at the end of `line`, by the function that it calls and the words that it makes of the line. */
async function bash(line: string, words: readonly string[]): Promise<string[]> {
  const script = `source <(berth completion bash)
COMP_LINE=$1 COMP_POINT=\${#1}; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$(complete -p berth | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = await run("bash", ["--norc", "-c", script, "bash", line, ...words], { env, cwd: dir });
  expect(stderr).toBe("");
  return stdout.split("\n").filter((name) => name !== "");
}

describe("bash", () => {
  test.each<[string, string[], string[]]>([
    ["berth de", ["berth", "de"], ["deploy"]],
    ["berth node cor", ["berth", "node", "cor"], ["cordon"]],
    ["berth ps ", ["berth", "ps", ""], ["shop"]],
    ["berth -n default ps sh", ["berth", "-n", "default", "ps", "sh"], ["shop"]],
    ["berth logs shop ", ["berth", "logs", "shop", ""], ["web"]],
    ["berth ps -o ", ["berth", "ps", "-o", ""], ["table", "json", "yaml"]],
    ["berth deploy --proj", ["berth", "deploy", "--proj"], ["--project-name", "--project-directory"]],
    // Words end at "=" and ":", and only what follows is replaced.
    ["berth scale shop/web=", ["berth", "scale", "shop/web", "="], ["1"]],
    ["berth registry rm r.test:5", ["berth", "registry", "rm", "r.test", ":", "5"], ["5000"]],
    ["berth completion ", ["berth", "completion", ""], ["bash", "zsh", "fish"]],
    // Nothing of berth's: bash goes on with files.
    ["berth deploy comp", ["berth", "deploy", "comp"], []],
    ["berth nosuch x", ["berth", "nosuch", "x"], []],
  ])("%s", async (line, words, offered) => expect(await bash(line, words)).toEqual(offered));

  test("offers a name as it is, whatever a shell could make of it", async () => {
    await mkdir(join(dir, ".config", "berth"), { recursive: true });
    const context = { name: "$(touch ran)", url: "http://127.0.0.1:1", token: "x", root: null, spki: null };
    await writeFile(join(dir, ".config", "berth", "contexts.json"), JSON.stringify({ current: null, contexts: [context] }), {
      mode: 0o600,
    });
    const offered = await bash("berth context use ", ["berth", "context", "use", ""]);
    await expect(run("ls", [join(dir, "ran")])).rejects.toThrow();
    expect(offered).toEqual(["$(touch ran)"]);
  });

  test("is silent when the cluster cannot be asked", async () => {
    const before = env;
    env = { ...env, BERTH_URL: "http://127.0.0.1:1" };
    expect(await bash("berth ps ", ["berth", "ps", ""])).toEqual([]);
    env = before;
  });
});
