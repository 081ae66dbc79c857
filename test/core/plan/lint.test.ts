/** The linter sees each kind of mistake: a right plan for the world, broken by hand. */
import { expect, test } from "vitest";
import type { Change, ClusterPlan } from "../../../shared/plan/change.ts";
import { lintPlan } from "../../../shared/plan/lint-plan.ts";
import { planCluster } from "../../../shared/plan/plan-cluster.ts";
import { appId, nodeId, type ServiceOptions, type World, world } from "./world.ts";

type Assign = Extract<Change, { kind: "assign" }>;

const base = (options: ServiceOptions = {}) =>
  world()
    .nodes(2, { cpuMillis: 1000, memoryMiB: 1000 })
    .service("web", { replicas: 2, ...options });
const broken = (made: World, changes: (plan: ClusterPlan) => Change[]): [World, ClusterPlan] => {
  const plan = planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" });
  expect(lintPlan(made.snapshot(), plan), "the planner's own").toEqual([]);
  return [made, { ...plan, changes: changes(plan) }];
};
const onto = (node: string) => (plan: ClusterPlan) =>
  plan.changes.map((change) => (change.kind === "assign" || change.kind === "bindVolume" ? { ...change, nodeId: nodeId(node) } : change));
const assigns = (change: Partial<Assign>) => (plan: ClusterPlan) =>
  plan.changes.map((one) => (one.kind === "assign" ? { ...one, ...change } : one));
const assign = (change: Partial<Assign> = {}): Assign => ({
  kind: "assign",
  replica: "r_aaaaaaaaaaaaaaaa",
  appId: appId("shop"),
  service: "web",
  slot: "0",
  nodeId: nodeId("n1"),
  spec: "spec-web-1",
  revision: 1,
  attempt: 0,
  reason: "initial",
  ...change,
});
const stop = (made: World, row: number, node = "n1"): Change => ({
  kind: "stop",
  replica: made.replicas[row]!.id,
  nodeId: nodeId(node),
  reason: "update",
});
const data = [{ name: "data", engineName: "e", readOnly: false }];

