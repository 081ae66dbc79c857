/** Scenarios walked to their end in virtual time. Every step also checks `Simulation.checkAlways` and an empty lint. */
import { describe, expect, test } from "vitest";
import { NODE_REPLICAS_MAX } from "../../../shared/schedule/fleet.ts";
import { ASSIGNMENTS_MAX, CREDENTIALS_MAX } from "../../../shared/wire/poll.ts";
import type { ServicePlanning } from "../../../shared/plan/snapshot.ts";
import { Simulation } from "./simulation.ts";
import { nodeId, world } from "./world.ts";

const data = [{ name: "data", engineName: "berth_default_shop_data", readOnly: false }];
const port80 = [{ port: 80, protocol: "tcp", hostIp: "" }] as const;
const outcomes = (sim: Simulation) => sim.outcomes.map((outcome) => outcome.state);

describe("deploy", () => {
  test("a first deployment places all slots at once, over all nodes, and succeeds when they are healthy", () => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { replicas: 6 }).deployment());
    expect(sim.step().changes).toHaveLength(6);
    sim.settle();
    expect(sim.nodesOf("web")).toEqual(["n1", "n1", "n2", "n2", "n3", "n3"]);
    expect(sim.outcomes).toMatchObject([{ state: "succeeded", message: "6 of 6 replicas are healthy or completed", rollbackTo: null }]);
  });

  test("a dependent starts when its dependency is ready", () => {
    const sim = new Simulation(
      world()
        .nodes(2)
        .app("shop")
        .service("db")
        .service("web", { dependsOn: [{ service: "db", condition: "healthy", required: true }] })
        .deployment(),
    );
    sim.step();
    expect(sim.rows("web")).toHaveLength(0);
    expect(sim.lastPlan!.explanations.find(({ service }) => service === "web")!.waiting).toEqual([
      "waits for db to be ready (slot 0 is not)",
    ]);
    sim.settle();
    expect(sim.readySlots("web")).toBe(1);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("a scale that takes the place of a rollout is no success before what that had placed is healthy", () => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { replicas: 2 }).deployment()).settle();
    sim.behaviours.set("v2-web", "neverReady");
    sim.deploy("shop", { web: { spec: "v2-web" } }).run(2);
    expect(sim.rows("web").filter(({ spec }) => spec === "v2-web")).toHaveLength(1);
    sim.deploy("shop", { web: { replicas: 1 } }, { kind: "scale" }).settle();
    expect(outcomes(sim)).toEqual(["succeeded", "failed"]);
    expect(sim.outcomes.at(-1)!.message).toMatch(/^web slot 0 on n\d was not healthy within/);
  });

  test.each(["deploy", "scale"] as const)("a %s that takes the place of another try answers for what that kept", (kind) => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { replicas: 1 }).service("api").deployment()).settle();
    sim.behaviours.set("v2-web", "neverReady");
    sim.deploy("shop", { web: { spec: "v2-web" } }).run(2);
    // The same again: its replica is kept, and is from before.
    sim.deploy("shop", { web: {} }).run(1);
    sim.deploy("shop", { api: { replicas: 2, ...(kind === "deploy" ? { spec: "v2-api" } : {}) } }, { kind }).settle();
    expect(outcomes(sim)).toEqual(["succeeded", "failed"]);
    expect(sim.outcomes.at(-1)!.message).toMatch(/^web slot 0 on n\d was not healthy within/);
  });

  test("a scale while the first deployment's replicas start waits for them", () => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { replicas: 2 }).service("api").deployment());
    sim.step();
    const at = () => sim.outcomes.length;
    sim.deploy("shop", { api: { replicas: 2 } }, { kind: "scale" });
    while (at() === 0) {
      sim.run(1);
      if (at() > 0) expect(sim.readySlots("web")).toBe(2);
    }
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("a node is given so many replicas and no more, however little they reserve, and one set of them is a manifest", () => {
    const sim = new Simulation(world().nodes(2).app("shop").service("web", { replicas: 2_001, cpuMillis: 0, memoryMiB: 0 }).deployment());
    const plan = sim.step();
    expect(plan.changes.filter(({ kind }) => kind === "assign")).toHaveLength(2 * NODE_REPLICAS_MAX);
    expect(plan.explanations[0]!.unplaced).toMatchObject([
      {
        slots: ["2000"],
        reason: "replicas",
        message: "2 of 2 nodes have no place left for 1 more among the 1000 replicas that a node is given",
      },
    ]);
    expect(NODE_REPLICAS_MAX).toBeLessThanOrEqual(Math.min(ASSIGNMENTS_MAX / 2, CREDENTIALS_MAX));
  });

  test("a colocated app is placed on one node", () => {
    const sim = new Simulation(
      world()
        .nodes(4)
        .app("shop")
        .service("web", { colocate: true, replicas: 2 })
        .service("db", { colocate: true })
        .service("cache", { colocate: true })
        .deployment(),
    );
    sim.settle();
    expect(new Set([...sim.nodesOf("web"), ...sim.nodesOf("db"), ...sim.nodesOf("cache")]).size).toBe(1);
  });

  test("a group that no node can hold whole is not placed in part", () => {
    const sim = new Simulation(
      world()
        .nodes(3, { memoryMiB: 1000 })
        .app("shop")
        .service("web", { colocate: true, memoryMiB: 600 })
        .service("db", { colocate: true, memoryMiB: 600 })
        .deployment(),
    );
    const plan = sim.step();
    expect(plan.changes).toEqual([]);
    expect(plan.explanations[0]!.unplaced[0]!.message).toBe(
      "db, web share one node and need 100 millicores and 1200 MiB together: 3 of 3 nodes lack 1200 MiB of memory",
    );
    sim.run(310);
    expect(sim.outcomes).toMatchObject([{ state: "failed", message: expect.stringContaining("cannot be placed") }]);
  });

  test("the first node that is assigned an image resolves it", () => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { replicas: 3, image: "" }).deployment());
    sim.settle();
    const [first] = sim.changesOf("assign");
    expect(sim.changesOf("resolver")).toMatchObject([{ nodeId: first!.nodeId, reference: "nginx:1", revision: 1 }]);
  });

  test("a global service gets a replica on every node, and on one that joins later", () => {
    const sim = new Simulation(world().nodes(2).app("shop").service("agent", { mode: "global" }).deployment());
    sim.settle();
    sim.world.node("n3");
    sim.settle();
    expect(sim.nodesOf("agent")).toEqual(["n1", "n2", "n3"]);
  });
});

