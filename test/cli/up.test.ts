import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { extract } from "tar-stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { down } from "../../cli/up/down.ts";
import { EngineApi } from "../../cli/up/engine-api.ts";
import { ensureEngine, ownEngine, probeEngine, socketOf, stopOwnEngine } from "../../cli/up/engine.mjs";
import { ensureHelloImage, librariesOf, noteHelloImage, removeHelloImages } from "../../cli/up/hello-image.ts";
import { volumesOf } from "../../cli/up/volumes.ts";
import { openLogFile } from "../../cli/up/log-file.ts";
import { hold, holderOf, isPortTaken, listenerOn, release } from "../../cli/up/lock.ts";

import { shellOf } from "./terminal.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
let dir: string;
const servers: Server[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-up-"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
  await rm(dir, { recursive: true, force: true });
});

async function engineAt(name: string, listener: RequestListener): Promise<string> {
  const socket = join(dir, name);
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((done) => server.listen(socket, done));
  return socket;
}

const docker =
  (options: { podman?: boolean; rootless?: boolean; apiVersion?: string }): RequestListener =>
  (request, response) => {
    if (options.podman === true) response.setHeader("libpod-api-version", "4.3.1");
    if (request.url === "/_ping") response.end("OK");
    else
      response.end(
        JSON.stringify({
          Version: "20.10.24",
          ApiVersion: options.apiVersion ?? "1.41",
          Components: [{ Name: "Engine" }, ...(options.rootless === true ? [{ Name: "rootlesskit" }] : [])],
        }),
      );
  };

describe("an engine is what answers on its socket", () => {
  test("Docker", async () =>
    expect(await probeEngine(await engineAt("docker.sock", docker({})))).toEqual({ kind: "answers", version: "20.10.24" }));
  test("nothing there", async () => expect(await probeEngine(join(dir, "none.sock"))).toEqual({ kind: "silent" }));
  test("a socket that nobody listens on", async () => {
    const path = join(dir, "dead.sock");
    spawnSync(process.execPath, [
      "-e",
      `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`,
    ]);
    expect(existsSync(path)).toBe(true);
    expect(await probeEngine(path)).toEqual({ kind: "silent" });
  });

  test.each([
    ["Podman", { podman: true }, /Podman answers on/],
    ["a rootless Docker", { rootless: true }, /rootless Docker/],
    ["an engine before API 1.41", { apiVersion: "1.40" }, /needs its API 1\.41 or newer: upgrade it/],
  ])("%s is told apart, in a sentence", async (_name, options, sentence) => {
    const socket = await engineAt("other.sock", docker(options));
    const told = await ensureEngine({ dataDir: dir, env: { DOCKER_HOST: `unix://${socket}` }, say: () => undefined }).catch(
      (error: Error) => error.message,
    );
    expect(told).toMatch(sentence);
  });

  test("DOCKER_HOST that names no socket, or one where nothing answers", async () => {
    expect(() => socketOf({ DOCKER_HOST: "tcp://10.0.0.1:2375" })).toThrow(/unset DOCKER_HOST/);
    expect(socketOf({})).toBe("/var/run/docker.sock");
    await expect(
      ensureEngine({ dataDir: dir, env: { DOCKER_HOST: `unix://${join(dir, "none.sock")}` }, say: () => undefined }),
    ).rejects.toThrow(/Nothing answers on .*none\.sock, which DOCKER_HOST names/);
  });

  test("an engine that was started from here is known by more than its pid, and ended on request", async () => {
    const child = spawn("sleep", ["60"], { stdio: "ignore" });
    const { readFileSync } = await import("node:fs");
    const stat = readFileSync(`/proc/${child.pid}/stat`, "utf8");
    const started = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    const record = (startedAt: string | undefined) =>
      writeFile(join(dir, "engine.json"), JSON.stringify({ pid: child.pid, started: startedAt, socket: "/run/x.sock" }));
    await record("1");
    expect(ownEngine(dir)).toBeNull();
    expect(await stopOwnEngine(dir)).toBe(false);
    await record(started);
    expect(ownEngine(dir)).toMatchObject({ pid: child.pid, socket: "/run/x.sock" });
    expect(await stopOwnEngine(dir)).toBe(true);
    expect(ownEngine(dir)).toBeNull();
  });
});

