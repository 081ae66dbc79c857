import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { execute } from "./command.ts";
import { createDefaultLab } from "./default-lab.ts";
import type { Host } from "./host.ts";
import { identify, isAlive } from "./identity.ts";
import { GATEWAY_NAME, Lab } from "./lab.ts";
import { sweepLab } from "./record.ts";
import type { ImageReference, Registry } from "./registry.ts";
import type { Router } from "./router.ts";
import { until } from "./until.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const LOGIN = { user: "ada", password: "correct horse" };

let lab: Lab;
let router: Router;
let h1: Host;
let h2: Host;
let h3: Host;
let open: Registry;
let closed: Registry;
let web: ImageReference;
let secret: ImageReference;
/** Stands where the control plane will: it answers with the address it was called from. */
let control: Server;
let controlUrl: string;

beforeAll(async () => {
  ({ lab, router, h1, h2, h3, registry: open } = await createDefaultLab({ name: "hosts" }));
  closed = await lab.registry({ auth: LOGIN });
  [web, secret, control] = await Promise.all([
    lab.image("web:1"),
    lab.image("team/secret:1", { files: { "/www/index.html": "for members\n" } }, closed),
    listen(lab.gatewayIp),
  ]);
  const address = control.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port.");
  controlUrl = `http://${lab.gatewayIp}:${address.port}/`;
});

afterAll(async () => {
  control?.close();
  await lab?.close();
});

describe("the network", () => {
  test("every host reaches the control plane's address, the one behind NAT by its router's", async () => {
    const seen = await Promise.all([h1, h2, h3].map((host) => host.run(["curl", "-sS", controlUrl])));
    expect(seen).toEqual([h1.address, h2.address, router.address]);
    expect(await h3.run(["curl", "-sS", controlUrl.replace(lab.gatewayIp, GATEWAY_NAME)])).toBe(router.address);
  });

  test("hosts of the bridge reach each other, nobody reaches the one behind NAT", async () => {
    const servers = await Promise.all([h1, h3].map((host) => host.spawn(["busybox", "httpd", "-f", "-p", "8088", "-h", "/etc"])));
    await Promise.all([h1, h3].map((host) => until("httpd", () => fetches(host, "http://127.0.0.1:8088/hostname"))));
    expect(await fetches(h2, `http://${h1.address}:8088/hostname`)).toBe(true);
    expect(await fetches(h3, `http://${h1.address}:8088/hostname`)).toBe(true);
    await h2.run(["ip", "route", "add", `${h3.address}/32`, "via", router.address]);
    expect(await fetches(h2, `http://${h3.address}:8088/hostname`)).toBe(false);
    await Promise.all(servers.map((server) => server.stop()));
  });

  test("a host that is cut off reaches nothing until it is reconnected", async () => {
    await h1.cutOff();
    expect(await fetches(h1, controlUrl)).toBe(false);
    expect(await h1.run(["cat", "/sys/class/net/eth0/carrier"])).toBe("0\n");
    expect(await fetches(h2, controlUrl)).toBe(true);
    await h1.reconnect();
    await until("h1 to be back", () => fetches(h1, controlUrl));
  });

  test("a router that is cut off takes its site with it", async () => {
    await router.cutOff();
    expect(await fetches(h3, controlUrl)).toBe(false);
    await router.reconnect();
    await until("h3 to be back", () => fetches(h3, controlUrl));
  });
});