describe("a scale after a failure", () => {
  const row = (sim: Simulation, service: string) =>
    sim
      .rows(service)
      .map(({ slot, spec, run, readySinceMs }) => `${slot} ${spec}${run ? "" : " stopping"}${readySinceMs === null ? "" : " ready"}`);
  /** Two slots that stop first serve v1; v2 failed because of api, before it touched them. */
  const failed = (planning: Partial<ServicePlanning> = {}) => {
    const sim = new Simulation(
      world()
        .nodes(3)
        .app("shop")
        .service("api")
        .service("web", {
          replicas: 2,
          order: "stop-first",
          dependsOn: [{ service: "api", condition: "healthy", required: true }],
          ...planning,
        })
        .deployment(),
    ).settle();
    sim.behaviours.set("v2-api", "crash");
    sim.deploy("shop", { api: { spec: "v2-api" } }).run(60);
    sim.world.changeService("web", { spec: "v2", revision: sim.world.apps[0]!.revision });
    sim.run(5);
    expect(outcomes(sim)).toEqual(["succeeded", "failed"]);
    expect(row(sim, "web")).toEqual(["0 spec-web-1 ready", "1 spec-web-1 ready"]);
    return sim;
  };

  test("of another service leaves what serves alone", () => {
    const sim = failed();
    const before = sim.rows("web");
    sim.deploy("shop", { api: { replicas: 2 } }, { kind: "scale" }).settle();
    expect(sim.rows("web")).toEqual(before);
    expect(row(sim, "api")).toEqual(["0 spec-api-1 ready", "1 spec-api-1 ready"]);
    expect(sim.outcomes.at(-1)).toMatchObject({
      state: "succeeded",
      message: "the count is as asked; nothing was updated, because the deployment before it failed",
    });
  });

  test("down stops what is over the count, and nothing else", () => {
    const sim = failed();
    const [kept] = sim.rows("web");
    sim.deploy("shop", { web: { replicas: 1 } }, { kind: "scale" }).settle();
    expect(sim.rows("web")).toEqual([kept]);
    expect(sim.floor.get("web")).toBe(1);
    expect(outcomes(sim).at(-1)).toBe("succeeded");
  });

  test("up places what last worked, though what it depends on is not up to date; the next deploy updates all", () => {
    const sim = failed();
    sim.deploy("shop", { web: { replicas: 3 } }, { kind: "scale" }).settle();
    expect(row(sim, "web")).toEqual(["0 spec-web-1 ready", "1 spec-web-1 ready", "2 spec-web-1 ready"]);
    sim.deploy("shop", { web: { replicas: 4 } }, { kind: "scale" }).settle();
    expect(row(sim, "web")).toHaveLength(4);
    expect(outcomes(sim)).toEqual(["succeeded", "failed", "succeeded", "succeeded"]);
    sim.deploy("shop", { api: { spec: "v3-api" }, web: { spec: "v3" } }).settle();
    expect(row(sim, "web")).toEqual(["0", "1", "2", "3"].map((slot) => `${slot} v3 ready`));
  });

  test("that fails is not rolled back: what the failure left was to stay", () => {
    const sim = failed({ failureAction: "rollback" });
    const before = sim.rows("web");
    sim.behaviours.set("spec-web-1", "crash");
    sim.deploy("shop", { web: { replicas: 3 } }, { kind: "scale" }).run(30);
    expect(sim.outcomes.at(-1)).toMatchObject({ state: "failed", rollbackTo: null, message: expect.stringMatching(/^web slot 2 /) });
    expect(sim.rows("web").filter(({ slot }) => slot !== "2")).toEqual(before);
  });

  test("answers for no replica that was there before it", () => {
    const sim = failed();
    sim.world.replicas = sim.world.replicas.map((one) =>
      one.slot === "1" ? { ...one, state: "starting", restarts: 5, readySinceMs: null } : one,
    );
    sim.behaviours.set("spec-web-1", "ready");
    sim.deploy("shop", { api: { replicas: 2 } }, { kind: "scale" }).run(30);
    expect(outcomes(sim).at(-1)).toBe("succeeded");
  });
});

