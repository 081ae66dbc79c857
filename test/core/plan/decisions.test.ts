/** One plan each: what is decided, and when the planner wants to be called again. */
import { describe, expect, test } from "vitest";
import type { Change } from "../../../shared/plan/change.ts";
import { lintPlan } from "../../../shared/plan/lint-plan.ts";
import { planCluster } from "../../../shared/plan/plan-cluster.ts";
import type { NodeId } from "../../../shared/model/name.ts";
import { nodeId, type ReplicaRow, START_MS, type World, world } from "./world.ts";

const planOf = (made: World) => planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" });
/** "assign web/0 n1 initial", "stop web/1 n2 scale", … */
const words = (made: World): string[] => {
  const nameOf = (id: string | null) => made.nodeRows.find((node) => node.id === id)?.name ?? "-";
  return planOf(made).changes.map((change: Change) => {
    if (change.kind === "assign") return `assign ${change.service}/${change.slot} ${nameOf(change.nodeId)} ${change.reason}`;
    if (change.kind === "stop" || change.kind === "end") {
      const row = made.replicas.find(({ id }) => id === change.replica)!;
      return `${change.kind} ${row.service}/${row.slot} ${nameOf(row.nodeId)} ${change.reason}`;
    }
    if (change.kind === "resolver" || change.kind === "bindVolume") return `${change.kind} ${nameOf(change.nodeId)}`;
    return change.kind === "deployment" ? change.state : change.kind;
  });
};
const starting = { state: "starting", readySinceMs: null, assignedMs: START_MS - 20_000 } as const;
const rejected = { state: "rejected", readySinceMs: null } as const;
const data = [{ name: "data", engineName: "e", readOnly: false }];
/** A group at home on n2, where web does not get ready; where it came from it serves. */
const apart = (web: Partial<ReplicaRow>): World =>
  world()
    .nodes(2)
    .service("web", { colocate: true })
    .service("api", { colocate: true })
    .replica("web", 0, "n1")
    .replica("web", 0, "n2", { state: "starting", readySinceMs: null, ...web })
    .replica("api", 0, "n2");
/** A deployment of the same spec, tried again, had kept what served; it restarted three times in its life. */
const kept = (): World =>
  world()
    .nodes(1)
    .app("shop", { revision: 3 })
    .service("db", { revision: 3, volumes: data })
    .volume("db", 0, "n1")
    .replica("db", 0, "n1", { revision: 1, restarts: 3, readySinceMs: null });
/** Of a group at home on n1, a member that n1 rejected is on n2. */
const ahead = (api: Partial<ReplicaRow>): World =>
  world()
    .nodes(3)
    .service("web", { colocate: true })
    .service("api", { colocate: true })
    .replica("web", 0, "n1")
    .replica("api", 0, "n2", { attempt: 1, assignedMs: START_MS - 5_000, ...api });
/** Slot 0 of a service that the app does not have any more left its volume `data` there. */
const left = (made: World, { service, node, namespace = "default" }: { service: string; node: string; namespace?: string }): World => {
  made.volumes.push({ namespace, app: made.apps[0]!.name, service, slot: "0", volume: "data", nodeId: nodeId(node) });
  return made;
};

