import { describe, expect, test } from "vitest";
import { NO_RESTARTS } from "../../../shared/converge/record.ts";
import { IMAGE_KEEP_MS, nextSteps } from "../../../shared/converge/steps.ts";
import type { ReplicaView, World } from "../../../shared/converge/world.ts";
import { C1, container, desired, ended, image, NOW, R1, R2, record, ref, started, view, world } from "./world.ts";

const stepsOf = (given: World): string[] =>
  nextSteps(given).steps.map(({ kind, key }) => `${kind} ${key.replace(R1, "R1").replace(R2, "R2")}`);
const one = (given: ReplicaView, changes: Partial<World> = {}): string[] => stepsOf(world({ [R1]: given }, changes));
const never = { condition: "no" } as const;

describe("a new replica, one step at a time", () => {
  const volume = desired({ mounts: [{ kind: "volume", volume: "data", target: "/data" }] }, { app: { volumes: { data: {} } } });

  test.each<[string, Partial<ReplicaView>, Partial<World>, string[]]>([
    ["its image first", {}, { images: new Map() }, ["pull image:web@d"]],
    ["then the app's network", {}, { networks: new Set(), ownNetworks: new Set() }, ["createNetwork network:berth-default-shop"]],
    ["then its volumes", { desired: volume }, {}, ["createVolume volume:berth_default_shop_data"]],
    ["then its config files", { configsWritten: false }, {}, ["writeConfigs replica:R1"]],
    ["then its container", {}, {}, ["create replica:R1"]],
    [
      "a made container is started",
      { container: container({ status: "created" }), record: record({ containerId: C1 }) },
      {},
      ["start replica:R1"],
    ],
    ["a running one needs nothing", { container: container(), record: started() }, {}, []],
    [
      "but a look at its mounts, until they were found right",
      { container: container(), record: started(), areMountsChecked: false },
      {},
      ["checkMounts replica:R1"],
    ],
    ["nor does one that its operator paused", { container: container({ status: "paused" }), record: started() }, {}, []],
    [
      "on the host's network it waits for no other",
      { desired: desired({ networkMode: "host" }) },
      { networks: new Set() },
      ["create replica:R1"],
    ],
    [
      "a volume that it made is used as it is",
      { desired: volume },
      { volumes: new Set(["berth_default_shop_data"]), ownVolumes: new Set(["berth_default_shop_data"]) },
      ["create replica:R1"],
    ],
  ])("%s", (_, changes, given, expected) => {
    expect(one(view(changes), given)).toEqual(expected);
  });

  test("a paused one is left paused, and says who did it", () => {
    const paused = view({ container: container({ status: "paused", readySinceMs: null }), record: started() });
    expect(nextSteps(world({ [R1]: paused })).waiting.get(R1)).toEqual({ reason: "paused", message: "paused by somebody at the engine" });
  });

  test("two replicas share one pull and one network", () => {
    const two = { [R1]: view(), [R2]: view({ desired: desired({}, { ref: { replica: R2 } }) }) };
    expect(stepsOf(world(two, { images: new Map() }))).toEqual(["pull image:web@d"]);
    expect(stepsOf(world(two, { networks: new Set(), ownNetworks: new Set() }))).toEqual(["createNetwork network:berth-default-shop"]);
    expect(stepsOf(world(two))).toEqual(["create replica:R1", "create replica:R2"]);
  });

  test("a replica whose image another node resolves waits, and says so", () => {
    const waiting = view({ desired: desired({}, { ref: { image: image({ digest: null, resolve: false }) } }) });
    const next = nextSteps(world({ [R1]: waiting }, { images: new Map() }));
    expect(next.steps).toEqual([]);
    expect(next.waiting.get(R1)).toEqual({ reason: "imageUnresolved", message: "waiting until another node has resolved web:1" });
  });

  test("the node that shall resolve it pulls the tag", () => {
    const resolving = view({ desired: desired({}, { ref: { image: image({ digest: null, resolve: true }) } }) });
    expect(one(resolving, { images: new Map() })).toEqual(["pull image:web@d"]);
  });

  test("an external volume that is not there is waited for, never made", () => {
    const external = desired(
      { mounts: [{ kind: "volume", volume: "data", target: "/data" }] },
      { app: { volumes: { data: { externalName: "theirs" } } } },
    );
    const next = nextSteps(world({ [R1]: view({ desired: external }) }));
    expect(next.steps).toEqual([]);
    expect(next.waiting.get(R1)?.message).toBe("volume theirs is external and does not exist on this node");
  });
});

