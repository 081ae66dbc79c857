/**
 * What agent/ relies on from an Engine, as tests over whatever implements the port: a real Docker engine
 * (test/agent/engine-contract.test.ts) and the simulator's (test/sim/engine-contract.test.ts).
 *
 * Where they differ and it cannot matter, or cannot be had:
 * - Logs: the simulated one has none. They are the agent's own suites'.
 * - Volumes without a name, and images that declare some: berth names every volume.
 * - A real engine probes a container's health anew when it starts itself; the simulated one goes by the container's start.
 * - A start that finds its port taken is refused in one of two wordings by the real one, in one by the simulated one; the
 *   agent knows both.
 * - The simulated registry asks for no login: it refuses, or it does not.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { CreateBody, HostConfigBody } from "../../agent/engine/create-body.ts";
import { type Engine, EngineError, type EngineEvent, type InspectedContainer } from "../../agent/engine/engine.ts";

/** What an image does when it runs: until TERM, until KILL, ends by itself with 1, ends with 0. */
export type Program = "web" | "deaf" | "crash" | "job";

export interface Pushed {
  readonly tag: string;
  /** By its digest. */
  readonly pinned: string;
}

export interface EngineGround {
  /** The engine as if new: nothing in it, and up. */
  clean(): Promise<Engine>;
  wallMs(): number;
  pause(ms: number): Promise<void>;
  /** Into a registry that the engine reaches. The same content is the same image; another one moves the tag. */
  push(program: Program, nameTag: string, content?: string): Promise<Pushed>;
  /** One whose pull takes a while. */
  pushLarge(nameTag: string): Promise<Pushed>;
  /** A name in a registry that does not give it away, or is not there, until `mend`. */
  refusing(how: "denied" | "away"): Promise<{ readonly tag: string; mend(): Promise<void> }>;
  freeze(): void;
  thaw(): void;
  down(how: "stop" | "kill" | "power"): Promise<void>;
  up(): Promise<void>;
  close(): Promise<void>;
}

const LABEL = "contract.id";
/** Of waits for what a real engine does in well under a second. */
const WAIT_MAX_MS = 30_000;
const LOOK_EVERY_MS = 20;
const WALL_SLACK_MS = 50;
const refusalOf = (work: Promise<unknown>): Promise<EngineError> =>
  work.then(
    () => Promise.reject(new Error("was not refused")),
    (error: unknown) => {
      if (error instanceof EngineError) return error;
      throw error;
    },
  );

export const bodyOf = (image: string, host: Partial<HostConfigBody> = {}, over: Partial<CreateBody> = {}): CreateBody => ({
  Image: image,
  Env: [],
  Labels: { [LABEL]: "1" },
  Tty: false,
  OpenStdin: false,
  ExposedPorts: {},
  StopTimeout: 1,
  ...over,
  HostConfig: {
    RestartPolicy: { Name: "no" },
    AutoRemove: false,
    NetworkMode: "none",
    PortBindings: {},
    Mounts: [],
    Privileged: false,
    ReadonlyRootfs: false,
    // A signal without a handler does not end the first process of a container.
    Init: true,
    CapAdd: [],
    CapDrop: [],
    SecurityOpt: [],
    Sysctls: {},
    Ulimits: [],
    Devices: [],
    DeviceRequests: [],
    GroupAdd: [],
    ExtraHosts: [],
    Dns: [],
    DnsSearch: [],
    DnsOptions: [],
    ...host,
  },
});