test.for<[string, RegExp, () => [World, ClusterPlan]]>([
  ["memory over-committed", /^capacity: n1 would set aside 1200 of 1000 MiB$/, () => broken(base({ memoryMiB: 600 }), onto("n1"))],
  ["cpu over-committed", /^capacity: n1 would set aside 1200 of 1000 millicores$/, () => broken(base({ cpuMillis: 600 }), onto("n1"))],
  [
    "a device promised twice",
    /^capacity: n1 would set aside 2 of 1 gpu$/,
    () =>
      broken(
        base({ devices: { gpu: 1 } })
          .changeNode("n1", { devices: { gpu: 1 } })
          .changeNode("n2", { devices: { gpu: 1 } }),
        onto("n1"),
      ),
  ],
  [
    "a host port twice",
    /^port: n1 would have host port 80\/tcp twice$/,
    () => broken(base({ hostPorts: [{ port: 80, protocol: "tcp", hostIp: "" }] }), onto("n1")),
  ],
  [
    "a cordoned node",
    /^node: web is assigned to n1, which is ready and cordoned$/,
    () => broken(base({ replicas: 1 }).changeNode("n1", { availability: "cordoned" }), onto("n1")),
  ],
  ["a lost node", /^node: .* lost and active$/, () => broken(base({ replicas: 1 }).changeNode("n1", { status: "lost" }), onto("n1"))],
  ["a quarantined node", /^node: .* quarantined$/, () => broken(base({ replicas: 1 }).changeNode("n1", { quarantined: true }), onto("n1"))],
  [
    "a node without its engine",
    /^node: .* does not reach its container engine$/,
    () => broken(base({ replicas: 1 }).changeNode("n1", { engineReachable: false }), onto("n1")),
  ],
  [
    "a tainted node",
    /^node: web does not tolerate gpu of n1$/,
    () => broken(base({ replicas: 1 }).changeNode("n1", { taints: [{ key: "gpu", value: "" }] }), onto("n1")),
  ],
  [
    "a constraint ignored",
    /^node: n1 does not satisfy web's constraint on node.name$/,
    () => broken(base({ replicas: 1, constraints: [{ key: "node.name", operator: "=", values: ["n2"] }] }), onto("n1")),
  ],
  [
    "a slot away from its data",
    /^volume: web slot 0 is assigned to n2, its volume data is on n_/,
    () => broken(base({ replicas: 1, volumes: data }).volume("web", 0, "n1"), onto("n2")),
  ],
  [
    "a slot away from what an earlier service left",
    /^volume: web slot 0 begins on n_\w+, and its data is on n_/,
    () => {
      const made = base({ replicas: 1, volumes: data });
      made.volumes.push({ namespace: "default", app: made.apps[0]!.name, service: "old", slot: "0", volume: "data", nodeId: nodeId("n1") });
      return broken(made, onto("n2"));
    },
  ],
  [
    "a slot where a volume of the name is to be deleted",
    /^volume: web slot 0 is assigned to n1, which has yet to delete /,
    () => broken(base({ replicas: 1, volumes: data }).drop("n1", data[0]!.engineName), onto("n1")),
  ],
  [
    "a slot with data and no binding",
    /^volume: .* bound nowhere$/,
    () => broken(base({ replicas: 1, volumes: data }), (plan) => plan.changes.filter(({ kind }) => kind !== "bindVolume")),
  ],
  ["another spec", /^target: /, () => broken(base({ replicas: 1 }), assigns({ spec: "other" }))],
  ["a slot out of range", /^target: web has no slot 7$/, () => broken(base({ replicas: 1 }), assigns({ slot: "7" }))],
  [
    "an id that is none",
    /^rows: web-1 is not an id/,
    () => broken(base({ replicas: 1 }), assigns({ replica: "web-1" as Assign["replica"] })),
  ],
  ["a node that is not there", /^rows: .* which is not there$/, () => broken(base({ replicas: 1 }), onto("n9"))],
  [
    "a second replica of a served slot",
    /^slot: web slot 0 is served and gets another/,
    () => broken(base({ replicas: 1 }).replica("web", 0, "n1"), () => [assign({ nodeId: nodeId("n2") })]),
  ],
  [
    "a slot twice in one plan",
    /^slot: web slot 0 is assigned 2 times$/,
    () => broken(base({ replicas: 1 }), (plan) => [...plan.changes, assign()]),
  ],
  [
    "a third replica",
    /^slot: web slot 0 would have 3 replicas$/,
    () =>
      broken(base({ replicas: 1 }).replica("web", 0, "n1").replica("web", 0, "n2", { run: false }), () => [assign({ reason: "update" })]),
  ],
  [
    "a second writer",
    /^slot: web slot 0 would have two writers/,
    () =>
      broken(base({ replicas: 1, volumes: data }).volume("web", 0, "n1").replica("web", 0, "n1", { run: false, state: "stopping" }), () => [
        assign(),
      ]),
  ],
  [
    "more taken down than parallelism",
    /^floor: 2 slots of web would lose/,
    () => {
      const made = base().replica("web", 0, "n1").replica("web", 1, "n1");
      return broken(made, () => [stop(made, 0), stop(made, 1)]);
    },
  ],
  [
    "an end of what may still run",
    /^rows: .* ends while n1 may still run it$/,
    () => {
      const made = base({ replicas: 1 }).replica("web", 0, "n1");
      return broken(made, () => [{ ...stop(made, 0), kind: "end" } as Change]);
    },
  ],
  [
    "a stop on the wrong node",
    /^rows: .* is on n_.*, not n_/,
    () => {
      const made = base({ replicas: 1 }).replica("web", 0, "n1");
      return broken(made, () => [stop(made, 0, "n2")]);
    },
  ],
  [
    "a stop of nothing",
    /^rows: 1 replicas leave that are not there$/,
    () => broken(base({ replicas: 1 }), () => [{ kind: "stop", replica: "r_bbbbbbbbbbbbbbbb", nodeId: nodeId("n1"), reason: "scale" }]),
  ],
  [
    "a service removed with replicas",
    /^rows: web is removed while/,
    () => broken(base({ replicas: 1 }).replica("web", 0, "n1"), () => [{ kind: "removeService", appId: appId("shop"), service: "web" }]),
  ],
  [
    "an app removed with services",
    /^rows: app .* is removed before its service web$/,
    () => broken(base({ replicas: 1 }), () => [{ kind: "removeApp", appId: appId("shop") }]),
  ],
  ["more on a node than allowed", /^crowd: n1 would run 2 of web, at most 1 may$/, () => broken(base({ maxPerNode: 1 }), onto("n1"))],
  [
    "a group apart",
    /^colocate: web slot 1/,
    () =>
      broken(base({ colocate: true }), (plan) =>
        plan.changes.map((change) =>
          change.kind === "assign" && change.slot === "1"
            ? { ...change, nodeId: nodeId("n1") }
            : change.kind === "assign"
              ? { ...change, nodeId: nodeId("n2") }
              : change,
        ),
      ),
  ],
])("%s", ([, expected, make]) => {
  const [made, plan] = make();
  expect(lintPlan(made.snapshot(), plan)).toEqual(expect.arrayContaining([expect.stringMatching(expected)]));
});

test("what was lost and returns beside two slots that have done their work meanwhile is stopped at once", () => {
  const old = { spec: "spec-web-0" };
  const made = base();
  for (const slot of [0, 1]) made.replica("web", slot, "n1", old).replica("web", slot, "n2", { state: "completed", readySinceMs: null });
  const plan = planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" });
  expect(plan.changes.map(({ kind }) => kind)).toEqual(["stop", "stop"]);
  expect(lintPlan(made.snapshot(), plan)).toEqual([]);
});