describe("what carries the name and is another's", () => {
  const mounts = [{ kind: "volume", volume: "data", target: "/data" } as const];
  const volume = desired({ mounts }, { app: { volumes: { data: {} } } });
  const foreign = { volumes: new Set(["berth_default_shop_data"]) };

  test("a volume is not captured: its replica waits and says what to do", () => {
    const next = nextSteps(world({ [R1]: view({ desired: volume }) }, foreign));
    expect(next.steps).toEqual([]);
    expect(next.waiting.get(R1)?.reason).toBe("volumeTaken");
    expect(next.waiting.get(R1)?.message).toContain("berth_default_shop_data");
  });

  test("nor is a network joined, by a new container or by one that was made", () => {
    const theirs = { ownNetworks: new Set<string>() };
    const made = { container: container({ status: "created" }), record: record({ containerId: C1 }) };
    for (const changes of [{}, made]) {
      const next = nextSteps(world({ [R1]: view(changes) }, theirs));
      expect(next.steps).toEqual([]);
      expect(next.waiting.get(R1)?.reason).toBe("networkTaken");
    }
  });

  test("what runs on it already runs on", () => {
    expect(one(view({ desired: volume, container: container(), record: started() }), { ...foreign, ownNetworks: new Set() })).toEqual([]);
  });

  test("an external volume is anybody's", () => {
    const external = desired({ mounts }, { app: { volumes: { data: { externalName: "theirs" } } } });
    expect(one(view({ desired: external }), { volumes: new Set(["theirs"]) })).toEqual(["create replica:R1"]);
  });

  test("a volume is dropped only when it is ours", () => {
    const given = { ...foreign, dropVolumes: ["berth_default_shop_data"], ownNetworks: new Set<string>() };
    expect(stepsOf(world({}, given))).toEqual([]);
    expect(stepsOf(world({}, { ...given, ownVolumes: foreign.volumes }))).toEqual(["dropVolume volume:berth_default_shop_data"]);
  });
});

describe("what a replica stands on may be going", () => {
  const volume = desired({ mounts: [{ kind: "volume", volume: "data", target: "/data" }] }, { app: { volumes: { data: {} } } });
  const made = { container: container({ status: "created" }), record: record({ containerId: C1 }) };

  test.each<[string, Partial<ReplicaView>, Partial<World>, string[]]>([
    ["a network that is being removed is waited for", {}, { busy: new Set(["network:berth-default-shop"]) }, []],
    ["also by a container that was made on it", made, { busy: new Set(["network:berth-default-shop"]) }, []],
    [
      "a network that went is made again before a start",
      made,
      { networks: new Set(), ownNetworks: new Set() },
      ["createNetwork network:berth-default-shop"],
    ],
    [
      "a volume that is being dropped is waited for",
      { desired: volume },
      { volumes: new Set(["berth_default_shop_data"]), busy: new Set(["volume:berth_default_shop_data"]) },
      [],
    ],
  ])("%s", (_, changes, given, expected) => {
    expect(one(view(changes), given)).toEqual(expected);
  });
});

describe("a manifest that may not be the newest", () => {
  const old = { isManifestConfirmed: false };

  test("stops nothing and removes nothing that it does not name", () => {
    expect(one(view({ desired: null, container: container(), record: started() }), old)).toEqual([]);
    expect(one(view({ desired: null, container: ended(), record: started() }), old)).toEqual([]);
    expect(
      stepsOf(world({}, { ...old, ownNetworks: new Set(["berth-default-gone"]), dropVolumes: ["data"], volumes: new Set(["data"]) })),
    ).toEqual([]);
  });

  test("still runs what it names", () => {
    expect(one(view(), old)).toEqual(["create replica:R1"]);
  });
});

describe("one step a key at a time", () => {
  test("nothing for a replica whose step is under way", () => {
    expect(one(view(), { busy: new Set([`replica:${R1}`]) })).toEqual([]);
  });

  test("nothing for an image that is being pulled", () => {
    expect(one(view(), { images: new Map(), busy: new Set(["image:web@d"]) })).toEqual([]);
  });

  test("a step that failed waits for its time, says why, and wakes for it", () => {
    const retries = new Map([["image:web@d", { count: 2, atMs: NOW + 500, reason: "pullFailed", message: "no route" }]]);
    const next = nextSteps(world({ [R1]: view() }, { images: new Map(), retries }));
    expect(next.steps).toEqual([]);
    expect(next.waiting.get(R1)).toEqual({ reason: "pullFailed", message: "no route" });
    expect(next.wakeAtMs).toBe(NOW + 500);
  });

  test("and is tried again then, still saying why it was late", () => {
    const retries = new Map([["image:web@d", { count: 2, atMs: NOW, reason: "pullFailed", message: "no route" }]]);
    const next = nextSteps(world({ [R1]: view() }, { images: new Map(), retries }));
    expect(next.steps.map(({ kind }) => kind)).toEqual(["pull"]);
    expect(next.waiting.get(R1)?.reason).toBe("pullFailed");
  });
});