describe("when to look again", () => {
  test.for<[string, number | null, () => World]>([
    ["nothing is due", null, () => world().nodes(1).service("web").replica("web", 0, "n1")],
    [
      "a new replica's deadline",
      280_000,
      () =>
        world()
          .nodes(1)
          .service("web")
          .deployment({ startedMs: START_MS - 60_000 })
          .replica("web", 0, "n1", starting),
    ],
    [
      "a deadline shorter than that of another service",
      80_000,
      () =>
        world()
          .nodes(1)
          .service("slow", { healthyDeadlineMs: 1_000_000 })
          .service("web", { healthyDeadlineMs: 100_000 })
          .deployment({ startedMs: START_MS - 60_000 })
          .replica("slow", 0, "n1", starting)
          .replica("web", 0, "n1", starting),
    ],
    [
      "a new replica becomes healthy",
      7_000,
      () =>
        world()
          .nodes(1)
          .service("web")
          .deployment()
          .replica("web", 0, "n1", { ...starting, readySinceMs: START_MS - 3_000 }),
    ],
    [
      "its time is the service's own",
      27_000,
      () =>
        world()
          .nodes(1)
          .service("web", { minHealthyMs: 30_000 })
          .deployment()
          .replica("web", 0, "n1", { ...starting, readySinceMs: START_MS - 3_000 }),
    ],
    [
      "the first back-off",
      10_000,
      () =>
        world()
          .nodes(2)
          .service("web")
          .replica("web", 0, "n1", { ...rejected, assignedMs: START_MS - 20_000 }),
    ],
    [
      "the third back-off",
      100_000,
      () =>
        world()
          .nodes(2)
          .service("web")
          .replica("web", 0, "n1", { ...rejected, assignedMs: START_MS - 20_000, attempt: 2 }),
    ],
    [
      "the longest back-off",
      3_580_000,
      () =>
        world()
          .nodes(2)
          .service("web")
          .replica("web", 0, "n1", { ...rejected, assignedMs: START_MS - 20_000, attempt: 30 }),
    ],
    [
      "the pause between batches",
      45_000,
      () =>
        world()
          .nodes(3)
          .service("web", { replicas: 2, delayMs: 60_000, spec: "v2" })
          .replica("web", 0, "n1", { readySinceMs: START_MS - 25_000 })
          .replica("web", 1, "n2", { spec: "v1" }),
    ],
    ["a slot that fits nowhere", 300_000, () => world().nodes(1).service("web", { memoryMiB: 10_000 }).deployment()],
  ])("%s", ([, inMs, make]) => {
    const { wakeAtMs } = planOf(make());
    expect(wakeAtMs === null ? null : wakeAtMs - START_MS).toBe(inMs);
  });
});

