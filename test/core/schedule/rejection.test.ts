/** The sentences of an explanation: one row a filter, each with its number. */
import { expect, test } from "vitest";
import { planCluster } from "../../../shared/plan/plan-cluster.ts";
import { type ServiceOptions, type World, world } from "../plan/world.ts";

const five = () => world().nodes(5);
const first = (options: object) => (made: World) => made.changeNode("n1", options).changeNode("n2", options);

test.for<[string, ServiceOptions, (made: World) => World, string]>([
  ["ready", {}, first({ status: "lost" }), "2 of 5 nodes are not ready"],
  ["ready", {}, (made) => made.changeNode("n1", { status: "unreachable" }), "1 of 5 nodes is not ready"],
  ["active", {}, first({ availability: "cordoned" }), "2 of 5 nodes are cordoned"],
  ["admitted", {}, first({ quarantined: true }), "2 of 5 nodes are quarantined"],
  ["engine", {}, first({ engineReachable: false }), "2 of 5 nodes do not reach their container engine"],
  ["taint", {}, first({ taints: [{ key: "gpu", value: "only" }] }), "2 of 5 nodes have a taint that it does not tolerate"],
  [
    "constraint",
    {
      constraints: [
        { key: "node.labels.disk", operator: "!=", values: ["hdd"] },
        { key: "node.arch", operator: "=", values: ["x64"] },
      ],
    },
    first({ labels: { disk: "hdd" } }),
    "2 of 5 nodes do not satisfy node.labels.disk != hdd and node.arch = x64",
  ],
  [
    "maxPerNode",
    { maxPerNode: 1, replicas: 3 },
    (made) => made.replica("web", 0, "n1").replica("web", 1, "n2"),
    "2 of 5 nodes already run 1 of it, the most allowed on a node",
  ],
  [
    "hostPort",
    { hostPorts: [{ port: 80, protocol: "tcp", hostIp: "" }] },
    (made) => made.service("other", { hostPorts: [{ port: 80, protocol: "tcp", hostIp: "10.0.0.1" }] }).replica("other", 0, "n1"),
    "1 of 5 nodes has host port 80/tcp taken",
  ],
  ["device", { devices: { gpu: 2 } }, (made) => made.changeNode("n3", { devices: { gpu: 2 } }), "4 of 5 nodes lack 2 gpu"],
  ["cpu", { cpuMillis: 3000 }, first({ cpuMillis: 2999 }), "2 of 5 nodes lack 3000 millicores of cpu"],
  ["memory", { memoryMiB: 512 }, first({ memoryMiB: 511 }), "2 of 5 nodes lack 512 MiB of memory"],
])("%s", ([filter, service, change, message]) => {
  const made = change(five().service("web", service));
  const plan = planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" });
  const explanation = plan.explanations.find((candidate) => candidate.service === "web")!;
  expect(explanation.rejected).toMatchObject([{ filter, message }]);
  expect(explanation.unplaced).toEqual([]);
});

test("a slot that fits nowhere says why in one sentence, most rejections first", () => {
  const made = five()
    .changeNode("n1", { status: "lost" })
    .changeNode("n2", { availability: "cordoned" })
    .service("web", { memoryMiB: 100_000, replicas: 2 });
  const { changes, explanations } = planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" });
  expect(changes).toEqual([]);
  expect(explanations[0]!.unplaced).toMatchObject([
    { slots: ["0", "1"], reason: "memory", message: "3 of 5 nodes lack 100000 MiB of memory, 1 is not ready, 1 is cordoned" },
  ]);
});

test("an empty cluster says so", () => {
  const made = world().service("web");
  expect(planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" }).explanations[0]!.unplaced[0]!.message).toBe(
    "the cluster has no nodes",
  );
});

test("a placed slot tells the parts of its score", () => {
  const made = world()
    .nodes(1)
    .service("web", { replicas: 2, spreadBy: ["node.site"], cpuMillis: 1000 });
  const { placed } = planCluster(made.snapshot(), { nowMs: made.nowMs, idSeed: "a" }).explanations[0]!;
  expect(placed.map(({ slot, node, reason, score }) => [slot, node, reason, score])).toEqual([
    ["0", "n1", "initial", { "node.site": 0, replicas: 0, load: 1 }],
    ["1", "n1", "initial", { "node.site": -1, replicas: -1, load: 0.75 }],
  ]);
});