describe("a replica whose container ended", () => {
  test.each<[string, Partial<ReplicaView>, string[]]>([
    ["is given a time to start again", { container: ended({ exitCode: 1 }), record: started() }, ["scheduleRestart replica:R1"]],
    ["waits for that time", { container: ended(), record: started({ restartAtMs: NOW + 1 }) }, []],
    ["starts when it has come", { container: ended(), record: started({ restartAtMs: NOW }) }, ["start replica:R1"]],
    [
      "starts at once in a new boot, whatever was left to wait",
      { container: ended(), record: started({ restartAtMs: NOW + 99_999, bootId: "old" }) },
      ["start replica:R1"],
    ],
    ["is made again when somebody removed the container", { container: null, record: started() }, ["create replica:R1"]],
    [
      "fails when somebody removed the container of one that runs once",
      { desired: desired({ restart: never }), container: null, record: started() },
      ["conclude replica:R1"],
    ],
    [
      "has completed when it runs once and ended well",
      { desired: desired({ restart: never }), container: ended({ exitCode: 0 }), record: started() },
      ["conclude replica:R1"],
    ],
    [
      "has completed also when the word of its start was lost",
      { desired: desired({ restart: never }), container: ended({ exitCode: 0 }), record: record({ containerId: C1 }) },
      ["conclude replica:R1"],
    ],
    [
      "is cleared away when the engine could not remove it",
      { container: container({ status: "dead" }), record: started() },
      ["remove replica:R1"],
    ],
    ["is waited for while the engine removes it", { container: container({ status: "removing" }), record: started() }, []],
    [
      "waits after a start that could not run it",
      { container: container({ status: "created" }), record: record({ containerId: C1, restartAtMs: NOW + 5 }) },
      [],
    ],
    ["keeps its container for its log once it is over", { container: ended(), record: started({ state: "failed" }) }, []],
  ])("%s", (_, changes, expected) => {
    expect(one(view(changes))).toEqual(expected);
  });

  test.each(["on-failure", "always"] as const)("made anew for one that somebody removed, it is started after its wait: %s", (condition) => {
    const made = container({ status: "created", readySinceMs: null });
    const given = view({ desired: desired({ restart: { condition, delayMs: 500, attemptsMax: 1 } }), container: made, record: started() });
    expect(nextSteps(world({ [R1]: given })).steps).toEqual([
      { kind: "scheduleRestart", key: `replica:${R1}`, replica: R1, atMs: NOW + 500, memory: { ...NO_RESTARTS, restarts: 1 } },
    ]);
  });

  test("the restart of a new boot begins a new window and keeps the count", () => {
    const memory = { restarts: 9, streak: 5, windowRestarts: 4, windowSinceMs: 123 };
    const given = view({ container: ended({ exitCode: 137 }), record: started({ bootId: "old", memory }) });
    expect(nextSteps(world({ [R1]: given })).steps).toEqual([
      {
        kind: "scheduleRestart",
        key: `replica:${R1}`,
        replica: R1,
        atMs: NOW,
        memory: { restarts: 9, streak: 0, windowRestarts: 0, windowSinceMs: 0 },
      },
    ]);
  });

  test("while it waits it says why it ended and when it starts", () => {
    const given = view({
      container: ended({ exitCode: 1 }),
      record: started({ restartAtMs: NOW + 4_000, message: "ended with exit code 1" }),
    });
    const next = nextSteps(world({ [R1]: given }));
    expect(next.waiting.get(R1)).toEqual({ reason: "restarting", message: "ended with exit code 1; starts again in 4 s" });
    expect(next.wakeAtMs).toBe(NOW + 4_000);
  });

  test("a terminal replica is never revived", () => {
    for (const state of ["completed", "stopped", "failed", "rejected"] as const) {
      for (const found of [null, ended(), container({ status: "created" }), container()]) {
        expect(one(view({ container: found, record: started({ state }) }))).toEqual([]);
      }
    }
  });
});