describe("images", () => {
  test("every engine pulls from the open registry, by tag and by digest", async () => {
    await Promise.all([h1, h2, h3].map((host) => host.engine.client.pull(web.tag)));
    await h1.engine.client.pull(web.pinned);
    expect(web.pinned.startsWith(`${open.address}/`)).toBe(true);
  });

  test("the closed registry wants its login", async () => {
    await expect(h1.engine.client.pull(secret.tag)).rejects.toThrow("no basic auth credentials");
    // In the registry's words, so the engine sent it; of three lengths, since it takes a login with broken padding for none.
    for (const password of ["wrong", "wrong1", "wrong12"])
      await expect(h1.engine.client.pull(secret.tag, { ...LOGIN, password })).rejects.toThrow("unauthorized");
    await h1.engine.client.pull(secret.tag, LOGIN);
    await h1.engine.client.runContainer("secret", { Image: secret.tag });
    expect(await h1.run(["curl", "-sS", `${await containerUrl(h1, "secret")}`])).toBe("for members\n");
    await h1.engine.client.removeContainer("secret");
  });

  test("a registry that stops serves the same images when it starts again", async () => {
    await open.stop();
    await expect(h2.engine.client.pull(web.pinned)).rejects.toThrow(/refused/);
    await open.start();
    await h2.engine.client.pull(web.pinned);
  });
});

describe("engines", () => {
  test("a restart stops containers; those with a policy start again", async () => {
    const { client } = h1.engine;
    await client.runContainer("plain", { Image: web.tag });
    await client.runContainer("kept", { Image: web.tag, HostConfig: { RestartPolicy: { Name: "always" } } });
    await h1.engine.restart();
    await until("the kept container to run", async () => (await client.inspect("kept")).State.Running);
    expect((await client.inspect("plain")).State).toMatchObject({ Running: false, ExitCode: 0 });
    const all = (await h1.docker(["ps", "-a", "--format", "{{.Names}}"])).stdout.trim().split("\n");
    expect(all.sort()).toEqual(["kept", "plain"]);
    await client.removeContainer("kept");
    await client.removeContainer("plain");
  });

  test("with live-restore a container outlives its engine's restart and its kill", async () => {
    const h4 = await lab.host("h4", { engine: { liveRestore: true } });
    const { engine } = h4;
    await engine.client.pull(web.tag);
    await engine.client.runContainer("lasting", { Image: web.tag });
    const before = await engine.client.inspect("lasting");
    const url = await containerUrl(h4, "lasting");
    await engine.restart();
    await engine.kill();
    expect(await fetches(h4, url)).toBe(true);
    await engine.start();
    const after = await engine.client.inspect("lasting");
    expect(after.State).toMatchObject({ Running: true, StartedAt: before.State.StartedAt, Pid: before.State.Pid });
    await h4.powerOff();
  });

  test("a frozen engine takes requests and answers none until it is thawed", async () => {
    h2.engine.freeze();
    const answer = h2.engine.client.ping();
    const probe = ["curl", "-sS", "-m", "0.3", "--unix-socket", "/var/run/docker.sock", "http://engine/_ping"];
    expect((await h2.exec(probe)).stderr).toMatch(/timed out/);
    h2.engine.thaw();
    expect(await answer).toBe(true);
  });
});

describe("processes", () => {
  test("commands see the host, a clean environment and their input", async () => {
    const result = await h1.exec(["sh", "-c", 'hostname; echo "$NAME-$VITEST"; pwd; cat; echo oops >&2; exit 3'], {
      input: "typed",
      env: { NAME: "value" },
      cwd: "/etc",
    });
    expect(result).toEqual({ code: 3, signal: null, stdout: "h1\nvalue-\n/etc\ntyped", stderr: "oops\n" });
    await expect(h1.run(["false"])).rejects.toThrow(/exited 1/);
    await expect(h1.exec(["sleep", "60"], { timeoutMs: 100 })).rejects.toThrow(/not ended after 100 ms/);
  });

  test("a spawned process writes its log, gets its signals and says how it ended", async () => {
    const script = 'trap "echo told; exit 7" TERM; echo up; while :; do read -r line < /run/never || sleep 0.02; done';
    const polite = await h1.spawn(["sh", "-c", script]);
    await polite.logs(/^up$/m);
    expect(polite.running).toBe(true);
    expect(await polite.stop("SIGTERM")).toEqual({ code: 7, signal: null });
    expect(await polite.log()).toContain("told");
    const killed = await h1.spawn(["sleep", "infinity"]);
    killed.kill("SIGKILL");
    expect(await killed.exited).toEqual({ code: null, signal: "SIGKILL" });
    await expect((await h1.spawn(["sh", "-c", "sleep 0.1; exit 1"])).logs(/never/)).rejects.toThrow(/ended without/);
  });

  test("a host's disk is its own", async () => {
    await h1.run(["sh", "-c", "mkdir -p /var/lib/berth && echo ledger > /var/lib/berth/ledger"]);
    expect((await h2.exec(["test", "-e", "/var/lib/berth/ledger"])).code).toBe(1);
    expect(existsSync("/var/lib/berth/ledger")).toBe(false);
    expect(await h1.run(["cat", "/etc/machine-id"])).not.toBe(await h2.run(["cat", "/etc/machine-id"]));
  });
});