describe("what is decided", () => {
  test.for<[string, string[], () => World]>([
    ["a first replica", ["assign web/0 n1 initial"], () => world().nodes(1).service("web")],
    [
      "a slot that lost its row",
      ["assign web/1 n1 replace"],
      () => world().nodes(1).service("web", { replicas: 2 }).replica("web", 0, "n1"),
    ],
    [
      "a returned replica with data",
      ["bindVolume n1", "assign db/0 n1 update"],
      () =>
        world()
          .nodes(2)
          .service("db", { volumes: [...data, { name: "more", engineName: "f", readOnly: false }] })
          .volume("db", 0, "n1")
          .deployment({ fromRevision: 1 }),
    ],
    [
      "a first replica where an earlier app of the name left its data",
      ["assign db/0 n1 initial"],
      () => world().nodes(3).service("db", { volumes: data }).volume("db", 0, "n1").deployment(),
    ],
    [
      "a first replica of a service that takes another's data over",
      ["bindVolume n3", "assign database/0 n3 initial"],
      () => left(world().nodes(3).service("database", { volumes: data }), { service: "db", node: "n3" }).deployment(),
    ],
    [
      "data left by another app's namesake in another namespace",
      ["bindVolume n2", "assign db/0 n2 initial"],
      () => left(world().nodes(3).service("db", { volumes: data }), { service: "db", node: "n1", namespace: "other" }).deployment(),
    ],
    [
      "a group where an earlier app of the name left its data",
      ["assign db/0 n1 initial", "assign web/0 n1 initial"],
      () =>
        world()
          .nodes(3)
          .service("db", { volumes: data, colocate: true })
          .service("web", { colocate: true })
          .volume("db", 0, "n1")
          .deployment(),
    ],
    [
      "data left on a node that is lost: nothing runs, so the deployment goes on",
      [],
      () => world().nodes(3).service("db", { volumes: data }).volume("db", 0, "n2").changeNode("n2", { status: "lost" }).deployment(),
    ],
    [
      "data left on a node that was removed",
      ["bindVolume n3", "assign db/0 n3 initial"],
      () =>
        left(world().nodes(3).service("database", { volumes: data }), { service: "db", node: "n2" })
          .removeNode("n2")
          .changeService("database", { name: "db" })
          .deployment(),
    ],
    [
      "not where a volume of the name is to be deleted",
      ["bindVolume n1", "assign db/0 n1 initial"],
      () => world().nodes(3).service("db", { volumes: data }).drop("n2").drop("n3").deployment(),
    ],
    ["nowhere while the only node has it to delete", [], () => world().nodes(1).service("db", { volumes: data }).drop("n1").deployment()],
    [
      "a group not where a volume of one member is to be deleted",
      ["bindVolume n2", "assign db/0 n2 initial", "assign web/0 n2 initial"],
      () => world().nodes(2).service("db", { volumes: data, colocate: true }).service("web", { colocate: true }).drop("n1").deployment(),
    ],
    [
      "a global service leaves out the node that has it to delete",
      ["bindVolume n2", `assign db/${nodeId("n2")} n2 initial`],
      () => world().nodes(2).service("db", { mode: "global", volumes: data }).drop("n1").deployment(),
    ],
    [
      "what is running does not stop for a place that it could not take again",
      [],
      () =>
        world()
          .nodes(1)
          .service("db", { spec: "v2", volumes: [{ name: "new", engineName: "f", readOnly: false }] })
          .replica("db", 0, "n1", { spec: "v1" })
          .drop("n1", "f")
          .deployment({ fromRevision: 1 }),
    ],
    ["a group waits until the one that went ahead runs", [], () => ahead({ state: "starting", readySinceMs: null })],
    ["and follows it then", ["assign web/0 n2 constraint"], () => ahead({})],
    [
      "the highest slots go",
      ["stop web/2 n1 scale", "stop web/1 n1 scale"],
      () => world().nodes(1).service("web").replica("web", 0, "n1").replica("web", 1, "n1").replica("web", 2, "n1"),
    ],
    [
      "an ended one of them goes at once",
      ["end web/1 n1 scale"],
      () => world().nodes(1).service("web").replica("web", 0, "n1").replica("web", 1, "n1", { state: "failed", readySinceMs: null }),
    ],
    [
      "a slot that is no slot goes",
      ["stop web/01 n1 scale"],
      () => world().nodes(1).service("web").replica("web", 0, "n1").replica("web", "01", "n1"),
    ],
    ["failed for good stays", [], () => world().nodes(1).service("web").replica("web", 0, "n1", { state: "failed", readySinceMs: null })],
    [
      "and is replaced when there is something new to run",
      ["end web/0 n1 update", "assign web/0 n1 update"],
      () => world().nodes(1).service("web", { spec: "v2" }).replica("web", 0, "n1", { spec: "v1", state: "failed", readySinceMs: null }),
    ],
    [
      "of two that ended for good, one on a node that was lost, the one that did its work stays",
      ["end web/0 n1 nodeReturned", "end web/0 n3 nodeReturned"],
      () =>
        world()
          .nodes(3)
          .service("web")
          .replica("web", 0, "n1", { state: "failed", readySinceMs: null })
          .replica("web", 0, "n2", { state: "completed", readySinceMs: null, assignedMs: START_MS - 800_000 })
          .replica("web", 0, "n3", rejected),
    ],
    [
      "an outdated one that returns beside one that failed after its deployment was a success goes",
      ["stop web/0 n1 update"],
      () =>
        world()
          .nodes(2)
          .service("web", { spec: "v2" })
          .replica("web", 0, "n1", { spec: "v1" })
          .replica("web", 0, "n2", { spec: "v2", state: "failed", readySinceMs: null }),
    ],
    [
      "while the deployment goes on that is its failure, and the outdated one serves on",
      ["end web/0 n2 failedUpdate", "failed"],
      () =>
        world()
          .nodes(2)
          .service("web", { spec: "v2" })
          .replica("web", 0, "n1", { spec: "v1" })
          .replica("web", 0, "n2", { spec: "v2", state: "failed", readySinceMs: null })
          .deployment({ revision: 1, startedMs: START_MS - 20_000, fromRevision: 0 }),
    ],
    [
      "a rejected one after its back-off, elsewhere",
      ["end web/0 n1 replace", "assign web/0 n2 replace"],
      () =>
        world()
          .nodes(2)
          .service("web")
          .replica("web", 0, "n1", { ...rejected, assignedMs: START_MS - 30_000 }),
    ],
    [
      "a rejected one at once when the spec moved",
      ["end web/0 n1 update", "assign web/0 n1 update"],
      () =>
        world()
          .nodes(1)
          .service("web", { spec: "v2" })
          .replica("web", 0, "n1", { ...rejected, spec: "v1", assignedMs: START_MS }),
    ],
    [
      "start-first",
      ["assign web/0 n2 update"],
      () => world().nodes(2).service("web", { spec: "v2" }).replica("web", 0, "n1", { spec: "v1" }),
    ],
    [
      "stop-first by wish",
      ["stop web/0 n1 update"],
      () => world().nodes(2).service("web", { spec: "v2", order: "stop-first" }).replica("web", 0, "n1", { spec: "v1" }),
    ],
    [
      "start-first by wish beside a host port goes to another node",
      ["assign web/0 n2 update"],
      () =>
        world()
          .nodes(2)
          .service("web", { spec: "v2", order: "start-first", hostPorts: [{ port: 80, protocol: "tcp", hostIp: "" }] })
          .replica("web", 0, "n1", { spec: "v1" }),
    ],
    [
      "start-first by wish never stops first",
      [],
      () =>
        world()
          .nodes(1)
          .service("web", { spec: "v2", order: "start-first", hostPorts: [{ port: 80, protocol: "tcp", hostIp: "" }] })
          .replica("web", 0, "n1", { spec: "v1" }),
    ],
    [
      "a colocated slot that serves on another node than its group's waits for its replica there",
      [],
      () => apart({ assignedMs: START_MS - 299_000 }),
    ],
    [
      "and keeps the one that serves when the other has had its time",
      ["stop web/0 n2 nodeReturned"],
      () => apart({ assignedMs: START_MS - 300_000 }),
    ],
    ["a kept replica with restarts behind it is left alone when it is not ready for a moment", [], () => kept()],
    [
      "also while something else of its app is deployed or scaled",
      ["succeeded"],
      () => kept().deployment({ revision: 4, startedMs: START_MS - 20_000, fromRevision: 3 }),
    ],
    [
      "another try of its spec replaces it, and says so",
      ["stop db/0 n1 update"],
      () => kept().deployment({ revision: 3, startedMs: START_MS - 20_000, fromRevision: 1 }),
    ],
    [
      "start-first by wish yields to a volume",
      ["stop db/0 n1 update"],
      () =>
        world()
          .nodes(2)
          .service("db", { spec: "v2", order: "start-first", volumes: data })
          .volume("db", 0, "n1")
          .replica("db", 0, "n1", { spec: "v1" }),
    ],
    [
      "the new image of the same spec",
      ["assign web/0 n2 update"],
      () => world().nodes(2).service("web", { image: "sha256:2" }).replica("web", 0, "n1", { image: "sha256:1" }),
    ],
    [
      "an image that nobody resolved yet is no other image",
      [],
      () => world().nodes(2).service("web").replica("web", 0, "n1", { image: "" }),
    ],
    [
      "what does not serve changes over first",
      ["assign web/1 n3 update"],
      () =>
        world()
          .nodes(3)
          .service("web", { replicas: 2, spec: "v2" })
          .replica("web", 0, "n1", { spec: "v1" })
          .replica("web", 1, "n2", { spec: "v1", readySinceMs: null }),
    ],
    [
      "the old stays until the new is healthy",
      [],
      () =>
        world()
          .nodes(2)
          .service("web", { spec: "v2" })
          .replica("web", 0, "n1", { spec: "v1" })
          .replica("web", 0, "n2", { readySinceMs: START_MS - 9_999 }),
    ],
    [
      "and goes then",
      ["stop web/0 n1 update"],
      () =>
        world()
          .nodes(2)
          .service("web", { spec: "v2" })
          .replica("web", 0, "n1", { spec: "v1" })
          .replica("web", 0, "n2", { readySinceMs: START_MS - 10_000 }),
    ],
    [
      "but not on the word of a node that has not reported",
      [],
      () =>
        world()
          .node("n1")
          .node("n2", { reported: false })
          .service("web", { spec: "v2" })
          .replica("web", 0, "n1", { spec: "v1" })
          .replica("web", 0, "n2"),
    ],
    [
      "nor of one whose engine does not answer",
      [],
      () =>
        world()
          .node("n1")
          .node("n2", { engineReachable: false })
          .service("web", { spec: "v2" })
          .replica("web", 0, "n1", { spec: "v1" })
          .replica("web", 0, "n2"),
    ],
    [
      "nothing is placed where the engine does not answer",
      ["assign web/0 n3 initial", "assign web/1 n1 initial"],
      () => world().nodes(3).changeNode("n2", { engineReachable: false }).service("web", { replicas: 2 }),
    ],
    [
      "a node that has not said yet whether its engine answers is given work",
      ["assign web/0 n1 initial"],
      () => world().node("n1", { reported: false, engineReachable: false }).service("web"),
    ],
    [
      "a stop is not given twice",
      [],
      () =>
        world()
          .nodes(2)
          .service("web")
          .replica("web", 0, "n1")
          .replica("web", 1, "n2", { run: false, state: "stopping", readySinceMs: null }),
    ],
    [
      "a row of a removed node ends, whatever it was told",
      ["end web/0 - nodeRemoved", "assign web/0 n1 nodeRemoved"],
      () => world().nodes(1).service("web").replica("web", 0, "gone", { run: false }),
    ],
    [
      "a label that moved evicts nothing, whatever else the app does",
      ["assign api/0 n1 initial"],
      () =>
        world()
          .nodes(1)
          .node("n2", { labels: { disk: "ssd" }, availability: "active", cpuMillis: 100 })
          .service("web", { constraints: [{ key: "node.labels.disk", operator: "=", values: ["ssd"] }] })
          .replica("web", 0, "n1")
          .service("api", { cpuMillis: 200 }),
    ],
    [
      "no success before what was removed is gone",
      ["stop old/0 n1 removed"],
      () => world().nodes(1).service("web").replica("web", 0, "n1").service("old", { removed: true }).replica("old", 0, "n1").deployment(),
    ],
    [
      "nor while it is stopping",
      [],
      () =>
        world()
          .nodes(1)
          .service("web")
          .replica("web", 0, "n1")
          .service("old", { removed: true })
          .replica("old", 0, "n1", { run: false })
          .deployment(),
    ],
    [
      "unless that is on a lost node",
      ["succeeded"],
      () =>
        world()
          .nodes(1)
          .node("n2", { status: "lost" })
          .service("web")
          .replica("web", 0, "n1")
          .service("old", { removed: true })
          .replica("old", 0, "n2", { run: false })
          .deployment(),
    ],
    [
      "one node is asked what an image is",
      [],
      () =>
        world()
          .nodes(2)
          .service("web", { image: "", resolver: nodeId("n1") })
          .replica("web", 0, "n1", { image: "" }),
    ],
    [
      "another when that one is lost",
      ["resolver n2"],
      () =>
        world()
          .node("n1", { status: "lost" })
          .node("n2")
          .service("web", { replicas: 2, image: "", resolver: nodeId("n1") })
          .replica("web", 0, "n1", { image: "" })
          .replica("web", 0, "n2", { image: "" })
          .replica("web", 1, "n2", { image: "" }),
    ],
    [
      "another for what a failed deployment left of the revision before, when that one has it no more",
      ["resolver n2"],
      () => {
        const made = world()
          .nodes(2)
          .app("shop", { revision: 2 })
          .service("web", { spec: "v2", revision: 2, replicas: 2 })
          .replica("web", 0, "n1", { spec: "v2", revision: 2 })
          .replica("web", 1, "n2", { spec: "v1", revision: 1, image: "", state: "preparing", readySinceMs: null });
        const appId = made.apps[0]!.id;
        made.failed.push({ appId, revision: 2 });
        made.unresolved.push({ appId, revision: 1, spec: "v1", reference: "web:1", resolver: nodeId("n1") });
        return made;
      },
    ],
    [
      "one for two services with the same image",
      ["resolver n1"],
      () =>
        world()
          .nodes(1)
          .service("a", { image: "" })
          .service("b", { image: "" })
          .replica("a", 0, "n1", { image: "" })
          .replica("b", 0, "n1", { image: "" }),
    ],
    [
      "a replica whose service is unknown is stopped",
      ["stop ghost/0 n1 removed"],
      () => {
        const made = world().nodes(1).service("ghost").replica("ghost", 0, "n1");
        made.services = [];
        return made;
      },
    ],
  ])("%s", ([, expected, make]) => {
    expect(words(make()).sort()).toEqual([...expected].sort());
  });
});

