/** Kills, reboots and broken disks: what ran goes on running, nothing runs twice, nothing is forgotten. */
import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openDocker } from "../../agent/engine/docker.ts";
import type { Engine } from "../../agent/engine/engine.ts";
import { until } from "../e2e/hosts/until.ts";
import { appOf, Ground } from "./ground.ts";

let ground: Ground;
let web: { tag: string; digest: string };

beforeAll(async () => {
  ground = await Ground.make("agentcrash");
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

const startedAt = async (): Promise<string[]> => (await ground.containers()).map(({ Id, State }) => `${Id} ${State.StartedAt}`).sort();
const withEverything = () =>
  appOf(
    web.tag,
    {
      mounts: [
        { kind: "volume", volume: "data", target: "/data" },
        { kind: "config", config: "conf", target: "/etc/conf" },
      ],
    },
    { volumes: { data: {} }, configs: { conf: { content: "x" } } },
  );

/** Calls that change something; after the `fatal`-th of them, before or after it took effect, nothing answers any more. */
function dyingEngine(real: Engine, fatal: number, when: "before" | "after"): { engine: Engine; died: Promise<void>; calls: () => number } {
  let calls = 0;
  let die: () => void = () => undefined;
  const died = new Promise<void>((resolve) => {
    die = resolve;
  });
  const never = new Promise<never>(() => undefined);
  const mortal = new Set<string | symbol>([
    "pull",
    "createNetwork",
    "createVolume",
    "create",
    "start",
    "stop",
    "remove",
    "inspect",
    "image",
  ]);
  const engine = new Proxy(real, {
    get(target, name: keyof Engine) {
      if (!mortal.has(name)) return target[name];
      return async (...args: unknown[]) => {
        calls++;
        if (calls > fatal) return never;
        const isFatal = calls === fatal;
        if (isFatal && when === "before") {
          die();
          return never;
        }
        const result = await (target[name] as (...given: unknown[]) => Promise<unknown>)(...args);
        if (!isFatal) return result;
        die();
        return never;
      };
    },
  });
  return { engine, died, calls: () => calls };
}

describe("killed at every engine call (F1, F2)", () => {
  // image, pull, image, createNetwork, createVolume, create, start, inspect; then stop, inspect, remove.
  const STARTING = 8;
  test.each(
    Array.from({ length: STARTING }, (_, index) => index + 1).flatMap((call) => [["before", call] as const, ["after", call] as const]),
  )("%s call %d of starting: one container, running, once", async (when, call) => {
    await ground.host.docker(["rmi", "-f", web.tag]);
    const dying = dyingEngine(openDocker(ground.host.socket), call, when);
    await ground.start({ engine: dying.engine });
    const [replica] = ground.control.assign([{ app: withEverything(), service: "web" }]);
    await dying.died;
    // The rest of it hangs for ever; its successor finds the same disk and the same engine.
    ground.abandon();
    const before = await startedAt();
    await ground.start();
    await ground.control.until(replica, "running", ({ state, readyForMs }) => state === "running" && readyForMs !== null);
    const after = await startedAt();
    expect(after).toHaveLength(1);
    if (before.length > 0) expect(after[0]?.split(" ")[0]).toBe(before[0]?.split(" ")[0]);
    if (before.length > 0 && call === STARTING) expect(after).toEqual(before);
    expect(ground.control.fact(replica)?.restarts).toBe(0);
  });

  test.each([1, 2, 3].flatMap((call) => [["before", call] as const, ["after", call] as const]))(
    "%s call %d of stopping: it goes",
    async (when, call) => {
      await ground.start();
      const [replica] = ground.control.assign([{ app: withEverything(), service: "web" }]);
      await ground.control.untilState(replica, "running");
      await ground.stop();
      const dying = dyingEngine(openDocker(ground.host.socket), 1 + call, when);
      await ground.start({ engine: dying.engine });
      await until("the engine to be looked at", () => dying.calls() >= 1);
      ground.control.assign([]);
      await dying.died;
      ground.abandon();
      await ground.start();
      await ground.control.untilState(replica, "stopped");
      expect(await ground.containers()).toEqual([]);
    },
  );
});

test("kill -9 at any moment, many times: as many containers as assignments, none twice", async () => {
  const replicas = ground.control.assign(
    Array.from({ length: 6 }, (_, slot) => ({ app: withEverything(), service: "web", slot: String(slot) })),
  );
  for (const afterMs of [150, 300, 450, 600, 800, 1_000]) {
    const agent = await ground.spawn();
    await agent.logs(/"msg":"step"|connected/);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await agent.stop("SIGKILL");
  }
  await ground.spawn();
  for (const replica of replicas)
    await ground.control.until(replica, "running", ({ state, readyForMs }) => state === "running" && readyForMs !== null);
  const containers = await ground.containers();
  expect(containers).toHaveLength(6);
  expect(new Set(containers.map(({ Config }) => Config.Labels["berth.replica"]))).toEqual(new Set(replicas));
});

describe("an agent that starts again", () => {
  test("touches nothing that runs, and says how long it has run", async () => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    await ground.control.until(replica, "ready for a while", ({ readyForMs }) => readyForMs !== null);
    await ground.stop();
    const before = await startedAt();
    await until("a second to pass", async () => Date.now() - Date.parse((await ground.containers())[0]?.State.StartedAt ?? "") > 1_000);
    await ground.start();
    const fact = await ground.control.until(replica, "known again", ({ readyForMs }) => (readyForMs ?? 0) >= 1_000);
    expect(fact.restarts).toBe(0);
    expect(await startedAt()).toEqual(before);
  });

  test("starts again what ended while it was away", async () => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: appOf(web.tag, { restart: { delayMs: 100 } }), service: "web" }]);
    await ground.control.untilState(replica, "running");
    await ground.stop();
    await ground.host.docker(["kill", (await ground.containers())[0]?.Id ?? ""]);
    await ground.start();
    await ground.control.until(replica, "started again", ({ restarts, readyForMs }) => restarts === 1 && readyForMs !== null);
  });

  test("never revives what had ended, and still knows why", async () => {
    await ground.start();
    const [replica] = ground.control.assign([
      { app: appOf(web.tag, { entrypoint: ["/bin/sh", "-c", "echo done; exit 5"], restart: { condition: "no" } }), service: "web" },
    ]);
    await ground.untilEnded(replica);
    await ground.stop();
    await ground.start();
    await until("a second session's report", () => ground.control.sessions === 2 && ground.control.reports.at(-1)?.session === 2);
    expect(ground.control.fact(replica)).toMatchObject({ state: "failed", exitCode: 5, logTail: ["done"] });
    expect((await ground.containers()).filter(({ State }) => State.Running)).toEqual([]);
  });
});