describe("reboots", () => {
  test("a reboot ends everything, keeps the disk, and has a new boot id and clock", async () => {
    const { client } = h1.engine;
    await client.runContainer("web", { Image: web.tag });
    const agent = await h1.spawn(["sleep", "infinity"]);
    await h1.run(["sh", "-c", "echo kept > /var/lib/kept; echo lost > /run/lost"]);
    const before = await bootFacts(h1);
    const container = await realPid(h1, (await client.inspect("web")).State.Pid);
    expect(container).toBeDefined();

    await h1.reboot();

    expect(await agent.exited).toEqual({ code: null, signal: "SIGKILL" });
    expect(container === undefined || !isAlive(container)).toBe(true);
    const after = await bootFacts(h1);
    expect(after.bootId).toBe(`${h1.bootId}\n`);
    expect(after.bootId).not.toBe(before.bootId);
    expect(after.networkNamespace).not.toBe(before.networkNamespace);
    expect(after.mac).toBe(before.mac);
    expect(after.machineId).toBe(before.machineId);
    expect(after.uptimeSeconds).toBeLessThan(before.uptimeSeconds);
    expect(after.bootTimeNode).toBeLessThan(60);
    expect(await h1.run(["cat", "/var/lib/kept"])).toBe("kept\n");
    expect((await h1.exec(["test", "-e", "/run/lost"])).code).toBe(1);
    expect((await client.inspect("web")).State.Running).toBe(false);
    expect(await fetches(h1, controlUrl)).toBe(true);
    await client.removeContainer("web");
  });

  test("a reboot without the network has the engine up and the cable out", async () => {
    await h3.reboot({ network: false });
    expect(await h3.engine.client.ping()).toBe(true);
    expect(await fetches(h3, controlUrl)).toBe(false);
    await h3.reconnect();
    await until("h3 to be back", () => fetches(h3, controlUrl));
  });

  test("a host goes off with a frozen engine too, says so, and the others notice nothing", async () => {
    h2.engine.freeze();
    await h2.powerOff();
    expect(() => h2.exec(["true"])).toThrow(/h2 is powered off/);
    expect(await fetches(h1, controlUrl)).toBe(true);
    await h2.powerOn();
    expect(await h2.engine.client.ping()).toBe(true);
  });
});

describe("the bare root", () => {
  beforeAll(() => lab.bareRoot(), 600_000);

  test("has curl, the host's network, clock and engine, and nothing of the host's programs", async () => {
    expect((await h1.execBare(["curl", "-sS", controlUrl])).stdout).toBe(h1.address);
    const ping = ["curl", "-sS", "--unix-socket", "/var/run/docker.sock", "http://engine/_ping"];
    expect((await h1.execBare(ping)).stdout).toBe("OK");
    expect((await h1.execBare(["sh", "-c", "command -v docker node python3 wget"])).stdout).toBe("");
    expect((await h1.execBare(["cat", "/proc/sys/kernel/random/boot_id"])).stdout).toBe(`${h1.bootId}\n`);
  });

  test("shares the agent's directory with the host, keeps what is installed over a reboot", async () => {
    const install = "echo binary > /usr/local/bin/berth; echo ledger > /var/lib/berth/bare";
    expect((await h1.execBare(["sh", "-c", install])).code).toBe(0);
    const agent = await h1.spawnBare(["sleep", "infinity"]);
    expect(await h1.run(["cat", "/var/lib/berth/bare"])).toBe("ledger\n");
    expect((await h1.exec(["test", "-e", "/usr/local/bin/berth"])).code).toBe(1);
    await h1.reboot();
    expect(agent.running).toBe(false);
    expect((await h1.execBare(["cat", "/usr/local/bin/berth", "/var/lib/berth/bare"])).stdout).toBe("binary\nledger\n");
  });
});