describe("the example's image", () => {
  test("holds Node, the libraries it is linked to, and the example, and is made once", async () => {
    const files = new Map<string, number>();
    let asked = "";
    const images = new Set<string>();
    const socket = await engineAt("docker.sock", (request, response) => {
      if (request.method === "GET") {
        const isThere = images.has(request.url ?? "");
        response.writeHead(isThere ? 200 : 404).end("{}");
        return;
      }
      asked = request.url ?? "";
      const tag = /&tag=([0-9a-f]{12})&/.exec(asked)?.[1] ?? "";
      const tar = extract();
      tar.on("entry", (header, stream, next) => {
        files.set(header.name, header.size ?? 0);
        stream.on("end", next).resume();
      });
      tar.on("finish", () => {
        images.add(`/v1.41/images/berth-hello:${tag}/json`);
        response.end('{"status":"sha256:1"}\n');
      });
      request.pipe(tar);
    });
    const engine = new EngineApi(socket);
    let made = 0;
    const ensure = () => ensureHelloImage(engine, join(root, "examples", "hello"), async () => void made++);
    const reference = await ensure();
    expect(reference).toMatch(/^berth-hello:[0-9a-f]{12}$/);
    expect(await ensure()).toBe(reference);
    expect(made).toBe(1);
    expect(files.get("node")).toBeGreaterThan(50_000_000);
    for (const name of ["server.mjs", "health.mjs", "tmp", "etc/passwd"]) expect([...files.keys()]).toContain(name);
    for (const library of await librariesOf(process.execPath)) expect([...files.keys()]).toContain(library.slice(1));
    expect(decodeURIComponent(asked)).toContain('changes=ENTRYPOINT ["/node"]');
    expect(decodeURIComponent(asked)).toContain("changes=USER 65534:65534");
  });

  test("libraries are those that the loader finds, the loader among them", async () => {
    const libraries = await librariesOf(process.execPath);
    expect(libraries.some((path) => path.endsWith("libc.so.6"))).toBe(true);
    expect(libraries.some((path) => /\/ld-linux/.test(path))).toBe(true);
    for (const path of libraries) expect(existsSync(path), path).toBe(true);
  });

  test("an engine that refuses it is quoted", async () => {
    const socket = await engineAt("docker.sock", (request, response) => {
      request.resume();
      if (request.method === "GET") response.writeHead(404).end("{}");
      else request.on("end", () => response.end('{"error":"no space left on device"}\n'));
    });
    await expect(ensureHelloImage(new EngineApi(socket), join(root, "examples", "hello"), async () => undefined)).rejects.toThrow(
      /no space left on device/,
    );
  });
});

describe("what --down removes from an engine that others use too", () => {
  test("volumes that a node of this cluster made, and images that were made from here", async () => {
    const removed: string[] = [];
    const volume = (name: string, node: string | null) => ({
      Name: name,
      Labels: { "berth.app": "shop", ...(node === null ? {} : { "berth.node": node }) },
    });
    const socket = await engineAt("docker.sock", (request, response) => {
      if (request.method === "DELETE") removed.push(request.url ?? "");
      if (request.url?.startsWith("/v1.41/volumes?") !== true) return void response.end("{}");
      response.end(JSON.stringify({ Volumes: [volume("ours", "n_own"), volume("theirs", "n_other"), volume("bare", null)] }));
    });
    const engine = new EngineApi(socket);
    expect(await volumesOf(engine, ["n_own"])).toEqual(["ours"]);
    await noteHelloImage(dir, "berth-hello:aaaaaaaaaaaa");
    await noteHelloImage(dir, "berth-hello:bbbbbbbbbbbb");
    await noteHelloImage(dir, "berth-hello:aaaaaaaaaaaa");
    await removeHelloImages(engine, dir);
    expect(removed).toEqual(["/v1.41/images/berth-hello:aaaaaaaaaaaa", "/v1.41/images/berth-hello:bbbbbbbbbbbb"]);
  });

  test("nothing, when nothing was made from here", async () => {
    const removed: string[] = [];
    const socket = await engineAt("docker.sock", (request, response) => {
      removed.push(`${request.method} ${request.url}`);
      response.end("[]");
    });
    await removeHelloImages(new EngineApi(socket), dir);
    expect(removed).toEqual([]);
  });
});

describe("a log file", () => {
  test("keeps itself and one previous file within their bound, also over starts", async () => {
    const path = join(dir, "server.log");
    for (let start = 0; start < 3; start++) {
      const log = openLogFile(path, 1_000);
      for (let count = 0; count < 20; count++) log.info({ start, count }, "said");
      log.close();
    }
    const files = await Promise.all([path, `${path}.1`].map((file) => readFile(file, "utf8")));
    for (const text of files) expect(text.length).toBeLessThanOrEqual(1_000);
    const lines = files.toReversed().flatMap((text) =>
      text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line).count),
    );
    expect(lines.at(-1)).toBe(19);
    expect((await readdir(dir)).sort()).toEqual(["server.log", "server.log.1"]);
  });

  test("on a full disk throws nothing into whoever logs", async () => {
    const log = openLogFile("/dev/full");
    expect(() => log.error({}, "said")).not.toThrow();
    log.close();
  });
});

