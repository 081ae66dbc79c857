/** The agent against a real engine: what a manifest names runs, what it no longer names does not, and nothing else is touched. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openDocker } from "../../agent/engine/docker.ts";
import { type Engine, EngineError } from "../../agent/engine/engine.ts";
import { until } from "../e2e/hosts/until.ts";
import { newReplicaId } from "./control-plane.ts";
import { appOf, Ground } from "./ground.ts";

let ground: Ground;
let web: { tag: string; pinned: string; digest: string };

beforeAll(async () => {
  ground = await Ground.make("agentconv");
  web = await ground.registry.push("web:1");
});
afterAll(async () => {
  await ground?.close();
});
beforeEach(async () => {
  await ground.fresh();
});
afterEach(async () => {
  await ground.end();
});

const run = (...argv: string[]) => ({ entrypoint: ["/bin/sh", "-c", ...argv] });

describe("a replica", () => {
  test("runs, answers on the port that is reported, and is gone when it leaves the manifest", async () => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag, { ports: [{ target: 8080 }] }), service: "web" }]);
    const fact = await ground.control.untilState(replica, "running");
    expect(fact).toMatchObject({ reason: "", health: "none", restarts: 0, exitCode: null });
    const port = fact.ports.find(({ target, hostIp }) => target === 8080 && hostIp === "0.0.0.0")?.hostPort;
    const page = await until("the page", async () => (await fetch(`http://${ground.host.address}:${port}/`)).text());
    expect(page).toBe("web:1\n");

    ground.control.assign([]);
    await ground.control.untilState(replica, "stopped");
    expect(await ground.containers()).toEqual([]);
    await until("its network to go", async () => (await ground.host.docker(["network", "ls", "-q", "-f", "name=berth-"])).stdout === "");
  });

  test("carries the labels that make it known, a name that people can read, and the digest", async () => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web", image: { digest: web.digest, resolve: false } }]);
    await ground.control.untilState(replica, "running");
    const container = await ground.container(replica);
    expect(container.Name).toBe(`/berth-default-shop-web-0-${replica?.slice(2, 10)}`);
    expect(container.Config.Image).toBe(web.pinned);
    expect(container.Config.Labels).toMatchObject({
      "berth.replica": replica,
      "berth.app": "shop",
      "berth.service": "web",
      "berth.slot": "0",
    });
    expect(container.HostConfig.RestartPolicy).toMatchObject({ Name: "no" });
  });

  test("the tag is resolved and reported by the node that was asked to", async () => {
    await ground.start();
    ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    await until("the image's fact", () => ground.control.images.length > 0);
    expect(ground.control.images[0]).toMatchObject({ reference: web.tag, digest: web.digest, app: "shop", namespace: "default" });
  });

  test("services of an app find each other by name and alias, those of another app do not", async () => {
    await ground.start();
    const two = {
      ...appOf(web.tag),
      services: {
        web: { workload: { image: web.tag, stopGraceMs: 500 } },
        db: { workload: { image: web.tag, aliases: ["store"], stopGraceMs: 500 } },
      },
    };
    const [client, , other] = ground.control.assign([
      { app: two, service: "web" },
      { app: two, service: "db" },
      { app: appOf(web.tag, {}, { name: "elsewhere" }), service: "web" },
    ]);
    for (const replica of [client, other]) await ground.control.untilState(replica, "running");
    const inside = (await ground.container(client)).Id;
    for (const name of ["db", "store"]) {
      expect(await until(name, () => ground.exec(inside, ["wget", "-q", "-O", "-", `http://${name}:8080/`]))).toBe("web:1");
    }
    await expect(ground.exec((await ground.container(other)).Id, ["nslookup", "db"])).rejects.toThrow();
  });

  test("configs are files with their mode and owner, volumes outlive the replica", async () => {
    await ground.start();
    const workload = {
      mounts: [
        { kind: "config" as const, config: "conf", target: "/etc/app.conf", mode: 0o440, uid: 7, gid: 8 },
        { kind: "volume" as const, volume: "data", target: "/data" },
      ],
      ...run("cat /etc/app.conf >> /data/seen; exec sleep 1000"),
    };
    const app = appOf(web.tag, workload, { volumes: { data: { labels: { team: "shops" } } }, configs: { conf: { content: "first\n" } } });
    const [first] = ground.control.assign([{ app, service: "web" }]);
    await ground.control.untilState(first, "running");
    const id = (await ground.container(first)).Id;
    expect(await ground.exec(id, ["stat", "-c", "%a %u %g", "/etc/app.conf"])).toBe("440 7 8");
    await expect(ground.exec(id, ["sh", "-c", "echo x > /etc/app.conf"])).rejects.toThrow();
    await until("the volume to be reported", () => ground.control.volumes.includes("berth_default_shop_data"));
    const labels = await ground.host.docker(["volume", "inspect", "--format", "{{json .Labels}}", "berth_default_shop_data"]);
    expect(JSON.parse(labels.stdout)).toMatchObject({ team: "shops", "berth.app": "shop" });

    const [second] = ground.control.assign([{ app: { ...app, configs: { conf: { content: "second\n" } } }, service: "web" }]);
    await ground.control.untilState(second, "running");
    await ground.control.untilState(first, "stopped");
    expect(
      await until("both lines", async () => {
        const seen = await ground.exec((await ground.container(second)).Id, ["cat", "/data/seen"]);
        return seen.includes("second") ? seen : undefined;
      }),
    ).toBe("first\nsecond");

    ground.control.assign([], { dropVolumes: ["berth_default_shop_data"] });
    await until("the volume to go", () => !ground.control.volumes.includes("berth_default_shop_data"));
  });

  test("times without a check run the image's own at them", async () => {
    const checked = await ground.registry.push("checked:1", {
      healthcheck: { Test: ["CMD-SHELL", "test -x /bin/busybox"], Interval: 3_600_000_000_000 },
    });
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(checked.tag, { healthcheck: { test: [], intervalMs: 200 } }), service: "web" }]);
    await ground.control.until(replica, "healthy", ({ health }) => health === "healthy");
  });

  test("with a health check is healthy when the check says so", async () => {
    await ground.start();
    const healthcheck = { test: ["CMD-SHELL", "test -f /tmp/well"], intervalMs: 200, timeoutMs: 1_000, retries: 2 };
    const [replica] = ground.control.assign([{ app: appOf(web.tag, { healthcheck }), service: "web" }]);
    const starting = await ground.control.until(replica, "running", (fact) => fact.state === "running" && fact.containerId !== null);
    expect([starting.health, starting.readyForMs]).toEqual(["starting", null]);
    const id = (await ground.container(replica)).Id;
    await ground.control.until(replica, "unhealthy", (fact) => fact.health === "unhealthy");
    await ground.exec(id, ["touch", "/tmp/well"]);
    const well = await ground.control.until(replica, "healthy", (fact) => fact.health === "healthy");
    expect(well.readyForMs).not.toBeNull();
    expect(well).toMatchObject({ restarts: 0, containerId: id });
  });

  test("stops by its signal and is killed after its grace", async () => {
    await ground.start();
    const polite = run("trap 'echo bye; exit 0' USR1; while :; do sleep 0.1; done");
    const deaf = run("trap '' TERM; while :; do sleep 0.1; done");
    const app = {
      name: "shop",
      services: {
        polite: { workload: { image: web.tag, ...polite, stopSignal: "SIGUSR1", stopGraceMs: 20_000 } },
        deaf: { workload: { image: web.tag, ...deaf, stopGraceMs: 1_000 } },
      },
    };
    const [one, two] = ground.control.assign([
      { app, service: "polite" },
      { app, service: "deaf" },
    ]);
    for (const replica of [one, two]) await ground.control.untilState(replica, "running");
    ground.control.assign([]);
    expect((await ground.control.untilState(one, "stopped")).exitCode).toBe(0);
    expect((await ground.control.untilState(two, "stopped")).exitCode).toBe(137);
  });
});

describe("restarts", () => {
  test("a container that fails is started again after a wait, counted, with its last words", async () => {
    await ground.start();
    const app = appOf(web.tag, { ...run("echo first words; echo last words >&2; exit 3"), restart: { delayMs: 300 } });
    const [replica] = ground.control.assign([{ app, service: "web" }]);
    const fact = await ground.control.until(replica, "restarted twice", ({ restarts }) => restarts >= 2);
    expect(fact).toMatchObject({ state: "running", reason: "restarting", exitCode: 3, readyForMs: null });
    expect(fact.message).toMatch(/^ended with exit code 3; starts again in \d s$/);
    expect(new Set(fact.logTail)).toEqual(new Set(["first words", "last words"]));
    expect(await ground.containers()).toHaveLength(1);
  });

  test.each([
    ["completes", "exit 0", { condition: "no" }, { state: "completed", exitCode: 0 }],
    ["fails", "exit 9", { condition: "no" }, { state: "failed", reason: "exited", exitCode: 9 }],
    ["completes when it ends well", "exit 0", { condition: "on-failure" }, { state: "completed", exitCode: 0 }],
    [
      "uses up its restarts",
      "exit 4",
      { condition: "on-failure", attemptsMax: 2, delayMs: 100 },
      { state: "failed", reason: "restartsExhausted", restarts: 2 },
    ],
  ] as const)("a replica that runs once %s", async (_, script, restart, expected) => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag, { ...run(script), restart }), service: "web" }]);
    expect(await ground.untilEnded(replica)).toMatchObject(expected);
  });

  // Engine 20.10 says so only where it heard of the memory before it heard of the end: the container outlives what was killed in it.
  test("out of memory is said", async () => {
    await ground.start();
    const app = appOf(web.tag, {
      ...run("tail /dev/zero; sleep 1; exit 137"),
      limits: { memoryBytes: 16 * 1024 * 1024, memorySwapBytes: 16 * 1024 * 1024 },
      restart: { condition: "no" },
    });
    const [replica] = ground.control.assign([{ app, service: "web" }]);
    expect(await ground.untilEnded(replica)).toMatchObject({ state: "failed", reason: "outOfMemory", oomKilled: true });
  });

  test("a program that is not in the image fails with a sentence, and is tried again when it should always run", async () => {
    await ground.start();
    const wrong = { entrypoint: ["/no/such/program"] };
    const app = {
      name: "shop",
      services: {
        once: { workload: { image: web.tag, ...wrong, restart: { condition: "no" as const } } },
        always: { workload: { image: web.tag, ...wrong, restart: { delayMs: 100 } } },
      },
    };
    const [once, always] = ground.control.assign([
      { app, service: "once" },
      { app, service: "always" },
    ]);
    const fact = await ground.untilEnded(once);
    expect(fact).toMatchObject({ state: "failed", reason: "cannotRun" });
    expect(fact.message).toContain("/no/such/program");
    await ground.control.until(always, "tried again", ({ restarts }) => restarts >= 2);
  });
});

describe("people at the node", () => {
  test("a container that somebody paused is not ready and says why, until it goes on", async () => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    const { containerId } = await ground.control.until(replica, "ready", ({ readyForMs }) => readyForMs !== null);
    let unpausedMs = 0;
    await ground.host.docker(["pause", containerId ?? ""]);
    // Frozen, it could not be cleared away after the test.
    const goOn = () => {
      unpausedMs = performance.now();
      return ground.host.docker(["unpause", containerId ?? ""]);
    };
    const paused = await ground.control.until(replica, "paused", ({ reason }) => reason === "paused").finally(goOn);
    expect(paused).toMatchObject({ state: "running", readyForMs: null, message: "paused by somebody at the engine" });
    const ready = await ground.control.until(replica, "ready again", ({ readyForMs }) => readyForMs !== null);
    expect(ready).toMatchObject({ containerId, reason: "" });
    expect(ready.readyForMs).toBeLessThan(performance.now() - unpausedMs);
  });

  test("a container that somebody removed is made again, one that was renamed or stopped is kept", async () => {
    await ground.start();
    const [removed, renamed] = ground.control.assign([
      { app: appOf(web.tag, { restart: { delayMs: 100 } }), service: "web" },
      { app: appOf(web.tag, { restart: { delayMs: 100 } }), service: "web", slot: "1" },
    ]);
    for (const replica of [removed, renamed]) await ground.control.untilState(replica, "running");
    const [before, kept] = [await ground.container(removed), await ground.container(renamed)];
    await ground.host.docker(["rm", "-f", before.Id]);
    await ground.control.until(removed, "made again", (fact) => fact.containerId !== before.Id && fact.readyForMs !== null);
    await ground.host.docker(["rename", kept.Id, "something-else"]);
    await ground.host.docker(["stop", "-t", "0", kept.Id]);
    await until("it to run again", async () => {
      const { State } = await ground.host.engine.client.inspect(kept.Id);
      return State.Running && State.StartedAt !== kept.State.StartedAt;
    });
    await ground.control.until(renamed, "shown as restarted", ({ restarts }) => restarts === 1);
    ground.control.assign([]);
    await ground.untilContainers(0);
  });

  test("what is not berth's is never touched, whatever it is called or labelled", async () => {
    const { client } = ground.host.engine;
    await client.pull(web.tag);
    const replica = newReplicaId();
    const image = { Image: web.tag, Cmd: ["sleep", "1000"] };
    const plain = await client.runContainer("theirs", image);
    const forged = await client.runContainer("forged", {
      ...image,
      Labels: { "berth.replica": replica, "berth.proof": "0".repeat(32), "berth.app": "shop", "berth.namespace": "default" },
    });
    await ground.host.docker(["network", "create", "theirs"]);
    await ground.host.docker(["volume", "create", "theirs"]);
    await ground.start();
    const [assigned] = ground.control.assign([{ app: appOf(web.tag), service: "web", replica }], { dropVolumes: ["theirs"] });
    const fact = await ground.control.untilState(assigned, "running");
    expect(fact.containerId).not.toBe(forged);
    ground.control.assign([], { dropVolumes: ["theirs"] });
    await ground.control.untilState(assigned, "stopped");
    await until("its network to go", async () => !(await ground.host.docker(["network", "ls"])).stdout.includes("berth-default-shop"));
    const left = await client.containers();
    expect(left.map(({ Id, State }) => [Id, State]).sort()).toEqual(
      [
        [plain, "running"],
        [forged, "running"],
      ].sort(),
    );
    expect((await ground.host.docker(["network", "ls"])).stdout).toContain("theirs");
    expect((await ground.host.docker(["volume", "ls"])).stdout).toContain("theirs");
    expect((await client.request("GET", `/images/${web.tag}/json`)).status).toBe(200);
  });

  test("a volume or network of its app's name that another node made is not touched, joined or dropped", async () => {
    const labels = ["--label", "berth.app=shop", "--label", "berth.namespace=default", "--label", "berth.node=n_another"];
    await ground.host.docker(["network", "create", ...labels, "berth-default-shop"]);
    await ground.host.docker(["volume", "create", ...labels, "berth_default_shop_data"]);
    const app = appOf(web.tag, { mounts: [{ kind: "volume", volume: "data", target: "/data" }] }, { volumes: { data: {} } });
    await ground.start();
    const [replica] = ground.control.assign([{ app, service: "web" }], { dropVolumes: ["berth_default_shop_data"] });
    await ground.control.until(replica, "without its network", ({ reason }) => reason === "networkTaken");
    await ground.host.docker(["network", "rm", "berth-default-shop"]);
    await ground.control.until(replica, "without its volume", ({ reason }) => reason === "volumeTaken");
    expect((await ground.host.docker(["volume", "ls", "-q"])).stdout).toContain("berth_default_shop_data");
    await ground.host.docker(["volume", "rm", "berth_default_shop_data"]);
    await ground.control.untilState(replica, "running");
  });

  test("a name that somebody else has is said, and taken when it is free", async () => {
    const { client } = ground.host.engine;
    await client.pull(web.tag);
    const replica = newReplicaId();
    const squatter = await client.runContainer(`berth-default-shop-web-0-${replica.slice(2, 10)}`, {
      Image: web.tag,
      Cmd: ["sleep", "1000"],
    });
    await ground.start();
    ground.control.assign([{ app: appOf(web.tag), service: "web", replica }]);
    const fact = await ground.control.until(replica, "refused its name", ({ reason }) => reason === "createFailed");
    expect(fact.message).toContain("exists and is not berth's");
    await client.removeContainer(squatter);
    await ground.control.untilState(replica, "running");
  });
});

describe("images", () => {
  test("one that is nowhere is said and waited for", async () => {
    await ground.start();
    const missing = `${ground.registry.address}/later:1`;
    const [replica] = ground.control.assign([{ app: appOf(missing), service: "web" }]);
    const fact = await ground.control.until(replica, "without an image", ({ reason }) => reason === "imageNotFound");
    expect(fact).toMatchObject({ state: "preparing" });
    await ground.registry.push("later:1");
    await ground.control.untilState(replica, "running");
  });

  test("a registry with a login gets the credentials that the manifest names, and says so when they are wrong", async () => {
    const locked = await ground.lab.registry({ auth: { user: "ada", password: "secret-words" } });
    const { tag } = await locked.push("private:1");
    await ground.start();
    ground.control.putCredential("default", locked.address, { version: 1, username: "ada", password: "wrong" });
    const replica = newReplicaId();
    const assigned = [{ app: appOf(tag), service: "web", replica }];
    ground.control.assign(assigned, { credentials: [{ namespace: "default", registry: locked.address, version: 1 }] });
    await ground.control.until(replica, "denied", ({ reason }) => reason === "pullDenied");
    ground.control.putCredential("default", locked.address, { version: 2, username: "ada", password: "secret-words" });
    ground.control.assign(assigned, { credentials: [{ namespace: "default", registry: locked.address, version: 2 }] });
    await ground.control.untilState(replica, "running");
    // Sealed on disk, and in no log.
    const files = await Promise.all(
      (await ground.host.run(["sh", "-c", `find ${ground.dataDir} -type f`]))
        .trim()
        .split("\n")
        .map((file) => readFile(file, "utf8")),
    );
    expect(files.join("\n")).not.toContain("secret-words");
    expect(JSON.stringify(ground.logged)).not.toContain("secret-words");
  });

  test("an image id runs exactly the local image, or says that it is not here", async () => {
    const { client } = ground.host.engine;
    await client.pull(web.tag);
    const { Id } = JSON.parse((await client.request("GET", `/images/${web.tag}/json`)).text) as { Id: string };
    await ground.start();
    const [here, nowhere] = ground.control.assign([
      { app: appOf("local:dev"), service: "web", image: { imageId: Id, resolve: false } },
      { app: appOf("local:dev"), service: "web", slot: "1", image: { imageId: `sha256:${"0".repeat(64)}`, resolve: false } },
    ]);
    await ground.control.untilState(here, "running");
    const fact = await ground.control.until(nowhere, "without its image", ({ reason }) => reason === "imageNotFound");
    expect(fact.message).toContain("not on this node");
  });
});

describe("the owner's policy", () => {
  test.each([
    ["privileged", { privileged: true }, '"privileged"'],
    ["the host's network", { networkMode: "host" }, '"hostNetwork"'],
    ["a bind of the root", { mounts: [{ kind: "bind", source: "/", target: "/host" }] }, '"bindRoots"'],
    ["the engine's socket", { mounts: [{ kind: "bind", source: "/var/run/docker.sock", target: "/var/run/docker.sock" }] }, '"bindRoots"'],
  ] as const)("refuses %s with a sentence that names the key", async (_, workload, key) => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag, workload as never), service: "web" }]);
    const fact = await ground.untilEnded(replica);
    expect(fact).toMatchObject({ state: "rejected", reason: "policy" });
    expect(fact.message).toContain(key);
    expect(fact.message).toContain(join(ground.dataDir, "policy.json"));
    expect(await ground.containers()).toEqual([]);
  });

  test("allows what the file allows, and ends what it no longer does", async () => {
    const file = join(ground.dataDir, "policy.json");
    await writeFile(file, JSON.stringify({ hostNetwork: true, labels: { rack: "7" }, devices: { gpu: { count: 2 } } }));
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag, { networkMode: "host" }), service: "web" }]);
    await ground.control.untilState(replica, "running");
    expect(ground.control.nodeFacts).toMatchObject({ labels: { rack: "7" }, devices: { gpu: 2 } });
    await writeFile(file, "{}");
    expect(await ground.untilEnded(replica)).toMatchObject({ state: "rejected", reason: "policy" });
    expect((await ground.containers()).filter(({ State }) => State.Running)).toEqual([]);
  });
});

test("two replicas that are made at once are given two of the node's devices", async () => {
  const devices = { serial: { count: 2, paths: ["/dev/zero", "/dev/full"] } };
  await writeFile(join(ground.dataDir, "policy.json"), JSON.stringify({ devices }));
  await ground.start();
  const app = appOf(web.tag);
  app.services.web!.reservation = { devices: { serial: 1 } };
  const replicas = ground.control.assign(["0", "1"].map((slot) => ({ app, service: "web", slot })));
  const given: unknown[] = [];
  for (const replica of replicas) {
    await ground.control.untilState(replica, "running");
    const { HostConfig } = (await ground.container(replica)) as unknown as { HostConfig: { Devices: { PathOnHost: string }[] } };
    given.push(...HostConfig.Devices.map(({ PathOnHost }) => PathOnHost));
  }
  expect(given.sort()).toEqual(["/dev/full", "/dev/zero"]);
});

test("pulls that crawl for what nobody wants any more give their places up", async () => {
  const late = await ground.registry.push("late:1");
  await ground.host.docker(["rmi", "-f", late.tag]);
  const real = openDocker(ground.host.socket);
  const engine: Engine = {
    ...real,
    pull: (reference, options) =>
      reference.startsWith("slow.test/")
        ? new Promise((_, reject) =>
            options.signal.addEventListener("abort", () => reject(new EngineError("timeout", "cut off")), { once: true }),
          )
        : real.pull(reference, options),
  };
  await ground.start({ engine });
  const slow = (name: string) => ({ app: { ...appOf(`slow.test/${name}:1`), name }, service: "web" });
  ground.control.assign(["a", "b", "c", "d"].map(slow));
  await until("the fourth to wait", () => [...ground.control.facts.values()].some(({ reason }) => reason === "pullQueued"));
  const [replica] = ground.control.assign([{ app: appOf(late.tag), service: "web" }]);
  await ground.control.untilState(replica, "running");
  expect(ground.logged.filter(({ message }) => message === "a step failed")).toEqual([]);
});

describe("a policy that cannot be read", () => {
  test("stops nothing and ends nothing; what is new waits until it can be", async () => {
    const file = join(ground.dataDir, "policy.json");
    const good = JSON.stringify({ hostNetwork: true, labels: { rack: "7" } });
    await writeFile(file, good);
    await ground.start();
    const app = appOf(web.tag, { networkMode: "host" });
    const [runs] = ground.control.assign([{ app, service: "web" }]);
    const { containerId } = await ground.control.untilState(runs, "running");
    await writeFile(file, good.slice(0, 12));
    await until("the broken file to be read", async () => ground.logged.some(({ message }) => message.includes("policy cannot be read")));
    const [, late] = ground.control.assign([
      { app, service: "web", replica: runs ?? "" },
      { app: appOf(web.tag), service: "web", slot: "1" },
    ]);
    const waits = await ground.control.until(late, "held", ({ reason }) => reason === "policyUnreadable");
    expect(waits.state).not.toBe("rejected");
    expect(ground.control.fact(runs)).toMatchObject({ state: "running", containerId });
    expect((await ground.container(runs)).State.Running).toBe(true);
    expect(ground.control.nodeFacts).toMatchObject({ labels: { rack: "7" } });
    await writeFile(file, good);
    await ground.control.untilState(late, "running");
    expect(ground.control.fact(runs)).toMatchObject({ state: "running", containerId });
  });
});

describe("a spec that this agent does not understand", () => {
  test("rejects its replica alone", async () => {
    await ground.start();
    const [good, bad] = ground.control.assign([
      { app: appOf(web.tag), service: "web" },
      { app: appOf(web.tag), service: "web", slot: "1" },
    ]);
    const body = ground.control.putBody(JSON.stringify({ from: "the future" }));
    ground.control.editManifest((manifest) => ({
      ...manifest,
      generation: ++ground.control.generation,
      assignments: manifest.assignments.map((item) =>
        item.replica === bad ? { ...item, replica: newReplicaId() as typeof item.replica, spec: body } : item,
      ),
    }));
    await ground.control.untilState(good, "running");
    await until("a rejection", () =>
      [...ground.control.facts.values()].some(({ state, reason }) => state === "rejected" && reason === "spec"),
    );
  });
});

describe("binds", () => {
  test("of a directory and a file are what was asked for, also where the image has a link; a link is refused", async () => {
    await ground.host.run([
      "sh",
      "-c",
      "mkdir -p /srv/site && echo page > /srv/site/index && echo zone > /srv/zone && ln -sfn /etc /srv/escape",
    ]);
    const linked = (await ground.registry.push("linked:1", { files: { "/run/keep": "" }, cmd: ["sh", "-c", "exec sleep 1000"] })).tag;
    await ground.spawn();
    const bind = (source: string, target: string, more: object = {}) => ({ kind: "bind" as const, source, target, ...more });
    const [good, bad, made] = ground.control.assign([
      {
        app: appOf(linked, {
          mounts: [
            bind("/srv/site", "/www", { readOnly: true }),
            bind("/srv/zone", "/run/zone"),
            bind("/etc/localtime", "/etc/localtime", { readOnly: true }),
          ],
        }),
        service: "web",
      },
      { app: appOf(linked, { mounts: [bind("/srv/escape", "/host")] }), service: "web", slot: "1" },
      { app: appOf(linked, { mounts: [bind("/srv/new/deep", "/data", { createHostPath: true })] }), service: "web", slot: "2" },
    ]);
    await ground.control.until(good, "ready", ({ readyForMs }) => readyForMs !== null);
    const { Id } = await ground.container(good);
    expect(await ground.exec(Id, ["cat", "/www/index", "/run/zone"])).toBe("page\nzone");
    expect(await ground.untilEnded(bad)).toMatchObject({
      state: "rejected",
      message: expect.stringContaining("/srv/escape is a symbolic link"),
    });
    await ground.control.until(made, "ready", ({ readyForMs }) => readyForMs !== null);
    expect(await ground.host.run(["ls", "-d", "/srv/new/deep"])).toContain("/srv/new/deep");
  });
});

describe("the engine's port", () => {
  test("removes an image that nothing uses, and says when something does", async () => {
    const engine = openDocker(ground.host.socket);
    const { client } = ground.host.engine;
    const { tag } = await ground.registry.push("once:1", { env: { ONCE: "1" } });
    await client.pull(tag);
    const user = await client.runContainer("user", { Image: tag, Cmd: ["sleep", "1000"] });
    await expect(engine.removeImage(tag)).rejects.toMatchObject({ code: "inUse" });
    await client.removeContainer(user);
    await engine.removeImage(tag);
    expect(await engine.image(tag)).toBeNull();
    await engine.removeImage(tag);
  });

  test("gives up on an engine that accepts and never replies (F6), and finds it again", async () => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    const { containerId } = await ground.control.until(replica, "ready", ({ readyForMs }) => readyForMs !== null);
    ground.host.engine.freeze();
    await until("the engine to be reported away", () => ground.control.reports.at(-1)?.engine.reachable === false, { timeoutMs: 90_000 });
    ground.host.engine.thaw();
    await until("it to be back", () => ground.control.reports.at(-1)?.engine.reachable === true, { timeoutMs: 30_000 });
    expect((await ground.containers()).map(({ Id, State }) => [Id, State.Running])).toEqual([[containerId, true]]);
    expect(ground.control.fact(replica)?.restarts).toBe(0);
  });
});