describe("what is told", () => {
  test.for<[string, RegExp, () => World]>([
    [
      "data that was left is used",
      /^slot 0 starts on n1 with the data that was left there$/,
      () => world().nodes(3).service("db", { volumes: data }).volume("db", 0, "n1").deployment(),
    ],
    [
      "data that was left is on a lost node",
      /^its data is on n2, which is lost: it waits for that node$/,
      () => world().nodes(3).service("db", { volumes: data }).volume("db", 0, "n2").changeNode("n2", { status: "lost" }),
    ],
    [
      "an older volume of the name is to be deleted",
      /^2 of 2 nodes have yet to delete its volume as an earlier app left it$/,
      () => world().nodes(2).service("db", { volumes: data }).drop("n1").drop("n2"),
    ],
  ])("%s", ([, expected, make]) => {
    const { waiting, unplaced } = planOf(make()).explanations[0]!;
    expect([...waiting, ...unplaced.map(({ message }) => message)]).toEqual([expect.stringMatching(expected)]);
  });
});

test.for<[string, string]>([
  ["node.name", "n2"],
  ["node.id", nodeId("n2")],
  ["node.site", "berlin"],
  ["node.arch", "arm64"],
  ["node.os", "linux"],
  ["node.hostname", "host-2"],
  ["node.labels.disk", "ssd"],
  ["node.declared.camera", "usb"],
  ["site.labels.country", "de"],
])("a constraint on %s is met by the node that has it", ([key, value]) => {
  const made = world()
    .site("berlin", { country: "de" })
    .nodes(3)
    .changeNode("n2", { site: "berlin", arch: "arm64", hostname: "host-2", labels: { disk: "ssd" }, declared: { camera: "usb" } })
    .changeNode("n3", { labels: { camera: "usb" }, declared: { disk: "ssd" } })
    .service("web", { constraints: [{ key, operator: "=", values: [value] }] });
  const [assign] = planOf(made).changes;
  expect(assign).toMatchObject({ kind: "assign", ...(key === "node.os" ? {} : { nodeId: nodeId("n2") }) });
  expect(lintPlan(made.snapshot(), planOf(made))).toEqual([]);
});

