/** The whole agent with a control plane and an engine that a test can hold and fail: what goes wrong once is not wrong for ever. */
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EngineError } from "../../agent/engine/engine.ts";
import { type AgentHandle, runAgent } from "../../agent/main.ts";
import { openDisk } from "../../agent/node-disk.ts";
import { SealedFile } from "../../agent/sealed-file.ts";
import { ReplicaRecord } from "../../shared/converge/record.ts";
import type { AppSpecInput } from "../../shared/model/app.ts";
import { until } from "../e2e/hosts/until.ts";
import { ControlPlane } from "./control-plane.ts";
import { FakeEngine } from "./fake-engine.ts";
import { appOf } from "./ground.ts";

let dir: string;
let dataDir: string;
let control: ControlPlane;
let engine: FakeEngine;
let token: string;
let handle: AgentHandle | null = null;
const warnings: string[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-loop-"));
  dataDir = join(dir, "data");
  await mkdir(dataDir);
  control = await ControlPlane.start();
  token = await control.joinToken();
  engine = new FakeEngine();
  warnings.length = 0;
});
afterEach(async () => {
  await stop();
  await control.close();
  await rm(dir, { recursive: true, force: true });
});

const silent = () => undefined;
const log = {
  debug: silent,
  info: silent,
  warn: (fields: Record<string, unknown>, message: string) => void warnings.push(`${message} ${JSON.stringify(fields)}`),
  error: silent,
};
async function start(): Promise<void> {
  handle = await runAgent({ dataDir, joinToken: token, env: {}, engine: engine.port, engineSocket: "/nowhere", log });
}
async function stop(): Promise<void> {
  await handle?.stop();
  handle = null;
}
const policy = (content: unknown) => writeFile(join(dataDir, "policy.json"), JSON.stringify(content));

/** An app whose service reserves this many devices of a kind. */
function reserving(devices: Record<string, number>, workload: Parameters<typeof appOf>[1] = {}): AppSpecInput {
  const app = appOf("web:1", workload);
  return { ...app, services: { web: { ...app.services["web"]!, reservation: { devices } } } };
}

test("two replicas that are made at once get different devices", async () => {
  await policy({ devices: { serial: { count: 2, paths: ["/dev/zero", "/dev/full"] } } });
  let waiting = 0;
  let go: () => void = silent;
  const both = new Promise<void>((resolve) => {
    go = resolve;
  });
  engine.before.create = () => {
    if (++waiting === 2) go();
    return both;
  };
  await start();
  const shared = reserving({ serial: 1 });
  const ids = control.assign([0, 1].map((slot) => ({ app: shared, service: "web", slot: String(slot) })));
  for (const id of ids) await control.untilState(id, "running");
  const given = [...engine.containers.values()].map(({ body }) => body.HostConfig.Devices?.map(({ PathOnHost }) => PathOnHost));
  expect(given.flat().sort()).toEqual(["/dev/full", "/dev/zero"]);
});

test("a device of a container that could not be made is free again", async () => {
  await policy({ devices: { serial: { count: 1, paths: ["/dev/zero"] } } });
  engine.before.create = (name) => {
    if (name.includes("-0-")) throw new EngineError("failed", "no");
  };
  await start();
  const [first = ""] = control.assign([{ app: reserving({ serial: 1 }), service: "web", slot: "0" }]);
  await control.until(first, "refused by the engine", ({ reason }) => reason === "createFailed");
  const one = { app: reserving({ serial: 1 }), service: "web" };
  const [, second] = control.assign([
    { ...one, replica: first, slot: "0" },
    { ...one, slot: "1" },
  ]);
  await control.untilState(second, "running");
});

test("a device that a predecessor still holds is waited for", async () => {
  await policy({ devices: { serial: { count: 1, paths: ["/dev/zero"] } } });
  let release: () => void = silent;
  engine.before.stop = () =>
    new Promise<void>((resolve) => {
      release = resolve;
    });
  await start();
  const app = reserving({ serial: 1 });
  const [old] = control.assign([{ app, service: "web" }]);
  await control.untilState(old, "running");
  const [young] = control.assign([{ app, service: "web", revision: 2 }]);
  expect(await control.until(young, "waiting", ({ reason }) => reason !== "")).toMatchObject({
    reason: "deviceTaken",
    message: '1 of device "serial" are wanted, 0 of 1 are free',
    state: "preparing",
  });
  release();
  await control.untilState(young, "running");
});

test("a host path that is not there yet is waited for, one that leads elsewhere ends it", async () => {
  const root = join(dir, "mnt");
  await policy({ bindRoots: [root] });
  await mkdir(root);
  await symlink("/", join(root, "link"));
  await start();
  const bound = (name: string) => ({
    app: appOf("web:1", { mounts: [{ kind: "bind", source: join(root, name), target: "/d" }] }),
    service: "web",
  });
  const [late, link] = control.assign([bound("late/data"), bound("link")]);
  expect(await control.until(late, "waiting", ({ reason }) => reason !== "")).toMatchObject({ reason: "bindMissing", state: "preparing" });
  expect(await control.untilState(link, "rejected")).toMatchObject({ reason: "engineRefused" });
  await mkdir(join(root, "late/data"), { recursive: true });
  await control.untilState(late, "running");
});