describe("update", () => {
  const three = () =>
    world().nodes(3).app("shop").service("web", { replicas: 3 }).replica("web", 0, "n1").replica("web", 1, "n2").replica("web", 2, "n3");

  test("start-first never has fewer ready than wanted, and moves one slot at a time", () => {
    const sim = new Simulation(three()).deploy("shop", { web: { spec: "v2" } });
    sim.settle();
    expect(sim.floor.get("web")).toBe(3);
    expect(sim.rows("web").map((row) => row.spec)).toEqual(["v2", "v2", "v2"]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
    const starts = sim.changesOf("assign").map((_, i) => i);
    expect(starts).toHaveLength(3);
  });

  test("parallelism is how many slots move at once, and no more", () => {
    const sim = new Simulation(three()).deploy("shop", { web: { spec: "v2", planning: { parallelism: 2, maxSurge: 2 } } });
    expect(sim.step().changes).toHaveLength(2);
    expect(sim.run(12).changesOf("assign")).toHaveLength(2);
    sim.settle();
    expect(sim.changesOf("assign")).toHaveLength(3);
  });

  test("stop-first for a writable volume: back on its node, old one verified gone before", () => {
    const sim = new Simulation(
      world().nodes(3).app("shop").service("db", { volumes: data }).replica("db", 0, "n2").volume("db", 0, "n2"),
    ).deploy("shop", { db: { spec: "v2" } });
    expect(sim.step().changes).toMatchObject([{ kind: "stop", reason: "update" }]);
    sim.settle();
    expect(sim.nodesOf("db")).toEqual(["n2"]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("stop-first takes down no more than parallelism at a time", () => {
    const sim = new Simulation(
      world()
        .nodes(3)
        .app("shop")
        .service("web", { replicas: 3, hostPorts: port80 })
        .replica("web", 0, "n1")
        .replica("web", 1, "n2")
        .replica("web", 2, "n3"),
    ).deploy("shop", { web: { spec: "v2" } });
    sim.settle();
    expect(sim.floor.get("web")).toBe(2);
    expect(sim.nodesOf("web")).toEqual(["n1", "n2", "n3"]);
  });

  test("start-first by default stops first where no node has room for two", () => {
    const sim = new Simulation(
      world().node("n1", { memoryMiB: 1000 }).app("shop").service("web", { memoryMiB: 600 }).replica("web", 0, "n1"),
    ).deploy("shop", { web: { spec: "v2" } });
    sim.settle();
    expect(sim.rows("web").map((row) => row.spec)).toEqual(["v2"]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("nothing is stopped that could not start again", () => {
    const sim = new Simulation(world().nodes(2).app("shop").service("db", { volumes: data }).replica("db", 0, "n1").volume("db", 0, "n1"));
    sim.world.changeNode("n1", { availability: "cordoned" });
    sim.deploy("shop", { db: { spec: "v2" } });
    sim.run(400);
    expect(sim.rows("db")).toMatchObject([{ spec: "spec-db-1", run: true }]);
    expect(sim.outcomes).toMatchObject([
      { state: "failed", message: "db slot 0 cannot be placed: its data is on n1, which is cordoned: it waits for that node" },
    ]);
  });

  test("a pause between batches is kept", () => {
    const sim = new Simulation(three()).deploy("shop", { web: { spec: "v2", planning: { delayMs: 60_000 } } });
    sim.run(60);
    expect(sim.changesOf("assign")).toHaveLength(1);
    sim.settle();
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("a slot on a lost node does not hold the others up, and takes the new revision elsewhere", () => {
    const sim = new Simulation(three()).lose("n3");
    sim.deploy("shop", { web: { spec: "v2" } }).settle();
    expect(sim.outcomes).toMatchObject([{ state: "succeeded" }]);
    expect(sim.rows("web").filter((row) => row.spec === "v2")).toHaveLength(3);
    sim.comeBack("n3").step();
    sim.report("n3").settle();
    expect(sim.rows("web")).toHaveLength(3);
  });

  test("a new constraint moves replicas within its deployment; a label that moves later does not", () => {
    const sim = new Simulation(three());
    sim.world.changeNode("n1", { labels: { disk: "ssd" } });
    const constraints = [{ key: "node.labels.disk", operator: "=" as const, values: ["ssd"] }];
    sim.deploy("shop", { web: { planning: { constraints } } }).settle();
    expect(sim.nodesOf("web")).toEqual(["n1", "n1", "n1"]);
    expect(sim.floor.get("web")).toBe(3);
    sim.world.changeNode("n1", { labels: {} });
    expect(sim.step().changes).toEqual([]);
  });

  test("a service that becomes global keeps its old slots until the new ones are healthy, and back", () => {
    const sim = new Simulation(three()).deploy("shop", { web: { mode: "global" } });
    sim.settle();
    expect(
      sim
        .rows("web")
        .map((row) => row.slot)
        .sort(),
    ).toEqual(["n1", "n2", "n3"].map(nodeId).sort());
    expect(sim.floor.get("web")).toBeGreaterThanOrEqual(3);
    sim.deploy("shop", { web: { mode: "replicated", replicas: 3 } }).settle();
    expect(
      sim
        .rows("web")
        .map((row) => row.slot)
        .sort(),
    ).toEqual(["0", "1", "2"]);
    expect(sim.floor.get("web")).toBeGreaterThanOrEqual(3);
    expect(outcomes(sim)).toEqual(["succeeded", "succeeded"]);
  });

  test("scaling down takes the highest slots, scaling up is at once", () => {
    const sim = new Simulation(three()).deploy("shop", { web: { replicas: 1 } }, { kind: "scale" });
    sim.settle();
    expect(sim.rows("web").map((row) => row.slot)).toEqual(["0"]);
    sim.deploy("shop", { web: { replicas: 5 } }, { kind: "scale" });
    expect(sim.step().changes).toMatchObject([1, 2, 3, 4].map((slot) => ({ kind: "assign", slot: String(slot), reason: "scale" })));
  });

  test("a removed service is stopped, then its row goes; so does an app", () => {
    const sim = new Simulation(three());
    sim.world.service("old").replica("old", 0, "n1");
    sim.deploy("shop", { old: { removed: true } }).settle();
    expect(sim.changesOf("removeService")).toMatchObject([{ service: "old" }]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
    sim.world.apps = sim.world.apps.map((app) => ({ ...app, deleting: true }));
    sim.settle();
    expect([sim.world.apps, sim.world.services, sim.world.replicas]).toEqual([[], [], []]);
  });
});

describe("failure", () => {
  const two = () => world().nodes(3).app("shop").service("web", { replicas: 2 }).replica("web", 0, "n1").replica("web", 1, "n2");

  test.for([
    ["crash", "restarted 3 times without becoming healthy"],
    ["fail", "ended in failure"],
    ["reject", "was rejected by the node"],
    ["noImage", "cannot start: there is no image web:9"],
    ["neverReady", "was not healthy within 300 s"],
  ] as const)("%s: the deployment fails with the slot and node, and the old replicas serve on", ([behaviour, words]) => {
    const sim = new Simulation(two());
    sim.behaviours.set("v2", behaviour);
    sim.deploy("shop", { web: { spec: "v2" } }).settle();
    expect(sim.outcomes).toMatchObject([
      { state: "failed", rollbackTo: null, message: expect.stringMatching(new RegExp(`^web slot 0 on n[123] ${words}`)) },
    ]);
    expect(sim.floor.get("web")).toBe(2);
    expect(sim.rows("web").map((row) => row.spec)).toEqual(["spec-web-1", "spec-web-1"]);
  });

  test.for([
    ["noImage", "replaced"],
    ["fail", "replaced"],
    ["crash", "left to its restarts, since it gets ready meanwhile"],
  ] as const)("%s: the same again is another try, and what is broken is %s", ([behaviour, becomes]) => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { replicas: 2, spec: "v1" }).deployment());
    sim.behaviours.set("v1", behaviour);
    sim.run(20);
    const broken = sim.rows("web").map((row) => row.id);
    expect(broken).toHaveLength(2);
    sim.behaviours.set("v1", "ready");
    sim.deploy("shop", { web: { spec: "v1" } }).settle();
    expect(sim.outcomes.map(({ state }) => state)).toEqual(["failed", "succeeded"]);
    expect(sim.rows("web").some((row) => broken.includes(row.id))).toBe(becomes !== "replaced");
  });

  test("the same again leaves alone what serves", () => {
    const sim = new Simulation(two());
    const before = sim.rows("web").map((row) => row.id);
    sim.deploy("shop", { web: { spec: "spec-web-1" } }).settle();
    expect(sim.rows("web").map((row) => row.id)).toEqual(before);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("rollback names the revision to return to; a failed rollback does not", () => {
    const sim = new Simulation(two());
    sim.behaviours.set("v2", "fail");
    sim.deploy("shop", { web: { spec: "v2", planning: { failureAction: "rollback" } } }).settle();
    expect(sim.outcomes).toMatchObject([{ state: "failed", rollbackTo: 1 }]);
    sim.deploy("shop", { web: { spec: "v2" } }, { kind: "rollback" }).settle();
    expect(sim.outcomes.at(-1)).toMatchObject({ state: "failed", rollbackTo: null });
  });

  test("after a failure a lost slot is placed again, though nothing is updated", () => {
    const sim = new Simulation(two());
    sim.behaviours.set("v2", "fail");
    sim.deploy("shop", { web: { spec: "v2" } }).settle();
    sim.behaviours.set("v2", "ready");
    sim.lose("n1").run(30);
    expect(sim.rows("web").filter((row) => row.run && row.spec === "v2")).toHaveLength(1);
  });

  test("a deployment superseded while it had two broken replicas of a slot is left behind", () => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web").deployment());
    sim.behaviours.set("spec-web-1", "neverReady").set("v2", "neverReady");
    sim.run(5);
    sim.deploy("shop", { web: { spec: "v2" } }).run(5);
    expect(sim.rows("web").filter((row) => row.run)).toHaveLength(2);
    sim.deploy("shop", { web: { spec: "v3" } }).run(60);
    expect(sim.rows("web").map((row) => [row.spec, row.readySinceMs !== null])).toEqual([["v3", true]]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("a replica that completed stays completed", () => {
    const sim = new Simulation(world().nodes(1).app("shop").service("migrate").deployment());
    sim.behaviours.set("spec-migrate-1", "complete");
    sim.settle();
    expect(outcomes(sim)).toEqual(["succeeded"]);
    expect(sim.rows("migrate")).toMatchObject([{ state: "completed" }]);
  });

  test("a rejected replica goes to another node after a back-off that doubles, one at a time", () => {
    const sim = new Simulation(world().nodes(1).app("shop").service("web"));
    sim.rejectingNodes.add("n1");
    sim.run(1 + 30 + 60 + 120 + 5);
    expect(sim.changesOf("assign").map(({ attempt }) => attempt)).toEqual([0, 1, 2, 3]);
    sim.world.node("n2");
    sim.run(400);
    expect(sim.nodesOf("web")).toEqual(["n2"]);
    expect(sim.rows("web")).toMatchObject([{ attempt: 4, state: "running" }]);
  });
});

describe("nodes", () => {
  const two = () => world().nodes(3).app("shop").service("web", { replicas: 2 }).replica("web", 0, "n1").replica("web", 1, "n2");

  test("unreachable: nothing moves", () => {
    const sim = new Simulation(two()).lose("n1", "unreachable");
    expect(sim.step().changes).toEqual([]);
  });

  test("lost: a replacement elsewhere, the row on the lost node stays; on return the original is kept", () => {
    const sim = new Simulation(two());
    const original = sim.rows("web")[0]!.id;
    sim.lose("n1").settle();
    expect(sim.changesOf("assign")).toMatchObject([{ slot: "0", reason: "nodeLost" }]);
    expect(sim.rows("web")).toHaveLength(3);
    sim.comeBack("n1");
    expect(sim.step().changes, "not before it has reported").toEqual([]);
    sim.report("n1").settle();
    expect(sim.changesOf("stop")).toMatchObject([{ reason: "nodeReturned" }]);
    expect(sim.rows("web").map((row) => row.id)).toContain(original);
    expect(sim.rows("web")).toHaveLength(2);
  });

  test("on return the replacement stays while the original is not ready", () => {
    const sim = new Simulation(two()).lose("n1").settle();
    const original = sim.rows("web").find((row) => row.nodeId === nodeId("n1"))!;
    sim.world.replicas = sim.world.replicas.map((row) => (row === original ? { ...row, readySinceMs: null, state: "running" } : row));
    sim.comeBack("n1").report("n1").step();
    expect(sim.changesOf("stop")).toMatchObject([{ replica: original.id }]);
    expect(sim.readySlots("web")).toBe(2);
  });

  test("of replicas that never become ready, at most two wait for it, and the oldest is kept when their time is over", () => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { spec: "broken" }));
    sim.behaviours.set("broken", "neverReady");
    sim.run(5);
    const original = sim.rows("web")[0]!;
    const alive = () => sim.rows("web").filter((row) => row.run);
    for (let round = 0; round < 4; round += 1) {
      const where = ["n1", "n2", "n3"].find((name) => nodeId(name) === alive().at(-1)!.nodeId)!;
      sim.lose(where).run(5);
      sim.comeBack(where).report(where).run(5);
      expect(alive().length).toBeLessThanOrEqual(2);
    }
    sim.run(400);
    expect(alive().map((row) => row.id)).toEqual([original.id]);
  });

  test("a new slot does not take the node, and the port, of a slot whose data is there", () => {
    const sim = new Simulation(
      world()
        .nodes(3)
        .app("shop")
        .service("db", { volumes: data, hostPorts: port80, spec: "v1" })
        .replica("db", 0, "n1", { spec: "v1" })
        .volume("db", 0, "n1"),
    );
    sim.behaviours.set("v2", "reject");
    sim.deploy("shop", { db: { spec: "v2" } }).run(4);
    sim.deploy("shop", { db: { replicas: 3 } }, { kind: "scale" }).run(20);
    sim.deploy("shop", { db: { spec: "v3" } }).settle();
    expect(sim.nodesOf("db")).toEqual(["n1", "n2", "n3"]);
    expect(sim.readySlots("db")).toBe(3);
  });

  test("a slot with data waits for its lost node", () => {
    const sim = new Simulation(
      world().nodes(2).app("shop").service("db", { volumes: data }).replica("db", 0, "n1").volume("db", 0, "n1"),
    ).lose("n1");
    const plan = sim.step();
    expect(plan.changes).toEqual([]);
    expect(plan.explanations[0]!.unplaced).toMatchObject([
      { slots: ["0"], reason: "volume", message: "its data is on n1, which is lost: it waits for that node" },
    ]);
  });

  test("a deployment of which all slots wait for a lost node is over when the node is back, and says what it waited for", () => {
    const sim = new Simulation(
      world()
        .nodes(2)
        .app("shop")
        .service("db", { volumes: data, spec: "v1" })
        .replica("db", 0, "n1", { spec: "v1" })
        .volume("db", 0, "n1"),
    ).lose("n1");
    sim.deploy("shop", { db: { spec: "v2" } }).run(600);
    expect(sim.outcomes).toEqual([]);
    sim.comeBack("n1").report("n1").settle();
    expect(sim.outcomes).toMatchObject([{ state: "succeeded", message: "1 of 1 replica is healthy or completed" }]);
  });

  test("a deployment neither fails nor waits because of a slot whose data is on a lost node", () => {
    const sim = new Simulation(
      world()
        .nodes(2)
        .app("shop")
        .service("db", { volumes: data, replicas: 2 })
        .replica("db", 1, "n2")
        .volume("db", 0, "n1")
        .volume("db", 1, "n2"),
    ).lose("n1");
    sim.deploy("shop", { db: { spec: "v2" } }).settle();
    expect(sim.outcomes).toMatchObject([
      {
        state: "succeeded",
        message: "1 of 2 replicas are healthy or completed, 1 waits for a lost node and takes this revision when it returns",
      },
    ]);
    sim.comeBack("n1").report("n1").settle();
    expect(sim.nodesOf("db")).toEqual(["n1", "n2"]);
  });

  test.each([
    ["its row had been told to stop", true],
    ["its row has gone", false],
  ])("a dependent does not wait for a slot whose data is on a lost node: %s", (_, isThere) => {
    const dependsOn = [{ service: "db", condition: "healthy" as const, required: true }];
    const made = world().nodes(2).app("shop").service("db", { volumes: data }).service("web", { dependsOn }).deployment();
    made.volume("db", 0, "n1");
    if (isThere) made.replica("db", 0, "n1", { run: false });
    const sim = new Simulation(made).lose("n1");
    sim.step();
    expect(sim.rows("web")).toHaveLength(1);
  });

  test("a slot whose data was on a removed node starts anew, and says so", () => {
    const sim = new Simulation(world().nodes(2).app("shop").service("db", { volumes: data }).replica("db", 0, "n1").volume("db", 0, "n1"));
    sim.world.removeNode("n1");
    const plan = sim.step();
    expect(plan.changes.map(({ kind }) => kind)).toEqual(["end", "bindVolume", "assign"]);
    expect(plan.explanations[0]!.waiting[0]).toContain("its data was on");
    expect(sim.nodesOf("db")).toEqual(["n2"]);
  });

  test("a colocated group moves whole and returns to one node", () => {
    const sim = new Simulation(
      world()
        .nodes(3)
        .app("shop")
        .service("web", { colocate: true })
        .service("api", { colocate: true })
        .replica("web", 0, "n1")
        .replica("api", 0, "n1"),
    );
    sim.lose("n1").settle();
    const homes = () => new Set(sim.world.replicas.filter((row) => row.run && !sim.dark.has(row.nodeId)).map((row) => row.nodeId));
    expect(sim.world.replicas.filter((row) => row.nodeId !== nodeId("n1"))).toHaveLength(2);
    sim.comeBack("n1").step();
    sim.report("n1").settle();
    expect(homes().size).toBe(1);
    expect(sim.world.replicas).toHaveLength(2);
  });

  describe("a colocated group whose node rejects one member", () => {
    const group = (nodes: number) =>
      new Simulation(
        world()
          .nodes(nodes)
          .app("shop")
          .service("web", { colocate: true, replicas: 2 })
          .service("api", { colocate: true })
          .replica("web", 0, "n1")
          .replica("web", 1, "n1")
          .replica("api", 0, "n1", { state: "rejected", readySinceMs: null }),
      );
    const toldOf = (sim: Simulation) => sim.lastPlan!.explanations.flatMap(({ waiting }) => waiting).join("; ");

    test("moves together, the others when it runs there, and none of them is missed", () => {
      const sim = group(3);
      sim.rejectingNodes.add("n1/api");
      sim.step();
      expect(toldOf(sim)).toBe("n1 rejected api slot 0: the app's services move to n2 together, the others when it runs there");
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n1", "n1"], ["n2"]]);
      sim.run(120);
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n2", "n2"], ["n2"]]);
      expect(sim.floor.get("web")).toBe(2);
      sim.settle();
      expect(sim.plan()).toMatchObject({ changes: [], wakeAtMs: null, explanations: [] });
    });

    test("also after the deployment that placed it failed", () => {
      const sim = group(3);
      sim.rejectingNodes.add("n1/api");
      sim.world.failed.push({ appId: sim.world.apps[0]!.id, revision: 1 });
      sim.run(120);
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n2", "n2"], ["n2"]]);
    });

    test("stays while the others could follow only by taking a revision that failed", () => {
      const sim = group(3);
      sim.world.changeService("web", { spec: "v2", revision: 2 });
      sim.world.failed.push({ appId: sim.world.apps[0]!.id, revision: 1 });
      sim.run(120);
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n1", "n1"], ["n1"]]);
    });

    test("goes on to a node that takes it", () => {
      const sim = group(4);
      for (const name of ["n1/api", "n3/api", "n4/api"]) sim.rejectingNodes.add(name);
      sim.run(2_000);
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n2", "n2"], ["n2"]]);
      expect(sim.floor.get("web")).toBe(2);
      const went = Map.groupBy(sim.changesOf("assign"), ({ service }) => service);
      expect(went.get("web")!.every((change) => change.nodeId === nodeId("n2"))).toBe(true);
      expect(went.get("api")!.some((change) => change.nodeId === nodeId("n1"))).toBe(false);
    });

    test("stays, and is tried again, where no other node has room for all", () => {
      const sim = group(1);
      sim.rejectingNodes.add("n1/api");
      sim.step();
      expect(toldOf(sim)).toBe("n1 rejected api slot 0: no other node fits the app's services together, so it is tried again");
      sim.rejectingNodes.clear();
      sim.run(120);
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n1", "n1"], ["n1"]]);
    });

    test("stays where its data is", () => {
      const sim = group(3);
      sim.world
        .changeService("web", { planning: { volumes: data } })
        .volume("web", 0, "n1")
        .volume("web", 1, "n1");
      sim.rejectingNodes.add("n1/api");
      sim.run(300);
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n1", "n1"], ["n1"]]);
    });

    test("all members rejected: all go elsewhere", () => {
      const sim = group(3);
      sim.rejectingNodes.add("n1");
      sim.world.replicas = sim.world.replicas.map((row) => ({ ...row, state: "rejected", readySinceMs: null }));
      sim.run(60);
      expect([sim.nodesOf("web"), sim.nodesOf("api")]).toEqual([["n2", "n2"], ["n2"]]);
    });
  });

  test("a cordoned node keeps what it has and gets nothing", () => {
    const sim = new Simulation(two());
    sim.world.changeNode("n1", { availability: "cordoned" }).changeNode("n3", { availability: "cordoned" });
    sim.deploy("shop", { web: { replicas: 6 } }, { kind: "scale" }).settle();
    expect(sim.nodesOf("web")).toEqual(["n1", "n2", "n2", "n2", "n2", "n2"]);
  });
});
