import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JOIN_SCRIPT, joinCommand } from "../../../worker/join-script.ts";

const token = (value: object) => `berth_join_${Buffer.from(JSON.stringify(value)).toString("base64url")}`;
const run = (...args: readonly string[]) => spawnSync("sh", ["-s", "--", ...args], { encoding: "utf8", input: JOIN_SCRIPT });

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "berth-join-"));
});
afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

/** A program that stands before the real ones in PATH. */
function program(name: string, text: string): void {
  mkdirSync(join(dir, "bin"), { recursive: true });
  writeFileSync(join(dir, "bin", name), `#!/bin/sh\n${text}\n`);
  chmodSync(join(dir, "bin", name), 0o755);
}
/** What the script asks of curl at an engine's socket, where the tests' machine has none. */
function curlOfNode(): void {
  const text = `const [socketPath, url] = [process.argv[process.argv.indexOf("--unix-socket") + 1], process.argv.at(-1)];
require("node:http").get({ socketPath, path: new URL(url).pathname }, (answer) => answer.pipe(process.stdout)).on("error", () => process.exit(7));`;
  writeFileSync(join(dir, "curl.cjs"), text);
  program("curl", `exec ${process.execPath} ${join(dir, "curl.cjs")} "$@"`);
}
const PATH = () => `${join(dir, "bin")}:${process.env.PATH}`;

describe("the line", () => {
  test("pins our own certificate and trusts the machine's authorities otherwise", () => {
    expect(joinCommand({ url: "https://10.0.0.1:7443", spki: "a-b_c" }, "T")).toBe(
      "(curl -fsSL -k --pinnedpubkey 'sha256//a+b/c=' https://10.0.0.1:7443/join.sh || echo exit 1) | sh -s -- T",
    );
    expect(joinCommand({ url: "https://berth.example.com", spki: null }, "T")).toBe(
      "(curl -fsSL https://berth.example.com/join.sh || echo exit 1) | sh -s -- T",
    );
  });

  const line = joinCommand({ url: "https://berth.example.com", spki: null }, "T");
  const paste = (shell: string) => spawnSync(shell, ["-c", line], { encoding: "utf8", env: { PATH: PATH() } });

  test.each(["sh", "bash"])("fails in %s when curl does, with nothing or with a part of the script", (shell) => {
    program("curl", "exit 90");
    expect(paste(shell).status).not.toBe(0);
    writeFileSync(join(dir, "part"), JOIN_SCRIPT.slice(0, JOIN_SCRIPT.length / 2));
    program("curl", `cat ${join(dir, "part")}; exit 18`);
    expect(paste(shell).status).not.toBe(0);
  });

  test.each([0, 3])("ends as the script ends: %i", (status) => {
    program("curl", `echo 'exit ${status}'`);
    expect(paste("sh").status).toBe(status);
  });

  test("gives the script its token as a word, and the script hands it on where other users cannot read it", () => {
    program("curl", `echo 'printf "%s " "$@"'`);
    expect(paste("sh").stdout).toBe("T ");
    expect(JOIN_SCRIPT).toMatch(/^ {2}BERTH_JOIN_TOKEN=\$token "\$dir\/node"/m);
    expect(JOIN_SCRIPT).not.toMatch(/join "\$token"/);
  });
});

test("what is not a token is refused before anything is touched", () => {
  for (const [given, says] of [
    [[], "there is no join token"],
    [["nonsense"], "unknown argument nonsense"],
    [["berth_join_!!!!"], "damaged"],
    [[token({ v: 1 })], "names no control plane"],
    [[token({ url: "https://127.0.0.1:1" }), "--frobnicate"], "unknown argument --frobnicate"],
  ] as const) {
    const { status, stderr } = run(...given);
    expect([given, status, stderr.includes(says)]).toEqual([given, 1, true]);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  }
});

test("a script that was cut off at any line runs nothing", () => {
  const lines = JOIN_SCRIPT.split("\n");
  for (const count of [10, 30, 60, 90, lines.length - 3]) {
    const { stdout } = spawnSync("sh", ["-s", "--", "nonsense"], { input: lines.slice(0, count).join("\n"), encoding: "utf8" });
    expect(stdout).toBe("");
  }
});

/** Its functions, with a body of the test's own in place of the call of `main`. */
const withMain = (body: string): string => JOIN_SCRIPT.replace(/\nmain "\$@"\n$/, `\n${body}\n`);