test("an engine that does not answer by the deadline fails a deployment, and is named", () => {
  const made = world()
    .node("n1", { engineReachable: false })
    .service("web")
    .deployment({ startedMs: START_MS - 400_000 })
    .replica("web", 0, "n1", { ...starting, assignedMs: START_MS - 400_000 });
  expect(planOf(made).changes).toEqual([
    expect.objectContaining({
      state: "failed",
      message: "web slot 0 on n1 was not healthy within 300 s: its node's container engine does not answer",
    }),
  ]);
});

describe("after the control plane was away", () => {
  const returned = { atMs: START_MS - 1_000, untilMs: START_MS + 37_000, heard: new Set<NodeId>() };
  const late = { ...starting, assignedMs: START_MS - 400_000 };
  const deploying = () =>
    world()
      .nodes(1)
      .service("web")
      .deployment({ startedMs: START_MS - 400_000 });
  const plan = (made: World, nowMs = START_MS) => planCluster(made.snapshot(), { nowMs, idSeed: "a", returned });

  test("a deadline that passed meanwhile fails nothing before nodes had time to say what became of it", () => {
    const made = deploying().replica("web", 0, "n1", late);
    expect(planOf(made).changes).toEqual([expect.objectContaining({ kind: "deployment", state: "failed" })]);
    expect(plan(made)).toMatchObject({ changes: [], wakeAtMs: START_MS + 2_000 });
    expect(plan(made, returned.untilMs).changes).toEqual([expect.objectContaining({ kind: "deployment", state: "failed" })]);
  });

  test("what was rejected is known, and what was assigned since has its deadline", () => {
    const failed = expect.arrayContaining([expect.objectContaining({ kind: "deployment", state: "failed" })]);
    expect(plan(deploying().replica("web", 0, "n1", { ...late, ...rejected })).changes).toEqual(failed);
    const since = deploying()
      .changeService("web", { planning: { healthyDeadlineMs: 500 } })
      .replica("web", 0, "n1", { ...late, assignedMs: START_MS - 900 });
    expect(plan(since).changes).toEqual(failed);
  });

  test("that one was ready is believed when its node is heard again", () => {
    const made = world().nodes(2).service("web", { spec: "v2" }).replica("web", 0, "n1", { spec: "v1" }).replica("web", 0, "n2");
    const heard = new Set([nodeId("n2")]);
    expect(planOf(made).changes).toHaveLength(1);
    expect(plan(made).changes).toEqual([]);
    expect(planCluster(made.snapshot(), { nowMs: START_MS, idSeed: "a", returned: { ...returned, heard } }).changes).toHaveLength(1);
  });

  test("a slot that found no node because none was heard fails nothing yet", () => {
    const made = world()
      .node("n1", { status: "unreachable" })
      .service("web")
      .deployment({ startedMs: START_MS - 400_000 });
    expect(planOf(made).changes).toEqual([expect.objectContaining({ state: "failed" })]);
    expect(plan(made).changes).toEqual([]);
    expect(plan(made, returned.untilMs).changes).toEqual([expect.objectContaining({ state: "failed" })]);
  });

  test("of two of a slot that are not known to be ready none is given up yet", () => {
    const made = world().nodes(2).service("web").replica("web", 0, "n1", late).replica("web", 0, "n2", late);
    expect(planOf(made).changes).toHaveLength(1);
    expect(plan(made).changes).toEqual([]);
    expect(plan(made, returned.untilMs).changes).toHaveLength(1);
  });
});