test("config files that somebody deleted are written again before a container is made", async () => {
  engine.before.create = async (_, { HostConfig }) => {
    for (const { Source } of HostConfig.Mounts.filter(({ Type }) => Type === "bind")) {
      const isThere = await stat(Source ?? "").catch(() => null);
      if (isThere !== null) continue;
      throw new EngineError("invalid", `invalid mount config for type "bind": bind source path does not exist: ${Source}`, { status: 400 });
    }
  };
  await start();
  const app = appOf(
    "web:1",
    { mounts: [{ kind: "config", config: "conf", target: "/etc/conf" }] },
    { configs: { conf: { content: "c" } } },
  );
  const [replica] = control.assign([{ app, service: "web" }]);
  const { containerId } = await control.untilState(replica, "running");
  await rm(join(dataDir, "configs"), { recursive: true });
  engine.removeByHand(containerId!);
  await control.until(replica, "made again", (fact) => fact.state === "running" && fact.containerId !== containerId);
});

test("what is missing for a container with configs is counted on, though they are written before each try, and said once", async () => {
  let tries = 0;
  engine.before.create = () => {
    tries++;
    throw new EngineError("invalid", 'invalid mount config for type "bind": bind source path does not exist: /gone', { status: 400 });
  };
  await start();
  const mounts = [{ kind: "config" as const, config: "conf", target: "/etc/conf" }];
  control.assign([{ app: appOf("web:1", { mounts }, { configs: { conf: { content: "c" } } }), service: "web" }]);
  await until("three tries", () => tries === 3, { timeoutMs: 15_000 });
  expect(warnings.filter((line) => line.includes("a step failed"))).toHaveLength(1);
});

test("a body that the engine refuses for what it is ends its replica", async () => {
  engine.before.create = () => {
    throw new EngineError("invalid", "invalid reference format", { status: 400 });
  };
  await start();
  const [replica] = control.assign([{ app: appOf("web:1"), service: "web" }]);
  expect(await control.untilState(replica, "rejected")).toMatchObject({ reason: "engineRefused", message: "invalid reference format" });
});

test("the first report of an agent whose engine is away names all that it runs", async () => {
  await start();
  const [replica] = control.assign([{ app: appOf("web:1"), service: "web" }]);
  await control.untilState(replica, "running");
  await stop();
  const before = control.reports.length;
  engine.before.info = () => {
    throw new EngineError("unreachable", "connect ECONNREFUSED");
  };
  await start();
  await until("a complete report", () => control.reports.slice(before).find(({ complete }) => complete));
  const first = control.reports[before];
  expect(first).toMatchObject({ complete: true, engine: { reachable: false } });
  expect(first?.replicas.map((fact) => [fact.replica, fact.state])).toEqual([[replica, "running"]]);
});

describe("a disk that takes no new identity (F8)", () => {
  const blocked = () => join(dataDir, "identity.json.previous");
  beforeEach(async () => {
    await start();
    const [replica] = control.assign([{ app: appOf("web:1"), service: "web" }]);
    await control.untilState(replica, "running");
    await rm(blocked(), { force: true });
    await mkdir(blocked());
  });

  test("keeps no removed node from ending its work; when it takes one again, that is noted", async () => {
    engine.before.stop = () => rm(blocked(), { recursive: true, force: true });
    control.isRemoved = true;
    control.wakePolls();
    expect(await handle!.ended).toBe("removed");
    expect([...engine.containers.keys()]).toEqual([]);
    expect(await readFile(join(dataDir, "identity.json"), "utf8")).toContain('"removed":true');
  });

  test("makes no removed node run its work again that starts with no network, once there is room", async () => {
    control.isRemoved = true;
    control.wakePolls();
    expect(await handle!.ended).toBe("removed");
    await rm(blocked(), { recursive: true, force: true });
    await control.close();
    engine.before.listByLabel = () => void looks++;
    let looks = 0;
    await start();
    await until("a look at the engine", () => looks > 0);
    await pause(2_000);
    expect([...engine.containers.keys()]).toEqual([]);
  });

  test("keeps no node from a new key of its control plane", async () => {
    await control.rotate();
    const [second] = control.assign([{ app: appOf("web:2"), service: "web" }]);
    await control.untilState(second, "running");
  });
});

describe("an agent that was killed before it wrote down that a container was started (F2)", () => {
  const once = { restart: { condition: "no" } } as const;
  /** With a container that runs and a record from before its last start. */
  const forgetStart = async (workload: Parameters<typeof appOf>[1], before: Partial<ReplicaRecord>): Promise<string> => {
    await start();
    const [replica = ""] = control.assign([{ app: appOf("web:1", workload), service: "web" }]);
    await control.untilState(replica, "running");
    await stop();
    const disk = await openDisk(dataDir);
    const file = new SealedFile({ disk, log, path: `replicas/${replica}.json`, schema: ReplicaRecord });
    await file.write({ ...(await file.read())!, ...before });
    const { sessions } = control;
    await start();
    await until("what it found", () => control.reports.some(({ session, complete }) => session > sessions && complete));
    return replica;
  };
  const starts = () => engine.calls.filter((call) => call.startsWith("start ")).length;

  test("waits before it starts that again", async () => {
    const replica = await forgetStart({ restart: { delayMs: 60_000 } }, { restartAtMs: 1 });
    engine.endByHand([...engine.containers.keys()][0]!, "die");
    await control.until(replica, "waiting", ({ reason }) => reason === "restarting");
    expect(starts()).toBe(1);
  });

  test("runs nothing twice that runs once", async () => {
    const replica = await forgetStart(once, { hasStarted: false });
    engine.endByHand([...engine.containers.keys()][0]!, "die");
    await control.untilState(replica, "completed");
    expect(starts()).toBe(1);
  });

  test("nor when somebody removes it", async () => {
    const replica = await forgetStart(once, { hasStarted: false });
    engine.removeByHand([...engine.containers.keys()][0]!);
    expect(await control.untilState(replica, "failed")).toMatchObject({ reason: "containerRemoved" });
    expect(starts()).toBe(1);
  });
});