describe("a reboot (F10)", () => {
  test.each([false, true])("with network: %s, starts everything from the ledger, in the same containers", async (network) => {
    await ground.spawn();
    const replicas = ground.control.assign([
      { app: withEverything(), service: "web" },
      { app: appOf(web.tag, {}, { name: "other" }), service: "web" },
    ]);
    for (const replica of replicas) await ground.control.untilState(replica, "running");
    const before = (await ground.containers()).map(({ Id }) => Id).sort();
    await ground.host.reboot({ network });
    const agent = await ground.spawn();
    await until("both to run", async () => (await ground.containers()).filter(({ State }) => State.Running).length === 2);
    expect((await ground.containers()).map(({ Id }) => Id).sort()).toEqual(before);
    if (!network) {
      await agent.logs(/cannot be reached/);
      await ground.host.reconnect();
    }
    for (const replica of replicas) {
      const fact = await ground.control.until(replica, "running again", ({ readyForMs }) => readyForMs !== null, 60_000);
      expect(fact.restarts).toBe(0);
    }
  });
});

describe("a broken ledger (F9)", () => {
  const damage: Record<string, (file: string) => Promise<void>> = {
    "cut in half": async (file) => truncate(file, Math.floor((await readFile(file)).length / 2)),
    empty: (file) => truncate(file, 0),
    "with a flipped bit": async (file) => {
      const bytes = await readFile(file);
      // The lock has no bits: it gets rubbish.
      if (bytes.length === 0) return writeFile(file, "rubbish".repeat(200));
      const middle = bytes.length >> 1;
      bytes.writeUInt8((bytes[middle] ?? 0) ^ 1, middle);
      await writeFile(file, bytes);
    },
  };

  test.each(Object.keys(damage))("each file %s: what runs goes on running, and all is known again", async (how) => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: withEverything(), service: "web" }]);
    await ground.control.untilState(replica, "running");
    ground.control.assign([{ app: withEverything(), service: "web", replica: replica ?? "" }]);
    await until("the newer set to be accepted", () => ground.control.reports.at(-1)?.generation === 2);
    await ground.stop();
    const before = await startedAt();
    const files = (await readdir(ground.dataDir, { recursive: true, withFileTypes: true })).filter(
      (entry) => entry.isFile() && !entry.name.endsWith(".previous"),
    );
    const spoil = damage[how];
    for (const { parentPath, name } of files) await spoil?.(join(parentPath, name));
    await ground.start();
    await ground.control.until(replica, "known again", ({ state, readyForMs }) => state === "running" && readyForMs !== null);
    await until("generation 2 to be held", () => ground.control.reports.at(-1)?.generation === 2);
    expect(await startedAt()).toEqual(before);
    expect(ground.control.enrolments).toBe(1);
  });

  test("gone but for the identity: containers are known by their proof, and go when they are no longer wanted", async () => {
    await ground.start();
    const [kept, unwanted] = ground.control.assign([
      { app: withEverything(), service: "web" },
      { app: withEverything(), service: "web", slot: "1" },
    ]);
    for (const replica of [kept, unwanted]) await ground.control.untilState(replica, "running");
    await ground.stop();
    const before = await ground.container(kept);
    await ground.host.run(["sh", "-c", `cd ${ground.dataDir} && rm -rf manifest.json* replicas bodies images.json`]);
    ground.control.assign([{ app: withEverything(), service: "web", replica: kept ?? "" }]);
    await ground.start();
    await ground.control.untilState(unwanted, "stopped");
    await ground.control.untilState(kept, "running");
    const left = await ground.containers();
    expect(left.map(({ Id, State }) => [Id, State.StartedAt])).toEqual([[before.Id, before.State.StartedAt]]);
  });

  test("one body lost before a reboot with no network: all other work starts, and that one's when it was fetched again", async () => {
    await ground.start();
    const second = { ...withEverything(), name: "second" };
    const [kept, torn] = ground.control.assign([
      { app: withEverything(), service: "web" },
      { app: second, service: "web" },
    ]);
    for (const replica of [kept, torn]) await ground.control.untilState(replica, "running");
    await ground.stop();
    const record = await readFile(join(ground.dataDir, "replicas", `${torn}.json`), "utf8");
    const { ref } = JSON.parse(record.slice(record.indexOf("\n") + 1)) as { ref: { spec: string } };
    await writeFile(join(ground.dataDir, "bodies", ref.spec), "torn");
    for (const { Id } of await ground.containers()) await ground.host.docker(["stop", "-t", "0", Id]);
    ground.control.disturb = (_, response) => {
      response.destroy();
      return true;
    };
    await ground.start();
    const runs = async () =>
      (await ground.containers()).filter(({ State }) => State.Running).map(({ Config }) => Config.Labels["berth.app"]);
    await until("the other to run", async () => (await runs()).length > 0);
    expect(await runs()).toEqual([withEverything().name]);
    ground.control.disturb = null;
    await until("both to run", async () => (await runs()).length === 2);
  });

  test.each([
    ["the content of a config", "bodies"],
    ["a registry's credentials", "credentials"],
  ])("%s, lost while it was away, is fetched again", async (_, folder) => {
    await ground.start();
    const registry = "locked.example:5000";
    ground.control.putCredential("default", registry, { version: 1, username: "u", password: "p" });
    const [replica] = ground.control.assign([{ app: withEverything(), service: "web" }], {
      credentials: [{ namespace: "default", registry, version: 1 }],
    });
    await ground.control.untilState(replica, "running");
    await ground.stop();
    const before = await startedAt();
    const directory = join(ground.dataDir, folder);
    for (const name of await readdir(directory)) {
      const text = await readFile(join(directory, name), "utf8");
      if (folder === "credentials" || !text.includes('"workload"')) await writeFile(join(directory, name), "torn");
    }
    ground.control.requests.length = 0;
    await ground.start();
    await until("it to be asked for", async () => ground.control.requests.some((request) => request.includes(`/${folder}/`)));
    await until("the set to be held", () => ground.control.reports.at(-1)?.generation === 1);
    expect(await startedAt()).toEqual(before);
  });

  test("while it has no manifest and no control plane, nothing is stopped", async () => {
    await ground.start();
    const [replica] = ground.control.assign([{ app: withEverything(), service: "web" }]);
    await ground.control.untilState(replica, "running");
    await ground.stop();
    const before = await startedAt();
    await ground.host.run(["sh", "-c", `cd ${ground.dataDir} && rm -rf manifest.json*`]);
    await ground.control.close();
    await ground.start();
    await until("the link to fail", () => ground.said.some((sentence) => sentence.includes("cannot be reached")));
    await until("the engine to be listed", () => ground.logged.length > 0);
    expect(await startedAt()).toEqual(before);
  });
});