describe("a run that was killed", () => {
  test("is swept: its processes, links, cgroups and files; a run that lives is not", async () => {
    const run = spawn(process.execPath, [join(import.meta.dirname, "crash.fixture.ts"), "crash"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = new Promise((resolve) => run.once("exit", resolve));
    const [line] = await run.stdout.setEncoding("utf8").take(1).toArray();
    const { bridge, dir, pids } = JSON.parse(line) as { bridge: string; dir: string; pids: number[] };
    await expect(sweepLab("crash")).rejects.toThrow(/in use by process/);
    run.kill("SIGKILL");
    await ended;
    const left = pids.map((pid) => identify(pid));
    expect(left.every((process) => process !== undefined)).toBe(true);
    expect(await leftovers(bridge, dir)).toEqual({ links: true, rules: true, cgroups: true, files: true });

    expect(await sweepLab("crash")).toBe(true);

    await until("the processes to end", () => !left.some((process) => process !== undefined && isAlive(process)));
    expect(await leftovers(bridge, dir)).toEqual({ links: false, rules: false, cgroups: false, files: false });
    expect(await sweepLab("crash")).toBe(false);
    expect(await h1.engine.client.ping()).toBe(true);
  });

  test("a second lab of a name in use is refused", async () => {
    await expect(Lab.create({ name: "hosts" })).rejects.toThrow(/in use by process/);
  });
});

async function listen(ip: string): Promise<Server> {
  const server = createServer((request, response) => response.end(request.socket.remoteAddress));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, ip, resolve);
  });
  return server;
}

async function fetches(host: Host, url: string): Promise<boolean> {
  return (await host.exec(["curl", "-sf", "-m", "1", url])).code === 0;
}

async function containerUrl(host: Host, name: string): Promise<string> {
  const url = `http://${(await host.engine.client.inspect(name)).NetworkSettings.IPAddress}:8080/`;
  await until(`${name} to serve`, () => fetches(host, url));
  return url;
}

async function bootFacts(host: Host) {
  const clock = 'process.stdout.write(String(require("node:os").uptime()))';
  return {
    bootId: await host.run(["cat", "/proc/sys/kernel/random/boot_id"]),
    uptimeSeconds: await host.uptimeSeconds(),
    bootTimeNode: Number(await host.run([process.execPath, "-e", clock])),
    networkNamespace: await host.run(["readlink", "/proc/self/ns/net"]),
    mac: await host.run(["cat", "/sys/class/net/eth0/address"]),
    machineId: await host.run(["cat", "/etc/machine-id"]),
  };
}

/** The real machine's identity of a process that the host knows as `pid`. */
async function realPid(host: Host, pid: number) {
  const namespace = await host.run(["readlink", `/proc/${pid}/ns/mnt`]);
  const found = await execute(["sh", "-c", 'for p in /proc/[0-9]*; do echo "$p $(readlink $p/ns/mnt)"; done']);
  const line = found.stdout.split("\n").find((each) => each.endsWith(namespace.trim()));
  return identify(Number(line?.split(" ")[0]?.slice("/proc/".length)));
}

async function leftovers(bridge: string, dir: string) {
  const [links, rules, cgroups] = await Promise.all([
    execute(["ip", "-br", "link"]),
    execute(["iptables", "-w", "-S", "FORWARD"]),
    execute(["find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", "berth-lab-crash"]),
  ]);
  return {
    links: links.stdout.includes(bridge),
    rules: rules.stdout.includes(bridge),
    cgroups: cgroups.stdout !== "",
    files: existsSync(dir),
  };
}