describe("the engine", () => {
  const check = async (version: object, info: object, dockerHost?: string) => {
    const socket = join(dir, "engine.sock");
    const server = createServer((request, response) => {
      if (request.url === "/_ping") response.end("OK");
      else response.end(JSON.stringify(request.url === "/version" ? version : info));
    });
    await new Promise<void>((done) => server.listen(socket, done));
    curlOfNode();
    const child = spawn("sh", ["-c", withMain("check_engine")], {
      env: { PATH: PATH(), DOCKER_HOST: dockerHost ?? `unix://${socket}` },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const status = await new Promise((done) => child.on("close", done));
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    return { status, said };
  };
  const docker = { Version: "20.10.24", ApiVersion: "1.41", MinAPIVersion: "1.12" };
  const rootful = { SecurityOptions: ["name=seccomp,profile=default"] };

  test("that the agent will use is the one that is looked at, before anything is fetched", async () => {
    expect(await check(docker, rootful)).toEqual({ status: 0, said: "" });
  });

  test.each<[string, object, object, string | undefined, string]>([
    ["too old", { ...docker, ApiVersion: "1.40" }, rootful, undefined, "1.41"],
    ["rootless", docker, { SecurityOptions: ["name=rootless"] }, undefined, "rootless"],
    ["Podman", { ...docker, Components: [{ Name: "Podman Engine" }] }, rootful, undefined, "Podman"],
    ["nowhere", docker, rootful, "unix:///nowhere/docker.sock", "/nowhere/docker.sock"],
    ["on another machine", docker, rootful, "tcp://10.0.0.1:2375", "local socket"],
  ])("is refused in one sentence when it is %s", async (_, version, info, dockerHost, says) => {
    const { status, said } = await check(version, info, dockerHost);
    expect([status, said.includes(says), said.trim().split("\n").length]).toEqual([1, true, 1]);
  });

  test("that systemd cannot start is said in one sentence", () => {
    program("systemctl", "echo 'Job for docker.service failed.' >&2; exit 1");
    program("dockerd", "exit 1");
    const body = `socket=${join(dir, "none.sock")}; init=${dir}; install_engine`;
    const { status, stderr } = spawnSync("sh", ["-c", withMain(body)], { encoding: "utf8", env: { PATH: PATH() } });
    expect([status, stderr.trim().split("\n").length]).toEqual([1, 1]);
    expect(stderr).toContain("systemd could not start");
  });
});

describe("the agent and its Node", () => {
  const lib = () => join(dir, "lib");
  /** What the control plane serves, through a curl that copies. */
  function serve(files: Readonly<Record<string, string>>): void {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(dir, "dist"), { recursive: true });
      writeFileSync(join(dir, "dist", name), text);
      writeFileSync(join(dir, "dist", `${name}.sha256`), `${createHash("sha256").update(text).digest("hex")}  ${name}\n`);
    }
    program(
      "curl",
      `while [ $# -gt 0 ]; do case $1 in -o) out=$2; shift ;; http*) url=$1 ;; esac; shift; done; cp ${dir}/dist/"\${url##*/}" "$out"`,
    );
  }
  const install = (more = "") =>
    spawnSync("sh", ["-c", withMain(`lib=${lib()}; url=https://cp; spki=; arch=x64; ${more} install_agent; sweep_versions`)], {
      encoding: "utf8",
      env: { PATH: PATH() },
    });
  const current = (name: string) => readFileSync(join(lib(), "current", name), "utf8");

  test("are replaced together, by one rename, and what is old goes", () => {
    serve({ "agent.mjs": "agent 1", "node-linux-x64": "node 1" });
    const first = install();
    expect([first.status, first.stderr]).toEqual([0, ""]);
    expect(first.stdout).toBe("berth: fetching agent.mjs\nberth: fetching node-linux-x64\n");
    expect([current("agent.mjs"), current("node")]).toEqual(["agent 1", "node 1"]);
    expect(spawnSync("test", ["-x", join(lib(), "current/node")]).status).toBe(0);
    const before = readlinkSync(join(lib(), "current"));

    expect(install().stdout).toBe("");

    serve({ "agent.mjs": "agent 2" });
    expect(install().stdout).toBe("berth: fetching agent.mjs\n");
    expect([current("agent.mjs"), current("node")]).toEqual(["agent 2", "node 1"]);
    expect(readlinkSync(join(lib(), "current"))).not.toBe(before);
    expect(readdirSync(lib()).sort()).toEqual([readlinkSync(join(lib(), "current")), "current"].sort());
  });

  test("stay as they were when one of the two does not arrive whole", () => {
    serve({ "agent.mjs": "agent 1", "node-linux-x64": "node 1" });
    install();
    serve({ "agent.mjs": "agent 2", "node-linux-x64": "node 2" });
    writeFileSync(join(dir, "dist", "node-linux-x64"), "half of no");
    const { status, stderr } = install();
    expect([status, stderr]).toEqual([1, "berth: node-linux-x64 arrived damaged; run the line again\n"]);
    expect([current("agent.mjs"), current("node")]).toEqual(["agent 1", "node 1"]);
    expect(existsSync(join(lib(), "current"))).toBe(true);
  });

  test("that are damaged on the disk are fetched again", () => {
    serve({ "agent.mjs": "agent 1", "node-linux-x64": "node 1" });
    install();
    writeFileSync(join(lib(), "current", "agent.mjs"), "rotten");
    expect(install().stdout).toBe("berth: fetching agent.mjs\n");
    expect(current("agent.mjs")).toBe("agent 1");
  });
});