describe("the engine", () => {
  test("restarts: what it ended runs again, and no restart of its policy is used up (F5)", async () => {
    await ground.start();
    const [replica] = ground.control.assign([
      { app: appOf(web.tag, { restart: { condition: "on-failure", attemptsMax: 1, delayMs: 500 } }), service: "web" },
    ]);
    const { containerId } = await ground.control.until(replica, "ready", ({ readyForMs }) => readyForMs !== null);
    await ground.host.engine.stop();
    await until("the engine to be reported away", () => ground.control.reports.at(-1)?.engine.reachable === false);
    await ground.host.engine.start();
    await ground.control.until(
      replica,
      "ready again",
      ({ readyForMs }) => readyForMs !== null && ground.control.reports.at(-1)?.engine.reachable === true,
    );
    await until("it to run", async () => (await ground.containers())[0]?.State.Running === true);
    expect(ground.control.fact(replica)).toMatchObject({ containerId, state: "running" });
  });

  test("was never there: the agent says so, and goes on when it comes", async () => {
    await ground.start();
    await ground.stop();
    await ground.host.engine.stop();
    await ground.start();
    await until("it to be reported", () => ground.control.reports.at(-1)?.engine.reachable === false);
    const [replica] = ground.control.assign([{ app: appOf(web.tag), service: "web" }]);
    await ground.host.engine.start();
    await ground.control.untilState(replica, "running");
  });
});