/** `live`: its containers outlive it. */
export function engineContract(name: string, make: (options: { readonly live: boolean }) => Promise<EngineGround>): void {
  describe(`an engine: ${name}`, () => {
    let ground: EngineGround;
    let engine: Engine;
    const watches: AbortController[] = [];
    beforeAll(async () => {
      ground = await make({ live: false });
    });
    afterAll(() => ground?.close());
    beforeEach(async () => {
      engine = await ground.clean();
    });
    afterEach(() => {
      for (const watch of watches.splice(0)) watch.abort();
    });

    const until = async <Found>(what: string, look: () => Promise<Found | false> | Found | false): Promise<Found> => {
      const endMs = ground.wallMs() + WAIT_MAX_MS;
      while (ground.wallMs() < endMs) {
        const found = await look();
        if (found !== false) return found;
        await ground.pause(LOOK_EVERY_MS);
      }
      throw new Error(`waited for ${what} in vain`);
    };
    const pull = (reference: string, signal: AbortSignal = new AbortController().signal) =>
      engine.pull(reference, { login: null, signal, onProgress: () => {} });
    const pulled = async (program: Program): Promise<Pushed> => {
      const pushed = await ground.push(program, `${program}:1`);
      await pull(pushed.tag);
      return pushed;
    };
    interface Asked {
      readonly name?: string;
      readonly host?: Partial<HostConfigBody>;
      readonly over?: Partial<CreateBody>;
    }
    const made = async (program: Program, asked: Asked = {}): Promise<string> =>
      engine.create(asked.name ?? program, bodyOf((await pulled(program)).tag, asked.host, asked.over));
    const started = async (program: Program, asked: Asked = {}): Promise<string> => {
      const id = await made(program, asked);
      await engine.start(id);
      return id;
    };
    const seen = async (id: string): Promise<InspectedContainer> => {
      const found = await engine.inspect(id);
      if (found === null) throw new Error(`there is no ${id}`);
      return found;
    };
    const ended = (id: string) =>
      until("its end", async () => {
        const found = await seen(id);
        return found.status === "exited" && found;
      });
    const watching = async (): Promise<{ readonly events: EngineEvent[]; readonly ended: Promise<void>; stop(): void }> => {
      const controller = new AbortController();
      watches.push(controller);
      const events: EngineEvent[] = [];
      let over: Promise<void> = Promise.resolve();
      await new Promise<void>((resolve, reject) => {
        over = engine.events({ onOpen: resolve, onEvent: (event) => events.push(event), signal: controller.signal });
        over.catch(reject);
      });
      return { events, ended: over, stop: () => controller.abort() };
    };
    const short = ({ type, action, signal }: EngineEvent) =>
      `${type === "container" ? "" : `${type} `}${action}${signal === null ? "" : ` ${signal}`}`;
    /** Of one thing, once the last of them has come. */
    const eventsOf = (events: readonly EngineEvent[], id: string, last: string) =>
      until(last, () => {
        const words = events.filter((event) => event.id === id).map(short);
        return words.at(-1) === last && words;
      });

    describe("a container", () => {
      test("is created as what was asked for, and does not run", async () => {
        const { tag } = await pulled("web");
        const image = await engine.image(tag);
        const id = await engine.create("web", bodyOf(tag));
        expect(id).toMatch(/^[0-9a-f]{64}$/);
        expect(await seen(id)).toEqual({
          id,
          name: "web",
          labels: { [LABEL]: "1" },
          imageId: image!.id,
          status: "created",
          pid: 0,
          exitCode: 0,
          oomKilled: false,
          health: "none",
          startedWallMs: null,
          finishedWallMs: null,
          healthySinceWallMs: null,
          ports: [],
          tty: false,
        } satisfies InspectedContainer);
      });

      test("whose name is taken is refused, and the refusal says by whom", async () => {
        const id = await made("web");
        const error = await refusalOf(made("web"));
        expect(error).toMatchObject({ code: "conflict", status: 409 });
        expect(/"([0-9a-f]{64})"/.exec(error.message)?.[1]).toBe(id);
        await engine.remove(id);
        await made("web");
      });

      test("without its image is refused, though its name were taken too", async () => {
        await made("web");
        for (const image of ["nope:1", `sha256:${"a".repeat(64)}`, `nope@sha256:${"a".repeat(64)}`])
          expect(await refusalOf(engine.create("web", bodyOf(image)))).toMatchObject({ code: "notFound", status: 404 });
      });

      test("is made from its image's tag, digest and id alike", async () => {
        const { tag, pinned } = await pulled("web");
        const image = await engine.image(tag);
        const ids = [
          await engine.create("by-tag", bodyOf(tag)),
          await engine.create("by-digest", bodyOf(pinned)),
          await engine.create("by-id", bodyOf(image!.id)),
        ];
        for (const id of ids) expect((await seen(id)).imageId).toBe(image!.id);
      });

      test("runs from its start; a second start changes nothing", async () => {
        const id = await made("web");
        const beforeMs = ground.wallMs();
        await engine.start(id);
        const first = await seen(id);
        expect(first).toMatchObject({ status: "running", exitCode: 0, finishedWallMs: null });
        expect(first.pid).toBeGreaterThan(0);
        expect(first.startedWallMs).toBeGreaterThanOrEqual(beforeMs - WALL_SLACK_MS);
        expect(first.startedWallMs).toBeLessThanOrEqual(ground.wallMs() + WALL_SLACK_MS);
        await engine.start(id);
        expect(await seen(id)).toEqual(first);
      });

      test("that obeys ends by TERM: 143; a second stop changes nothing", async () => {
        const { events } = await watching();
        const id = await started("web");
        await engine.stop(id, 10_000);
        const first = await seen(id);
        expect(first).toMatchObject({ status: "exited", exitCode: 143, oomKilled: false, pid: 0 });
        expect(first.finishedWallMs).toBeGreaterThanOrEqual(first.startedWallMs!);
        await engine.stop(id, 10_000);
        await engine.kill(id);
        expect(await seen(id)).toEqual(first);
        await engine.remove(id);
        expect(await eventsOf(events, id, "destroy")).toEqual(["create", "start", "kill 15", "die", "destroy"]);
      });

      test("that does not obey is killed after the grace, which counts in seconds: 137", async () => {
        const { events } = await watching();
        const id = await started("deaf");
        for (const [graceMs, leastMs] of [
          [1_200, 2_000],
          [0, 0],
        ] as const) {
          const beforeMs = ground.wallMs();
          await engine.stop(id, graceMs);
          expect(ground.wallMs() - beforeMs).toBeGreaterThanOrEqual(leastMs);
          expect(ground.wallMs() - beforeMs).toBeLessThan(leastMs + 1_500);
          expect(await seen(id)).toMatchObject({ status: "exited", exitCode: 137, oomKilled: false });
          await engine.start(id);
        }
        await engine.kill(id);
        await engine.remove(id);
        const stopped = ["start", "kill 15", "kill 9", "die"];
        expect(await eventsOf(events, id, "destroy")).toEqual(["create", ...stopped, ...stopped, "start", "kill 9", "die", "destroy"]);
      });

      test("that is killed ends with 137", async () => {
        const id = await started("web");
        await engine.kill(id);
        expect(await ended(id)).toMatchObject({ exitCode: 137, oomKilled: false });
      });

      test("that ends by itself says how, and is never started again by the engine", async () => {
        const { events } = await watching();
        const crash = await started("crash");
        const job = await started("job");
        expect(await ended(crash)).toMatchObject({ exitCode: 1, oomKilled: false });
        expect(await ended(job)).toMatchObject({ exitCode: 0, oomKilled: false });
        const before = await seen(crash);
        await ground.pause(1_000);
        expect(await seen(crash)).toEqual(before);
        expect(await eventsOf(events, crash, "die")).toEqual(["create", "start", "die"]);
      });

      test("that is started again forgets its exit code and keeps when it ended", async () => {
        const id = await started("web");
        await engine.stop(id, 10_000);
        const first = await seen(id);
        await engine.start(id);
        expect(await seen(id)).toMatchObject({ status: "running", exitCode: 0, finishedWallMs: first.finishedWallMs });
        expect((await seen(id)).startedWallMs).toBeGreaterThanOrEqual(first.finishedWallMs!);
      });

      test("that runs is removed, and is gone for everything but a start", async () => {
        const { events } = await watching();
        const id = await started("web");
        await engine.remove(id);
        expect(await engine.inspect(id)).toBeNull();
        expect(await engine.listByLabel(LABEL)).toEqual([]);
        await engine.stop(id, 1_000);
        await engine.kill(id);
        await engine.remove(id);
        const error = await refusalOf(engine.start(id));
        expect(error).toMatchObject({ code: "notFound", status: 404, message: expect.stringContaining("No such container") });
        expect(await eventsOf(events, id, "destroy")).toEqual(["create", "start", "kill 9", "die", "destroy"]);
      });

      test("that never ran is stopped and killed without a word", async () => {
        const id = await made("web");
        await engine.stop(id, 1_000);
        await engine.kill(id);
        expect((await seen(id)).status).toBe("created");
      });

      test.each(["kill", "stop", "remove"] as const)("that is being started: %s waits for that, and looks do too", async (how) => {
        const id = await made("web");
        const start = engine.start(id);
        await ground.pause(40);
        const look = engine.inspect(id);
        const end = how === "stop" ? engine.stop(id, 10_000) : engine[how](id);
        await Promise.all([start, end]);
        // Which of the two waited less long is the engine's.
        expect(["running", "exited", undefined]).toContain((await look)?.status);
        if (how === "remove") expect(await engine.inspect(id)).toBeNull();
        else expect(await ended(id)).toMatchObject({ exitCode: how === "kill" ? 137 : 143 });
      });

      test("is listed by its label, the newest first, whether it runs or not", async () => {
        const first = await made("web", { name: "first" });
        const second = await started("web", { name: "second" });
        await made("web", { name: "other", over: { Labels: { other: "1" } } });
        expect(await engine.listByLabel(LABEL)).toEqual([
          { id: second, names: ["second"], labels: { [LABEL]: "1" }, status: "running" },
          { id: first, names: ["first"], labels: { [LABEL]: "1" }, status: "created" },
        ]);
      });

      test("is healthy from its first good probe on, and not once it has ended", async () => {
        const { events } = await watching();
        const Healthcheck = { Test: ["CMD", "/bin/true"], Interval: 1_000_000_000, Retries: 1 };
        const id = await made("web", { over: { Healthcheck } });
        expect((await seen(id)).health).toBe("none");
        await engine.start(id);
        expect(await seen(id)).toMatchObject({ health: "starting", healthySinceWallMs: null });
        const well = await until("its health", async () => {
          const found = await seen(id);
          return found.health === "healthy" && found;
        });
        expect(well.healthySinceWallMs).toBeGreaterThanOrEqual(well.startedWallMs!);
        expect(well.healthySinceWallMs).toBeLessThanOrEqual(ground.wallMs() + WALL_SLACK_MS);
        expect(await eventsOf(events, id, "health_status: healthy")).toEqual(["create", "start", "health_status: healthy"]);
        await engine.stop(id, 10_000);
        expect(await seen(id)).toMatchObject({ health: "unhealthy", healthySinceWallMs: null });
      });

      test("is not asked for by what is no id", async () => {
        const calls = [
          () => engine.inspect("../x"),
          () => engine.start("web"),
          () => engine.create("a/b", bodyOf("web:1")),
          () => engine.create("a", bodyOf("web:1")),
          () => engine.image("a/../b"),
        ];
        for (const call of calls) expect(await refusalOf(call())).toMatchObject({ code: "invalid" });
      });
    });

    describe("ports", () => {
      const at = (HostIp: string, HostPort: string): { host: Partial<HostConfigBody>; over: Partial<CreateBody> } => ({
        host: { NetworkMode: "bridge", PortBindings: { "80/tcp": [{ HostIp, HostPort }] } },
        over: { ExposedPorts: { "80/tcp": {} } },
      });
      const bound = (...bindings: [string, number][]) =>
        bindings.map(([hostIp, hostPort]) => ({ target: 80, protocol: "tcp", hostIp, hostPort }));

      test("that are taken refuse a start, which leaves the container as it was, with 128", async () => {
        const holder = await started("web", { name: "holder", ...at("", "18080") });
        expect((await seen(holder)).ports).toEqual(bound(["0.0.0.0", 18_080], ["::", 18_080]));
        for (const [index, address] of ["", "127.0.0.1"].entries()) {
          const id = await made("web", { name: `late${index}`, ...at(address, "18080") });
          const error = await refusalOf(engine.start(id));
          expect(error).toMatchObject({ code: "failed", status: 500 });
          expect(error.message).toMatch(/port is already allocated|address already in use/);
          expect(await seen(id)).toMatchObject({ status: "created", exitCode: 128, startedWallMs: null, ports: [] });
        }
        await engine.stop(holder, 10_000);
        expect((await seen(holder)).ports).toEqual([]);
        const next = await started("web", { name: "next", ...at("", "18080") });
        const error = await refusalOf(engine.start(holder));
        expect(error.code).toBe("failed");
        // What it ended with stays.
        expect(await seen(holder)).toMatchObject({ status: "exited", exitCode: 143 });
        expect((await seen(next)).status).toBe("running");
      });

      test("of two addresses are two", async () => {
        const first = await started("web", { name: "first", ...at("127.0.0.1", "18080") });
        const second = await started("web", { name: "second", ...at("127.0.0.2", "18080") });
        expect((await seen(first)).ports).toEqual(bound(["127.0.0.1", 18_080]));
        expect((await seen(second)).ports).toEqual(bound(["127.0.0.2", 18_080]));
      });

      test("that nobody named are given, to each its own", async () => {
        const given = [];
        for (const wanted of ["", "0"])
          given.push((await seen(await started("web", { name: `any${wanted}`, ...at("127.0.0.1", wanted) }))).ports[0]!.hostPort);
        expect(Math.min(...given)).toBeGreaterThan(1_023);
        expect(new Set(given).size).toBe(2);
        // Nor is one given again that has just been given up.
        const [last] = await engine.listByLabel(LABEL);
        await engine.stop(last!.id, 10_000);
        await engine.start(last!.id);
        expect(given).not.toContain((await seen(last!.id)).ports[0]!.hostPort);
      });
    });

    describe("networks", () => {
      const inside = { host: { NetworkMode: "net" }, over: { NetworkingConfig: { EndpointsConfig: { net: { Aliases: ["web"] } } } } };

      test("are there once: the first labels stay; three are the engine's own", async () => {
        const { events } = await watching();
        await engine.createNetwork("net", { a: "1" });
        await engine.createNetwork("net", { a: "2" });
        const sorted = [...(await engine.networks())].sort((one, other) => one.name.localeCompare(other.name));
        expect(sorted).toEqual([
          { name: "bridge", labels: {} },
          { name: "host", labels: {} },
          { name: "net", labels: { a: "1" } },
          { name: "none", labels: {} },
        ]);
        await engine.removeNetwork("net");
        await engine.removeNetwork("net");
        expect((await engine.networks()).map(({ name: one }) => one)).not.toContain("net");
        const words = await until("its end", () => {
          const found = events.filter((event) => event.type === "network" && event.name === "net").map(short);
          return found.length === 2 && found;
        });
        expect(words).toEqual(["network create", "network destroy"]);
        expect(await refusalOf(engine.removeNetwork("bridge"))).toMatchObject({ code: "denied", status: 403 });
      });

      test("that are not there refuse a start", async () => {
        const id = await made("web", inside);
        const error = await refusalOf(engine.start(id));
        expect(error).toMatchObject({ code: "notFound", status: 404, message: expect.stringContaining("network net not found") });
        expect(await seen(id)).toMatchObject({ status: "created", exitCode: 128 });
        await engine.createNetwork("net", {});
        await engine.start(id);
        expect(await seen(id)).toMatchObject({ status: "running", exitCode: 0 });
      });

      test("are kept by containers that run in them, and by no others", async () => {
        await engine.createNetwork("net", {});
        const id = await started("web", inside);
        expect(await refusalOf(engine.removeNetwork("net"))).toMatchObject({
          code: "denied",
          status: 403,
          message: expect.stringContaining("active endpoints"),
        });
        await engine.stop(id, 10_000);
        await engine.removeNetwork("net");
        expect(await refusalOf(engine.start(id))).toMatchObject({ code: "notFound" });
      });
    });

    describe("volumes", () => {
      const mounting = (Source: string) => ({ host: { Mounts: [{ Type: "volume" as const, Source, Target: "/data" }] } });

      test("are there once: the first labels stay", async () => {
        const { events } = await watching();
        await engine.createVolume("data", { a: "1" });
        await engine.createVolume("data", { a: "2" });
        expect(await engine.volumes()).toEqual([{ name: "data", driver: "local", labels: { a: "1" } }]);
        await engine.removeVolume("data");
        await engine.removeVolume("data");
        expect(await engine.volumes()).toEqual([]);
        expect(await eventsOf(events, "data", "volume destroy")).toEqual(["volume create", "volume create", "volume destroy"]);
        expect(events[0]!.name).toBe("");
      });

      test("are made with the container that names them, and kept by it until it is removed", async () => {
        const id = await made("web", mounting("data"));
        expect(await engine.volumes()).toEqual([{ name: "data", driver: "local", labels: {} }]);
        expect(await refusalOf(engine.removeVolume("data"))).toMatchObject({ code: "inUse", status: 409 });
        await engine.remove(id);
        expect((await engine.volumes()).length).toBe(1);
        await engine.removeVolume("data");
      });
    });

    describe("images", () => {
      test("come by pulling, with progress; by a digest without a tag", async () => {
        const [one, other] = [await ground.push("web", "one:1", "one"), await ground.push("web", "other:1", "other")];
        expect(await engine.image(one.tag)).toBeNull();
        const progress: { currentBytes: number; totalBytes: number }[] = [];
        await engine.pull(one.tag, { login: null, signal: new AbortController().signal, onProgress: (said) => progress.push(said) });
        expect(progress.length).toBeGreaterThan(0);
        for (const { currentBytes, totalBytes } of progress) expect(currentBytes).toBeLessThanOrEqual(totalBytes);
        const found = await engine.image(one.tag);
        expect(found).toEqual({ id: expect.stringMatching(/^sha256:[0-9a-f]{64}$/), digests: [one.pinned], tags: [one.tag] });
        expect(await engine.image(one.pinned)).toEqual(found);
        expect(await engine.image(found!.id)).toEqual(found);
        await pull(other.pinned);
        expect(await engine.image(other.pinned)).toMatchObject({ digests: [other.pinned], tags: [] });
        expect(await engine.image(other.tag)).toBeNull();
        await pull(one.tag);
        expect(await engine.image(one.tag)).toEqual(found);
      });

      test("that are nowhere, are not given away, or cannot be reached: each its own refusal", async () => {
        const { tag, pinned } = await ground.push("web", "web:1");
        for (const unknown of [
          tag.replace(/:1$/, ":99"),
          tag.replace("web:1", "nowhere:1"),
          `${pinned.split("@")[0]}@sha256:${"a".repeat(64)}`,
        ])
          expect(await refusalOf(pull(unknown)), unknown).toMatchObject({ code: "notFound", status: 404 });
        for (const [how, code] of [
          ["denied", "denied"],
          ["away", "failed"],
        ] as const) {
          const refusing = await ground.refusing(how);
          expect(await refusalOf(pull(refusing.tag)), how).toMatchObject({ code, status: 500 });
          await refusing.mend();
        }
      });

      test("whose pull is called off do not come", async () => {
        const { tag } = await ground.pushLarge("large:1");
        const controller = new AbortController();
        const off = refusalOf(pull(tag, controller.signal));
        await ground.pause(50);
        controller.abort();
        expect(await off).toMatchObject({ code: "aborted" });
        await ground.pause(2_000);
        expect(await engine.image(tag)).toBeNull();
        expect(await refusalOf(pull(tag, controller.signal))).toMatchObject({ code: "aborted" });
      });

      test("whose tag has moved stay by their digest and their id", async () => {
        const first = await ground.push("web", "move:1", "first");
        await pull(first.tag);
        const before = await engine.image(first.tag);
        const second = await ground.push("web", "move:1", "second");
        await pull(second.tag);
        expect(await engine.image(second.tag)).toMatchObject({ digests: [second.pinned], tags: [second.tag] });
        expect(await engine.image(before!.id)).toEqual({ id: before!.id, digests: [first.pinned], tags: [] });
        expect((await engine.image(first.pinned))?.id).toBe(before!.id);
        await engine.removeImage(before!.id);
        expect(await engine.image(before!.id)).toBeNull();
        expect(await engine.image(second.tag)).not.toBeNull();
      });

      test("are removed with their last name, and kept by containers, those that are stopped too", async () => {
        const { events } = await watching();
        const { tag, pinned } = await ground.push("web", "kept:1", "kept");
        await pull(tag);
        const { id } = (await engine.image(tag))!;
        const container = await engine.create("kept", bodyOf(tag));
        for (const reference of [tag, pinned, id])
          expect(await refusalOf(engine.removeImage(reference)), reference).toMatchObject({ code: "inUse", status: 409 });
        await engine.remove(container);
        await engine.removeImage(tag);
        for (const reference of [tag, pinned, id]) expect(await engine.image(reference), reference).toBeNull();
        await engine.removeImage(tag);
        const words = await until("its end", () => {
          const found = events.filter((event) => event.type === "image" && event.id === id);
          return found.some(({ action }) => action === "delete") && found;
        });
        expect(words.map(short)).toEqual(["image untag", "image delete"]);
        expect(words[0]!.name).toBe(id);
      });

      test("with two names lose one, though a container is made from them", async () => {
        const one = await ground.push("web", "twice:1", "twice");
        const two = await ground.push("web", "twice:2", "twice");
        await pull(one.tag);
        await pull(two.tag);
        const { id, tags } = (await engine.image(one.tag))!;
        expect([...tags].sort()).toEqual([one.tag, two.tag]);
        const container = await engine.create("twice", bodyOf(one.tag));
        await engine.removeImage(one.tag);
        expect(await engine.image(one.tag)).toBeNull();
        expect((await engine.image(two.tag))?.id).toBe(id);
        expect(await refusalOf(engine.removeImage(two.tag))).toMatchObject({ code: "inUse" });
        await engine.remove(container);
        await engine.removeImage(two.tag);
        expect(await engine.image(id)).toBeNull();
      });
    });

    describe("events", () => {
      test("come in their order, with their time, to each who listens", async () => {
        const first = await watching();
        const second = await watching();
        const id = await started("web");
        await engine.kill(id);
        await engine.remove(id);
        for (const { events } of [first, second]) {
          expect(await eventsOf(events, id, "destroy")).toEqual(["create", "start", "kill 9", "die", "destroy"]);
          const ours = events.filter((event) => event.id === id);
          expect(ours.map((event) => event.name)).toEqual(ours.map(() => "web"));
          const times = ours.map(({ time }) => BigInt(time));
          expect([...times].sort((one, other) => (one < other ? -1 : one > other ? 1 : 0))).toEqual(times);
          expect(Math.abs(Number(times[0]! / 1_000_000n) - ground.wallMs())).toBeLessThan(10_000);
        }
      });

      test("end with their signal, and bring nothing of what was before", async () => {
        const id = await made("web");
        const { events, ended: over, stop } = await watching();
        stop();
        await over;
        await engine.start(id);
        expect(events).toEqual([]);
      });
    });

    describe("an engine that is away", () => {
      const outage = async (how: "stop" | "kill" | "power") => {
        const { events, ended: over } = await watching();
        await ground.down(how);
        // The stream has an end, not an error: what was missed is listed.
        await over;
        expect(await refusalOf(engine.info())).toMatchObject({ code: "unreachable" });
        const signal = new AbortController().signal;
        expect(await refusalOf(engine.events({ onOpen: () => {}, onEvent: () => {}, signal }))).toMatchObject({ code: "unreachable" });
        await ground.up();
        await until("the engine", () => engine.info().catch(() => false as const));
        return events;
      };
      const ends = async (how: "stop" | "kill" | "power") => {
        const web = await started("web", { name: "web" });
        const deaf = await started("deaf", { name: "deaf" });
        const events = await outage(how);
        return {
          events,
          web,
          deaf,
          exits: [(await seen(web)).exitCode, (await seen(deaf)).exitCode],
          statuses: [(await seen(web)).status, (await seen(deaf)).status],
        };
      };

      test("having been stopped: it has ended its containers first, and said so", async () => {
        const { events, web, deaf, exits, statuses } = await ends("stop");
        expect([exits, statuses]).toEqual([
          [143, 137],
          ["exited", "exited"],
        ]);
        expect(events.filter(({ id }) => id === web).map(short)).toEqual(["kill 15", "die"]);
        expect(events.filter(({ id }) => id === deaf).map(short)).toEqual(["kill 15", "kill 9", "die"]);
      });

      test("having been killed: the next one ends what it finds, and nobody hears it", async () => {
        const { events, exits, statuses } = await ends("kill");
        expect([exits, statuses, events]).toEqual([[143, 137], ["exited", "exited"], []]);
      });

      test("having lost its power: 255, and nothing starts by itself", async () => {
        const { events, exits, statuses } = await ends("power");
        expect([exits, statuses, events]).toEqual([[255, 255], ["exited", "exited"], []]);
      });

      test("cuts off a pull, which says that the engine is gone", async () => {
        const { tag } = await ground.pushLarge("cut:1");
        const cut = refusalOf(pull(tag));
        await ground.pause(50);
        await ground.down("kill");
        expect(await cut).toMatchObject({ code: "unreachable" });
        await ground.up();
      });
    });

    test("an engine that hangs does nothing and says nothing, neither what was under way nor what happens meanwhile", async () => {
      const { events } = await watching();
      const { tag } = await pulled("web");
      const waits = await made("web", { name: "waits" });
      const obeys = await started("web", { name: "obeys" });
      const dies = await started("web", { name: "dies" });
      const deaf = await started("deaf");
      const large = await ground.pushLarge("hang:1");
      const crash = await started("crash");
      const answeredMs: number[] = [];
      const answered = (call: Promise<unknown>) => call.then(() => void answeredMs.push(ground.wallMs()));
      const onProgress = () => void answeredMs.push(ground.wallMs());
      const pulling = engine.pull(large.tag, { login: null, signal: new AbortController().signal, onProgress });
      const calls = [pulling, engine.start(waits), engine.stop(obeys, 10_000), engine.stop(deaf, 1_000)].map(answered);
      await ground.pause(20);
      calls.push(answered(engine.kill(dies)), answered(engine.create("late", bodyOf(tag))));
      await ground.pause(3);
      ground.freeze();
      // What it said before is on its way to a reader that may have little time.
      await ground.pause(200);
      const frozenMs = ground.wallMs();
      await ground.pause(2_300);
      const thawedMs = ground.wallMs();
      ground.thaw();
      await Promise.all(calls);
      expect(await eventsOf(events, crash, "die")).toEqual(["create", "start", "die"]);
      expect(await eventsOf(events, deaf, "die")).toEqual(["create", "start", "kill 15", "kill 9", "die"]);
      const saidMs = events.map(({ time }) => Number(BigInt(time) / 1_000_000n));
      const doneMs = [(await seen(waits)).startedWallMs!, (await ended(dies)).finishedWallMs!];
      expect([...answeredMs, ...saidMs, ...doneMs].filter((atMs) => atMs > frozenMs && atMs < thawedMs)).toEqual([]);
      // The process itself did not wait.
      expect((await seen(crash)).finishedWallMs).toBeLessThan(thawedMs);
    });

    test("an engine that hangs: reads give up after their time, a write is carried out when it goes on", async () => {
      const id = await made("web");
      ground.freeze();
      const reads = [engine.info(), engine.listByLabel(LABEL), engine.inspect(id), engine.networks()];
      for (const error of await Promise.all(reads.map(refusalOf))) expect(error).toMatchObject({ code: "timeout", status: null });
      const start = engine.start(id);
      await ground.pause(500);
      ground.thaw();
      await start;
      expect((await seen(id)).status).toBe("running");
    });
  });

  describe(`an engine with live-restore: ${name}`, () => {
    let ground: EngineGround;
    beforeAll(async () => {
      ground = await make({ live: true });
    });
    afterAll(() => ground?.close());

    test.each(["stop", "kill"] as const)("leaves its containers alone when it goes (%s), and knows what became of them", async (how) => {
      const engine = await ground.clean();
      const ids: Record<string, string> = {};
      for (const program of ["web", "crash"] as const) {
        const { tag } = await ground.push(program, `${program}:1`);
        await engine.pull(tag, { login: null, signal: new AbortController().signal, onProgress: () => {} });
        ids[program] = await engine.create(program, bodyOf(tag));
        await engine.start(ids[program]);
      }
      const before = await engine.inspect(ids.web!);
      await ground.down(how);
      const downMs = ground.wallMs();
      await ground.pause(2_000);
      await ground.up();
      expect(await engine.inspect(ids.web!)).toEqual(before);
      const crashed = await engine.inspect(ids.crash!);
      expect(crashed).toMatchObject({ status: "exited", exitCode: 1 });
      // When it ended, not when that was noticed.
      expect(crashed!.finishedWallMs! - downMs).toBeLessThan(1_500);
    });
  });
}