describe("a replica that left the manifest", () => {
  test.each<[string, Partial<ReplicaView>, string[]]>([
    ["is stopped", { container: container(), record: started() }, ["stop replica:R1"]],
    ["then removed", { container: ended(), record: started() }, ["remove replica:R1"]],
    [
      "also when it was never started",
      { container: container({ status: "created" }), record: record({ containerId: C1 }) },
      ["remove replica:R1"],
    ],
    ["then it has stopped", { container: null, record: started() }, ["conclude replica:R1"]],
    [
      "and is remembered until the control plane knows",
      { container: null, record: started({ state: "stopped" }), isAcknowledged: false },
      [],
    ],
    ["and no longer", { container: null, record: started({ state: "stopped" }), isAcknowledged: true }, ["forget replica:R1"]],
    [
      "its container goes even when it had failed before",
      { container: ended(), record: started({ state: "failed" }) },
      ["remove replica:R1"],
    ],
  ])("%s", (_, changes, expected) => {
    expect(one(view({ desired: null, ...changes }))).toEqual([
      ...expected,
      ...(changes.container === null ? ["removeNetwork network:berth-default-shop"] : []),
    ]);
  });
});

describe("a replica that the node's owner forbids", () => {
  const refused = { kind: "refused" as const, ref: ref(), refusal: { reason: "policy", message: "no" } };
  test.each<[string, Partial<ReplicaView>, string[]]>([
    ["is rejected before anything is touched", {}, ["conclude replica:R1"]],
    ["ends first when it runs already", { container: container(), record: started() }, ["stop replica:R1"]],
    ["and is rejected then", { container: ended(), record: started() }, ["conclude replica:R1"]],
  ])("%s", (_, changes, expected) => {
    expect(one(view({ desired: refused, ...changes }), { images: new Map() })).toEqual(expected);
  });
});

describe("while the owner's policy cannot be read", () => {
  const hold = { reason: "policyUnreadable", message: "policy.json is not JSON" };
  const held = { ...desired(), hold };
  test.each<[string, Partial<ReplicaView>, string[]]>([
    ["what runs goes on", { container: container(), record: started() }, []],
    ["what ended is started again", { container: ended(), record: started({ restartAtMs: NOW - 1 }) }, ["start replica:R1"]],
    ["no container is made", {}, []],
  ])("%s", (_, changes, expected) => {
    expect(one(view({ desired: held, ...changes }))).toEqual(expected);
  });

  test("and what waits for it says so", () => {
    expect(nextSteps(world({ [R1]: view({ desired: held }) })).waiting.get(R1)).toEqual(hold);
  });
});

describe("what nothing needs any more", () => {
  test("a network of ours goes, one of others stays", () => {
    expect(stepsOf(world({}, { networks: new Set(["berth-a-b", "theirs"]), ownNetworks: new Set(["berth-a-b"]) }))).toEqual([
      "removeNetwork network:berth-a-b",
    ]);
  });

  test("a network stays while a container that leaves is still there", () => {
    expect(one(view({ desired: null, container: ended(), record: started() }))).toEqual(["remove replica:R1"]);
  });

  test("a volume goes when it is told to and no replica has it", () => {
    const using = desired({ mounts: [{ kind: "volume", volume: "data", target: "/data" }] }, { app: { volumes: { data: {} } } });
    const ownVolumes = new Set(["berth_default_shop_data", "kept"]);
    const given = { volumes: ownVolumes, ownVolumes, dropVolumes: ["berth_default_shop_data", "gone"] };
    expect(stepsOf(world({ [R1]: view({ desired: using, container: container(), record: started() }) }, given))).toEqual([]);
    expect(stepsOf(world({}, { ...given, ownNetworks: new Set() }))).toEqual(["dropVolume volume:berth_default_shop_data"]);
  });

  test("a pulled image goes an hour after its last use, and the agent wakes for it", () => {
    const pulled = (unusedSinceMs: number | null) => [{ reference: "web@d", imageId: "sha256:9", unusedSinceMs }];
    const idle = { ownNetworks: new Set<string>() };
    expect(stepsOf(world({}, { ...idle, pulled: pulled(NOW - IMAGE_KEEP_MS) }))).toEqual(["removeImage image:web@d"]);
    const waiting = nextSteps(world({}, { ...idle, pulled: pulled(NOW - 10) }));
    expect([waiting.steps, waiting.wakeAtMs]).toEqual([[], NOW - 10 + IMAGE_KEEP_MS]);
    expect(stepsOf(world({}, { ...idle, pulled: pulled(null) }))).toEqual([]);
  });

  test("an image in use stays, however long it was not needed", () => {
    const given = view({ container: container(), record: started({ imageId: "sha256:9" }) });
    expect(one(given, { pulled: [{ reference: "web@d", imageId: "sha256:9", unusedSinceMs: 0 }] })).toEqual([]);
  });
});

test("a converged world has no steps and nothing to wake for", () => {
  const next = nextSteps(world({ [R1]: view({ container: container(), record: started() }) }));
  expect(next).toEqual({ steps: [], waiting: new Map(), wakeAtMs: null });
});
