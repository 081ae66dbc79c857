/** Rollout policies: how many may surge, how many may be missing, canaries, pauses. Each walked to its end in virtual time. */
import { describe, expect, test } from "vitest";
import { Simulation } from "./simulation.ts";
import { type ServiceOptions, world } from "./world.ts";

const serving = (replicas: number, options: ServiceOptions = {}, nodes = 4) => {
  const made = world()
    .nodes(nodes)
    .app("shop")
    .service("web", { replicas, ...options });
  for (let slot = 0; slot < replicas; slot++) made.replica("web", slot, `n${(slot % nodes) + 1}`);
  return made;
};
const running = (sim: Simulation, spec: string) => sim.rows("web").filter((row) => row.run && row.spec === spec).length;
const outcomes = (sim: Simulation) => sim.outcomes.map((outcome) => outcome.state);
const waiting = (sim: Simulation) => sim.lastPlan!.explanations.find(({ service }) => service === "web")?.waiting ?? [];
const deploymentOf = (sim: Simulation) => sim.world.deployments[0]!;
const touch = (sim: Simulation, change: object) => {
  sim.world.deployments = sim.world.deployments.map((deployment) => ({ ...deployment, ...change }));
};

describe("how many change over at a time", () => {
  test.each<{ name: string; planning: Partial<ServiceOptions>; most: number; fewest: number }>([
    { name: "parallelism alone: that many surge, none is missing", planning: { parallelism: 3 }, most: 9, fewest: 6 },
    { name: "maxSurge below parallelism bounds it", planning: { parallelism: 3, maxSurge: 1 }, most: 7, fewest: 6 },
    { name: "no surge: the old ones stop first", planning: { parallelism: 3, maxSurge: 0 }, most: 6, fewest: 3 },
    { name: "no surge and one may be missing", planning: { parallelism: 3, maxSurge: 0, maxUnavailable: 1 }, most: 6, fewest: 5 },
    { name: "both: one surges while one is missing", planning: { parallelism: 4, maxSurge: 1, maxUnavailable: 1 }, most: 7, fewest: 5 },
    { name: "stop-first with two missing", planning: { parallelism: 4, order: "stop-first", maxUnavailable: 2 }, most: 6, fewest: 4 },
  ])("$name", ({ planning, most, fewest }) => {
    const sim = new Simulation(serving(6, planning)).deploy("shop", { web: { spec: "v2" } });
    let seen = 0;
    let floor = 6;
    for (let second = 0; second < 200 && sim.outcomes.length === 0; second++) {
      sim.step();
      seen = Math.max(seen, sim.rows("web").filter((row) => row.run).length);
      floor = Math.min(floor, sim.readySlots("web"));
    }
    expect([seen, floor]).toEqual([most, fewest]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
    expect(running(sim, "v2")).toBe(6);
  });

  test("where no node has room for two, a service that may miss none is not updated, and says so until its progress deadline", () => {
    const sim = new Simulation(
      world().node("n1", { memoryMiB: 1000 }).app("shop").service("web", { memoryMiB: 600 }).replica("web", 0, "n1"),
    );
    sim.deploy("shop", { web: { spec: "v2", planning: { maxUnavailable: 0, progressDeadlineMs: 60_000 } } });
    sim.run(70);
    expect(outcomes(sim)).toEqual(["failed"]);
    expect(sim.outcomes[0]!.message).toMatch(/^web slot 0 cannot be placed: /);
    expect(sim.floor.get("web")).toBe(1);
  });

  test("a slot that is down anyway costs nobody anything: it changes over first and beside another", () => {
    const sim = new Simulation(serving(3, { order: "stop-first", parallelism: 2, maxUnavailable: 1 }));
    sim.world.replicas = sim.world.replicas.map((row) => (row.slot === "1" ? { ...row, readySinceMs: null } : row));
    sim.deploy("shop", { web: { spec: "v2" } });
    expect(sim.step().changes).toMatchObject([{ kind: "stop", replica: sim.rows("web").find(({ slot }) => slot === "1")!.id }]);
  });
});

describe("canaries", () => {
  const trying = (canaries: number, planning: Partial<ServiceOptions> = {}) =>
    new Simulation(serving(4)).deploy("shop", { web: { spec: "v2", planning: { canaries, ...planning } } });

  test("run beside the old ones, all at once, and nothing goes on until they are promoted", () => {
    const sim = trying(2).run(60);
    expect([running(sim, "spec-web-1"), running(sim, "v2")]).toEqual([4, 2]);
    expect(sim.floor.get("web")).toBe(4);
    expect(deploymentOf(sim).canariesHealthy).toBe(true);
    expect(waiting(sim)).toEqual([
      "2 of its slots are on another revision or node than wanted; 2 run as canaries until the deployment is promoted",
    ]);
    sim.run(3_600);
    expect(outcomes(sim), "no deadline runs while it waits for people").toEqual([]);
    touch(sim, { promoted: true, resumedMs: sim.world.nowMs });
    sim.settle();
    expect(running(sim, "v2")).toBe(4);
    expect(sim.floor.get("web")).toBe(4);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("as many as there are replicas is blue/green: promoted, all old ones stop in one plan", () => {
    const sim = trying(4).run(60);
    expect([running(sim, "spec-web-1"), running(sim, "v2")]).toEqual([4, 4]);
    touch(sim, { promoted: true, resumedMs: sim.world.nowMs });
    expect(sim.step().changes.filter(({ kind }) => kind === "stop")).toHaveLength(4);
    sim.settle();
    expect(sim.floor.get("web")).toBe(4);
  });

  test("that do not get healthy fail the deployment, and the old ones have served all along", () => {
    const sim = trying(1, { failureAction: "rollback" });
    sim.behaviours.set("v2", "crash");
    sim.run(200);
    expect(sim.outcomes).toMatchObject([{ state: "failed", rollbackTo: 1 }]);
    expect([running(sim, "spec-web-1"), running(sim, "v2")]).toEqual([4, 0]);
    expect(sim.floor.get("web")).toBe(4);
  });

  test("that get sick again are said to be so", () => {
    const sim = trying(1).run(60);
    expect(deploymentOf(sim).canariesHealthy).toBe(true);
    sim.world.replicas = sim.world.replicas.map((row) => (row.spec === "v2" ? { ...row, readySinceMs: null } : row));
    sim.run(2);
    expect(sim.changesOf("canaries").map(({ areHealthy }) => areHealthy)).toEqual([true, false]);
  });

  test("a scale meanwhile promotes nothing", () => {
    const sim = trying(1).run(60);
    sim.deploy("shop", { web: { replicas: 6 } }, { kind: "scale" }).run(60);
    expect(running(sim, "spec-web-1"), "the old ones go on").toBe(4);
  });

  test("an app's first deployment has nothing to compare with: its replicas are no canaries", () => {
    const sim = new Simulation(world().nodes(3).app("shop").service("web", { replicas: 3, canaries: 1 }).deployment()).settle();
    expect(running(sim, "spec-web-1")).toBe(3);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("a service that did not change has none", () => {
    const made = serving(2, { canaries: 1 }).service("api").replica("api", 0, "n1");
    const sim = new Simulation(made).deploy("shop", { api: { spec: "v2" } }).settle();
    expect(outcomes(sim)).toEqual(["succeeded"]);
    expect(running(sim, "spec-web-1")).toBe(2);
  });
});

describe("paused", () => {
  test("what has begun is finished, nothing is begun, and no deadline runs until it is resumed", () => {
    const sim = new Simulation(serving(4)).deploy("shop", { web: { spec: "v2", planning: { progressDeadlineMs: 60_000 } } }).run(2);
    touch(sim, { paused: true });
    sim.run(600);
    expect([running(sim, "spec-web-1"), running(sim, "v2")]).toEqual([3, 1]);
    expect(waiting(sim)).toEqual(["the deployment is paused: 3 of its slots are on another revision or node than wanted"]);
    expect(outcomes(sim)).toEqual([]);
    touch(sim, { paused: false, resumedMs: sim.world.nowMs });
    sim.settle();
    expect(outcomes(sim)).toEqual(["succeeded"]);
    expect(sim.floor.get("web")).toBe(4);
  });

  test("a lost replica is replaced all the same", () => {
    const sim = new Simulation(serving(4)).deploy("shop", { web: { spec: "v2" } });
    touch(sim, { paused: true });
    sim.run(5);
    sim.lose("n2");
    sim.run(20);
    expect(sim.readySlots("web")).toBe(4);
  });
});

describe("progress deadline", () => {
  test("runs from what last became healthy, not from the start", () => {
    const sim = new Simulation(serving(4)).deploy("shop", {
      web: { spec: "v2", planning: { delayMs: 40_000, progressDeadlineMs: 60_000 } },
    });
    sim.settle();
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });
});

describe("in the order of dependencies", () => {
  const two = (condition: "started" | "healthy" | "completed", db: ServiceOptions = {}) => {
    const made = world()
      .nodes(3)
      .app("shop")
      .service("db", db)
      .service("web", { replicas: 2, dependsOn: [{ service: "db", condition, required: true }] });
    return made.replica("db", 0, "n1").replica("web", 0, "n2").replica("web", 1, "n3");
  };
  const order = (sim: Simulation) => sim.changesOf("assign").map(({ service }) => service);

  test("what depends changes over when its dependency has, where one deployment changes both", () => {
    const sim = new Simulation(two("healthy")).deploy("shop", { db: { spec: "db2" }, web: { spec: "v2" } });
    sim.step();
    expect(order(sim)).toEqual(["db"]);
    expect(waiting(sim)).toEqual(["2 of its slots are on another revision or node than wanted; waits for db to be ready (slot 0 is not)"]);
    sim.settle();
    expect(order(sim)).toEqual(["db", "web", "web"]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("a dependency that the deployment does not change holds up no update, sick as it may be", () => {
    const sim = new Simulation(two("healthy"));
    sim.world.replicas = sim.world.replicas.map((row) => (row.service === "db" ? { ...row, readySinceMs: null } : row));
    sim.behaviours.set("spec-db-1", "neverReady");
    sim.deploy("shop", { web: { spec: "v2" } }).run(60);
    expect(running(sim, "v2")).toBe(2);
  });

  test("a dependency that fits nowhere while what depends holds its place does not hold it up: both change over", () => {
    const made = world().node("n1", { memoryMiB: 1000 }).app("shop").service("db", { memoryMiB: 400 });
    made.service("web", { memoryMiB: 500, dependsOn: [{ service: "db", condition: "healthy", required: true }] });
    const sim = new Simulation(made.replica("db", 0, "n1").replica("web", 0, "n1"));
    const taller = { cpuMillis: 50, memoryMiB: 600, devices: {} };
    const smaller = { cpuMillis: 50, memoryMiB: 200, devices: {} };
    sim.deploy("shop", { db: { spec: "db2", reservation: taller }, web: { spec: "v2", reservation: smaller } }).settle();
    expect(sim.rows("db").map(({ spec }) => spec)).toEqual(["db2"]);
    expect(sim.rows("web").map(({ spec }) => spec)).toEqual(["v2"]);
    expect(outcomes(sim)).toEqual(["succeeded"]);
  });

  test("a job completes first: of a first deployment, and of each that changes it", () => {
    const made = world().nodes(3).app("shop").service("migrate", { ends: true });
    made.service("web", { dependsOn: [{ service: "migrate", condition: "completed", required: true }] });
    const sim = new Simulation(made.deployment());
    sim.behaviours.set("spec-migrate-1", "complete").set("m2", "complete");
    sim.run(1);
    expect(order(sim)).toEqual(["migrate"]);
    sim.settle();
    sim.deploy("shop", { migrate: { spec: "m2" }, web: { spec: "v2" } }).settle();
    expect(order(sim)).toEqual(["migrate", "web", "migrate", "web"]);
    sim.deploy("shop", { web: { spec: "v3" } }).settle();
    expect(order(sim).slice(4), "unchanged, it is not run again").toEqual(["web"]);
    expect(outcomes(sim)).toEqual(["succeeded", "succeeded", "succeeded"]);
  });

  test("a job that fails fails the deployment, and what depends on it was never touched", () => {
    const made = world().nodes(3).app("shop").service("migrate", { ends: true });
    made.service("web", { dependsOn: [{ service: "migrate", condition: "completed", required: true }] });
    const sim = new Simulation(made.deployment());
    sim.behaviours.set("spec-migrate-1", "complete").set("m2", "fail");
    sim.settle();
    sim.deploy("shop", { migrate: { spec: "m2", planning: { failureAction: "rollback" } }, web: { spec: "v2" } }).run(60);
    expect(sim.outcomes.at(-1)).toMatchObject({ state: "failed", rollbackTo: 1 });
    expect(sim.outcomes.at(-1)!.message).toMatch(/^migrate slot 0 on n\d ended in failure/);
    expect(running(sim, "v2")).toBe(0);
  });

  test("a rollback waits for no job", () => {
    const made = world().nodes(3).app("shop").service("migrate", { ends: true, spec: "m2" });
    made.service("web", { dependsOn: [{ service: "migrate", condition: "completed", required: true }] });
    const sim = new Simulation(made.replica("migrate", 0, "n1", { state: "failed", readySinceMs: null }).replica("web", 0, "n2"));
    sim.deploy("shop", { web: { spec: "v0", replicas: 2 } }, { kind: "rollback" }).settle();
    expect(running(sim, "v0")).toBe(2);
    expect(order(sim)).not.toContain("migrate");
  });
});