describe("one at a time", () => {
  test("a lock names its holder, and one of a process that is gone holds nothing", async () => {
    expect(await holderOf(dir)).toBeNull();
    await hold(dir, "http://127.0.0.1:1");
    // Our own is no other's.
    expect(await holderOf(dir)).toBeNull();
    await writeFile(join(dir, "up.json"), JSON.stringify({ pid: 1, started: "0", url: "x" }));
    expect(await holderOf(dir)).toBeNull();
    await release(dir);
    expect(existsSync(join(dir, "up.json"))).toBe(false);
  });

  test("a port that is taken names who has it", async () => {
    const server = createTcpServer();
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const at = server.address();
    const port = typeof at === "object" && at !== null ? at.port : 0;
    expect(await isPortTaken(port)).toBe(true);
    expect(listenerOn(port)).toContain(`(pid ${process.pid})`);
    await new Promise((done) => server.close(done));
    expect(await isPortTaken(port)).toBe(false);
    expect(listenerOn(port)).toBeNull();
  });
});

describe("the bootstrap, as far as it gets without packages", () => {
  const clone = async (): Promise<string> => {
    const to = join(dir, "clone");
    await mkdir(join(to, "cli", "up"), { recursive: true });
    for (const file of ["start.mjs", "package.json", "package-lock.json", "cli/up/engine.mjs"]) await cp(join(root, file), join(to, file));
    return to;
  };
  const start = (cwd: string, env: Record<string, string>, args: string[] = []) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ["start.mjs", ...args], {
      cwd,
      env: { HOME: dir, ...env },
      encoding: "utf8",
    });
    return { status, text: `${stdout}${stderr}` };
  };

  test("without npm it says so in one sentence", async () => {
    const socket = await engineAt("docker.sock", docker({}));
    const { status, text } = start(await clone(), { PATH: "/nowhere", DOCKER_HOST: `unix://${socket}` });
    expect(status).toBe(1);
    expect(text.trim().split("\n").at(-1)).toMatch(/^npm is not on the PATH: install npm/);
  });

  test("an npm ci that fails is quoted", async () => {
    const bin = join(dir, "bin");
    await mkdir(bin);
    await writeFile(join(bin, "npm"), "#!/bin/sh\necho 'npm error network down' >&2\nexit 7\n", { mode: 0o755 });
    const { status, text } = start(await clone(), {
      PATH: `${bin}:/usr/bin:/bin`,
      DOCKER_HOST: "unix:///nowhere/docker.sock.that.is.slow",
    });
    expect(status).toBe(1);
    expect(text).toMatch(/npm error network down|Nothing answers on/);
  });

  test.each(["berth.db", "keys", "agent"])("a cluster whose admin token is gone is not removed: %s stays", async (name) => {
    const dataDir = await mkdtemp(join(tmpdir(), "berth-down-"));
    await writeFile(join(dataDir, name), "precious");
    await expect(down(shellOf(), { dataDir, deleteData: true, port: 1 })).rejects.toThrow(/admin-token is missing, and a cluster is here/);
    expect(await readFile(join(dataDir, name), "utf8")).toBe("precious");
    await rm(dataDir, { recursive: true });
  });

  test("nothing to remove where nothing was made, and nothing is installed to find that out", async () => {
    const { status, text } = start(await clone(), { PATH: "/nowhere" }, ["--down"]);
    expect({ status, text: text.trim() }).toEqual({ status: 0, text: "Nothing to remove: no cluster was made here." });
  });

  test("Node 20 can read what runs before the packages are there", () => {
    const old = "/usr/bin/node";
    for (const file of ["start.mjs", "cli/berth.mjs", "cli/up/engine.mjs"]) {
      const checked = spawnSync(existsSync(old) ? old : process.execPath, ["--check", join(root, file)], { encoding: "utf8" });
      expect(checked.stderr, file).toBe("");
      expect(checked.status, file).toBe(0);
    }
  });
});

describe("the command starts under whatever Node there is", () => {
  test("and goes on under the locked one", () => {
    const nodes = [process.execPath, "/usr/bin/node"].filter((path) => existsSync(path));
    for (const node of nodes) {
      const ran = spawnSync(node, [join(root, "cli", "berth.mjs"), "--version"], { encoding: "utf8" });
      expect({ status: ran.status, text: ran.stdout.trim() }).toEqual({ status: 0, text: "0.1.0" });
    }
  });

  test("an exit code and a signal pass through", () => {
    for (const node of [process.execPath, "/usr/bin/node"].filter((path) => existsSync(path))) {
      const ran = spawnSync(node, [join(root, "cli", "berth.mjs"), "nosuch"], { encoding: "utf8" });
      expect({ status: ran.status, text: ran.stderr.split("\n")[0] }).toEqual({ status: 2, text: "berth: unknown command 'nosuch'" });
    }
  });
});
