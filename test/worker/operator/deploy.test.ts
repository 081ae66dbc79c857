import { engineVolumeName } from "../../../shared/model/desire.ts";
import { describe, expect, onTestFinished, test } from "vitest";
import type { App, Deployment, DeployAnswer, Event, Removed } from "../../../shared/api/resources.ts";
import type { AppSpecInput } from "../../../shared/model/app.ts";
import type { Registry } from "../../../worker/ports.ts";
import { rollBack } from "../../../worker/roll-back.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { must } from "../../store/fixtures.ts";
import { makePlanning } from "../../../worker/shard/planning.ts";
import { PlanApplier } from "../../../worker/store/apply-plan.ts";
import { SnapshotKeeper } from "../../../worker/store/snapshot.ts";
import type { ControlPlane } from "../agent/control-plane.ts";
import { appSpec, type List, OTHER, World, type WorldOptions } from "./world.ts";

const APP = "/v1/namespaces/default/apps/shop";
const web = (over: object = {}, service: object = {}): AppSpecInput =>
  appSpec("shop", { services: { web: { workload: { image: "registry.test/web:1", ...over }, ...service } } });
const digest = (letter: string) => `sha256:${letter.repeat(64)}`;

/** Answers what the tags mean as the test says, and remembers what it was asked. */
function registryOf(
  tags: Record<string, string | null>,
): Registry & { asked: { reference: string; credentials: unknown }[]; tags: Record<string, string | null> } {
  const asked: { reference: string; credentials: unknown }[] = [];
  return {
    asked,
    tags,
    resolve: async (reference, { credentials }) => {
      asked.push({ reference, credentials });
      const found = tags[reference];
      return found === undefined || found === null ? null : { digest: found };
    },
  };
}

const start = (options?: WorldOptions) => World.start(options);
const planOf = ({ body }: { body: DeployAnswer }) => body.plan;
const serviceOf = (answer: { body: DeployAnswer }, name = "web") => answer.body.plan.services.find(({ service }) => service === name)!;

describe("PUT app", () => {
  test("makes revision, services and a running deployment in one commit", async () => {
    const world = await start();
    const rev = await world.rev();
    const { body, headers } = await world.deploy(web());
    expect(await world.rev()).toBe(rev + 1);
    expect(body.deployment).toMatchObject({
      app: "shop",
      revision: rev + 1,
      fromRevision: null,
      kind: "deploy",
      state: "running",
      createdBy: "admin-of-all",
    });
    expect(headers.get("berth-rev")).toBe(String(rev + 1));
    const app = await world.get<App>(APP);
    expect(app.body).toMatchObject({
      name: "shop",
      revision: rev + 1,
      deleting: false,
      services: [{ name: "web", wanted: 1, running: 0, image: "registry.test/web:1" }],
    });
  });

  test("of the same again changes nothing and writes no row", async () => {
    const world = await start();
    await world.deploy(web());
    const before = await world.dump();
    const again = await world.deploy(web());
    expect([again.body.plan.unchanged, again.body.deployment]).toEqual([true, null]);
    expect(serviceOf(again).action).toBe("keep");
    expect(await world.dump()).toBe(before);
  });

  test("of the same again after it failed is another try", async () => {
    const world = await start();
    const first = (await world.deploy(web())).body.deployment!;
    await must(world.context.store, {
      changes: [{ op: "update", table: "deployments", rows: [{ id: first.id, state: "failed", finishedMs: NOW, message: "no login" }] }],
    });
    const again = (await world.deploy(web())).body;
    expect([again.plan.unchanged, again.deployment?.state]).toEqual([false, "running"]);
    expect((await world.deploy(web())).body.plan.unchanged).toBe(true);
  });

  test("supersedes the deployment that is under way", async () => {
    const world = await start();
    const first = await world.deploy(web());
    const second = await world.deploy(web({ env: { A: "1" } }));
    const { body } = await world.get<List<Deployment>>("/v1/namespaces/default/deployments");
    expect(body.items.map(({ id, state }) => [id, state])).toEqual([
      [second.body.deployment!.id, "running"],
      [first.body.deployment!.id, "superseded"],
    ]);
    expect((await world.get<Deployment>(`/v1/namespaces/default/deployments/${first.body.deployment!.id}`)).body.finished).not.toBeNull();
  });

  test("marks services that are gone, and only changed ones get the new revision", async () => {
    const world = await start();
    await world.deploy(
      appSpec("shop", {
        services: {
          a: { workload: { image: "x.test/a:1" } },
          b: { workload: { image: "x.test/b:1" } },
          c: { workload: { image: "x.test/c:1" } },
        },
      }),
    );
    const before = (await world.context.store.marks()).rev;
    const answer = await world.deploy(
      appSpec("shop", { services: { a: { workload: { image: "x.test/a:1" } }, b: { workload: { image: "x.test/b:2" } } } }),
    );
    expect(planOf(answer).services.map(({ service, action }) => [service, action])).toEqual([
      ["a", "keep"],
      ["b", "update"],
      ["c", "remove"],
    ]);
    const rows = await world.context.store.readRaw(["select name, revision, removed from services order by name"]);
    expect(rows.results[0]!.rows.map((row) => [row[0], Number(row[1]) === before, row[2]])).toEqual([
      ["a", true, 0],
      ["b", false, 0],
      ["c", true, 1],
    ]);
  });

  test("two at once make two revisions, one after the other", async () => {
    const world = await start();
    await world.deploy(web());
    const answers = await Promise.all(
      ["2", "3", "4"].map((tag) => world.call<DeployAnswer>("PUT", APP, { body: { spec: web({ image: `registry.test/web:${tag}` }) } })),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    const { body } = await world.get<List<Deployment>>("/v1/namespaces/default/deployments");
    expect(body.items.filter(({ state }) => state === "running").length).toBe(1);
    expect(new Set(body.items.map(({ revision }) => revision)).size).toBe(4);
  });

  test.each<[string, unknown, number, string]>([
    ["a spec of another name", { spec: appSpec("other") }, 400, "name"],
    [
      "a volume that is not declared",
      { spec: web({ mounts: [{ kind: "volume", volume: "data", target: "/data" }] }) },
      400,
      "volume_missing",
    ],
    ["a dependency that is missing", { spec: web({}, { dependsOn: { db: { condition: "started" } } }) }, 400, "dependency_missing"],
    ["no service", { spec: { name: "shop", services: {} } }, 400, "schema"],
    ["an unknown key", { spec: web(), extra: 1 }, 400, "schema"],
  ])("refuses %s", async (_, body, status, reason) => {
    const world = await start();
    const rev = await world.rev();
    const refused = await world.call("PUT", APP, { body });
    expect([refused.status, refused.body.error.reason, await world.rev()]).toEqual([status, reason, rev]);
    expect(refused.body.error.message.length).toBeGreaterThan(10);
  });
});

describe("images", () => {
  test("are resolved once, and a tag that moved is a change", async () => {
    const registry = registryOf({ "registry.test/web:1": digest("a") });
    const world = await start({ registry });
    await world.deploy(web());
    expect((await world.get<App>(APP)).body.services[0]?.digest).toBe(digest("a"));
    expect((await world.deploy(web())).body.plan.unchanged).toBe(true);
    registry.tags["registry.test/web:1"] = digest("b");
    const moved = await world.deploy(web());
    expect(serviceOf(moved).differences).toEqual([`image registry.test/web:1 moved ${"a".repeat(12)} → ${"b".repeat(12)}`]);
    expect((await world.get<App>(APP)).body.services[0]?.digest).toBe(digest("b"));
  });

  test("whose registry is silent keep what they meant", async () => {
    const registry = registryOf({ "registry.test/web:1": digest("a") });
    const world = await start({ registry });
    await world.deploy(web());
    registry.tags["registry.test/web:1"] = null;
    expect((await world.deploy(web())).body.plan.unchanged).toBe(true);
    await world.deploy(web({ env: { A: "1" } }));
    expect((await world.get<App>(APP)).body.services[0]?.digest).toBe(digest("a"));
  });

  test("whose registry hangs hold a deploy for 3 s and no longer", async () => {
    const world = await start({ registry: { resolve: () => new Promise(() => {}) } });
    const deploying = world.deploy(web());
    await world.plane.clock.advance(2_900);
    let isDone = false;
    void deploying.then(() => {
      isDone = true;
    });
    await world.plane.clock.advance(0);
    expect(isDone).toBe(false);
    await world.plane.clock.advance(200);
    expect((await deploying).body.plan.notes.join()).toContain("could not be resolved");
  });

  test("a registry that fails is no reason to refuse", async () => {
    const world = await start({ registry: { resolve: () => Promise.reject(new Error("boom")) } });
    expect((await world.deploy(web())).status).toBe(200);
  });

  test("are asked for with the namespace's credentials", async () => {
    const registry = registryOf({});
    const world = await start({ registry });
    await world.call("PUT", "/v1/namespaces/default/registries/registry.test", { body: { username: "robot", password: "p4ss" } });
    await world.call("PUT", "/v1/namespaces/tenant-b/registries/other.test", { body: { username: "theirs", password: "secret" } });
    await world.deploy(
      appSpec("shop", {
        services: {
          a: { workload: { image: "registry.test/a:1", networkMode: "none" } },
          b: { workload: { image: "other.test/b:1", networkMode: "none" } },
        },
      }),
    );
    expect(registry.asked.sort((x, y) => (x.reference < y.reference ? -1 : 1))).toEqual([
      { reference: "other.test/b:1", credentials: null },
      { reference: "registry.test/a:1", credentials: { username: "robot", password: "p4ss" } },
    ]);
  });

  test.each([
    ["a digest", `registry.test/web@${digest("c")}`, digest("c")],
    ["an image id", digest("d"), digest("d")],
  ])("%s is what it says, and nobody is asked", async (_, image, shown) => {
    const registry = registryOf({});
    const world = await start({ registry });
    await world.deploy(web({ image }));
    expect((await world.get<App>(APP)).body.services[0]?.digest).toBe(shown);
    expect(registry.asked).toEqual([]);
  });

  test("that are never pulled are not asked for", async () => {
    const registry = registryOf({ "registry.test/web:1": digest("a") });
    const world = await start({ registry });
    await world.deploy(web({ pullPolicy: "never" }));
    expect(registry.asked).toEqual([]);
  });
});

describe("scale", () => {
  test("is a new revision of kind scale that replaces nothing", async () => {
    const registry = registryOf({ "registry.test/web:1": digest("a") });
    const world = await start({ registry });
    await world.deploy(web());
    registry.tags["registry.test/web:1"] = digest("b");
    const { body } = await world.call<DeployAnswer>("PATCH", `${APP}/services/web`, { body: { replicas: 4 } });
    expect(body.deployment).toMatchObject({ kind: "scale", message: "scale web 1 → 4" });
    expect(body.plan.services[0]).toMatchObject({ action: "scale", differences: ["replicas 1 → 4"] });
    expect((await world.get<App>(APP)).body.services[0]).toMatchObject({ wanted: 4, digest: digest("a") });
    expect((await world.call<DeployAnswer>("PATCH", `${APP}/services/web`, { body: { replicas: 4 } })).body.plan.unchanged).toBe(true);
  });

  test.each<[string, string, number, string]>([
    ["an app that is not there", "/v1/namespaces/default/apps/nope/services/web", 404, "app"],
    ["a service that is not there", `${APP}/services/nope`, 404, "service"],
    ["a global service", `${APP}/services/everywhere`, 422, "global"],
  ])("refuses %s", async (_, path, status, reason) => {
    const world = await start();
    await world.deploy(appSpec("shop", { services: { everywhere: { mode: "global", workload: { image: "x.test/a:1" } } } }));
    const refused = await world.call("PATCH", path, { body: { replicas: 2 } });
    expect([refused.status, refused.body.error.reason]).toEqual([status, reason]);
  });
});

describe("scale after a failure", () => {
  const apps = (web: string, replicas: number, api = "x.test/api:1"): AppSpecInput =>
    appSpec("shop", {
      services: { web: { workload: { image: web }, replicas, update: { failureAction: "pause" } }, api: { workload: { image: api } } },
    });
  const scale = (world: World, service: string, replicas: number, query = "") =>
    world.call<DeployAnswer>("PATCH", `${APP}/services/${service}${query}`, { body: { replicas } });
  const end = (world: World, { id }: Deployment, state: "failed" | "succeeded", rollbackTo: number | null = null) =>
    world.plane.commit({ changes: [{ op: "update", table: "deployments", rows: [{ id, state, rollbackTo }] }] });
  /** The first is good, the second, which has a new image of both, failed. */
  async function failed(rollbackTo: (first: Deployment) => number | null = () => null) {
    const registry = registryOf({ "x.test/web:1": digest("a"), "x.test/web:2": digest("b"), "x.test/api:1": digest("c") });
    const world = await start({ registry });
    const first = (await world.deploy(apps("x.test/web:1", 2))).body.deployment!;
    await end(world, first, "succeeded");
    const second = (await world.deploy(apps("x.test/web:2", 2, "x.test/api:2"))).body.deployment!;
    await end(world, second, "failed", rollbackTo(first));
    return { world, registry, first, second };
  }
  const rows = async (world: World) =>
    new Map((await new SnapshotKeeper(world.context.store).advance()).snapshot.services.map((service) => [service.name, service]));

  test("changes one count: the service is as it last worked, others stay as they are, and the app is still failed", async () => {
    const { world, first, second } = await failed();
    const before = await rows(world);
    const { body } = await scale(world, "web", 4);
    expect(body.deployment).toMatchObject({ kind: "scale", fromRevision: first.revision, message: "scale web 2 → 4" });
    expect(body.plan.notes).toEqual(
      expect.arrayContaining([
        "the last deployment of shop failed, so this changes the count of web and updates nothing; berth deploy tries again, and berth rollback shop goes back",
        `new replicas of web are as in revision ${first.revision}, the last that has not failed`,
      ]),
    );
    expect(serviceOf({ body })).toMatchObject({ action: "scale", differences: ["replicas 2 → 4"] });
    expect(serviceOf({ body }, "api")).toMatchObject({ action: "keep", differences: [] });
    const after = await rows(world);
    expect(after.get("web")).toMatchObject({ replicas: 4, image: digest("a"), planning: { imageReference: "x.test/web:1" } });
    expect(after.get("web")!.spec).not.toBe(before.get("web")!.spec);
    expect(after.get("api")).toEqual(before.get("api"));
    const { snapshot } = await new SnapshotKeeper(world.context.store).advance();
    expect([snapshot.failed, snapshot.deployments.length]).toEqual([
      [{ appId: snapshot.apps[0]!.id, revision: snapshot.apps[0]!.revision }],
      1,
    ]);

    await scale(world, "web", 1);
    const again = await rows(world);
    expect(again.get("web")).toMatchObject({ replicas: 1, spec: after.get("web")!.spec, revision: after.get("web")!.revision });
    expect(again.get("api")).toEqual(before.get("api"));
    expect((await scale(world, "web", 1)).body.plan.unchanged).toBe(true);
    const back = await world.call<DeployAnswer>("POST", `${APP}/rollback?dryRun=true`, { body: {} });
    expect(back.body.plan.notes[0]).toBe(`this returns to revision ${first.revision} (deploy)`);
    const retry = await world.deploy(apps("x.test/web:2", 1, "x.test/api:2"));
    expect(retry.body.deployment).toMatchObject({ kind: "deploy", fromRevision: first.revision });
    expect(serviceOf(retry).differences).toEqual(["nothing, but its last deployment failed: what is not healthy is tried anew"]);
    expect((await rows(world)).get("web")).toMatchObject({ spec: before.get("web")!.spec, image: digest("b") });
    expect((await new SnapshotKeeper(world.context.store).advance()).snapshot.failed).toEqual([]);
    expect(second.fromRevision).toBe(first.revision);
  });

  test("of the first deployment there ever was scales what there is", async () => {
    const world = await start();
    const first = (await world.deploy(apps("x.test/web:1", 2))).body.deployment!;
    await end(world, first, "failed");
    const before = (await rows(world)).get("web")!;
    const { body } = await scale(world, "web", 1);
    expect(body.deployment).toMatchObject({ fromRevision: null });
    expect((await rows(world)).get("web")).toMatchObject({ replicas: 1, spec: before.spec, revision: before.revision });
  });

  test("while a rollback is owed is refused, to be tried again", async () => {
    const { world, first, second } = await failed(({ revision }) => revision);
    const before = await world.dump();
    const { status, body, headers } = await world.call("PATCH", `${APP}/services/web`, { body: { replicas: 4 } });
    expect([status, body.error.reason, body.error.retryable, headers.get("retry-after")]).toEqual([409, "rollback", true, "2"]);
    expect(body.error.message).toBe(
      `the last deployment of shop failed and it is about to be rolled back to revision ${first.revision}; scale it again in a moment, when that has begun`,
    );
    expect(await world.dump()).toBe(before);
    await rollBack(world.context, second.id);
    const { body: scaled } = await scale(world, "web", 4);
    expect(scaled.deployment).toMatchObject({ kind: "scale", fromRevision: first.revision });
    expect((await rows(world)).get("web")).toMatchObject({ replicas: 4, image: digest("a") });
  });

  test("in a rollout comes from where the rollout came, as whatever takes its place", async () => {
    const { world, first } = await failed();
    for (const image of ["x.test/web:3", "x.test/web:4"])
      expect((await world.deploy(apps(image, 2))).body.deployment!.fromRevision).toBe(first.revision);
    expect((await scale(world, "web", 3)).body.deployment).toMatchObject({ kind: "scale", fromRevision: first.revision });
  });
});

describe("rollback", () => {
  test("goes forward to what the revision before had, its images included", async () => {
    const registry = registryOf({ "registry.test/web:1": digest("a"), "registry.test/web:2": digest("b") });
    const world = await start({ registry });
    const first = await world.deploy(web());
    await world.deploy(web({ image: "registry.test/web:2" }));
    registry.tags["registry.test/web:1"] = digest("f");
    const back = await world.call<DeployAnswer>("POST", `${APP}/rollback`, { body: {} });
    expect(back.body.deployment).toMatchObject({ kind: "rollback", message: `rollback to ${first.body.deployment!.revision}` });
    expect(back.body.deployment!.revision).toBe(await world.rev());
    expect((await world.get<App>(APP)).body.services[0]).toMatchObject({ image: "registry.test/web:1", digest: digest("a") });
  });

  test("to before a tag moved runs what the tag meant then", async () => {
    const registry = registryOf({ "registry.test/web:1": digest("a") });
    const world = await start({ registry });
    await world.deploy(web());
    registry.tags["registry.test/web:1"] = digest("b");
    await world.deploy(web());
    expect((await world.get<App>(APP)).body.services[0]?.digest).toBe(digest("b"));
    const back = await world.call<DeployAnswer>("POST", `${APP}/rollback`, { body: {} });
    expect(serviceOf(back)).toMatchObject({
      action: "update",
      differences: [`image registry.test/web:1 moved ${"b".repeat(12)} → ${"a".repeat(12)}`],
    });
    expect((await world.get<App>(APP)).body.services[0]?.digest).toBe(digest("a"));
  });

  test("can name any revision, and says which there are", async () => {
    const world = await start();
    const first = await world.deploy(web());
    await world.deploy(web({ env: { A: "1" } }));
    await world.deploy(web({ env: { A: "2" } }));
    const toRevision = first.body.deployment!.revision;
    expect((await world.call("POST", `${APP}/rollback`, { body: { toRevision } })).status).toBe(200);
    const { body } = await world.get<List<{ revision: number; current: boolean; message: string }>>(`${APP}/revisions`);
    expect(body.items.map(({ current, message }) => [current, message])).toEqual([
      [true, `rollback to ${toRevision}`],
      [false, "deploy"],
      [false, "deploy"],
      [false, "deploy"],
    ]);
    const missing = await world.call("POST", `${APP}/rollback`, { body: { toRevision: 1 } });
    expect([missing.status, missing.body.error.reason]).toEqual([404, "revision"]);
  });

  test("twice does not return into what failed, and says where it goes", async () => {
    const world = await start();
    const first = (await world.deploy(web())).body.deployment!;
    const bad = (await world.deploy(web({ image: "x.test/web:2" }))).body.deployment!;
    await world.plane.commit({ changes: [{ op: "update", table: "deployments", rows: [{ id: bad.id, state: "failed" }] }] });
    const rollback = () => world.call<DeployAnswer>("POST", `${APP}/rollback`, { body: {} });
    const back = await rollback();
    expect(back.body.plan.notes[0]).toBe(`this returns to revision ${first.revision} (deploy)`);
    const again = await rollback();
    expect([again.status, again.body.plan.unchanged, again.body.deployment]).toEqual([200, true, null]);
    expect(again.body.plan.notes[0]).toBe(`this returns to revision ${first.revision} (deploy)`);
  });

  test("with nothing before but failures is refused, and says what can be done", async () => {
    const world = await start();
    const first = (await world.deploy(web())).body.deployment!;
    await world.plane.commit({ changes: [{ op: "update", table: "deployments", rows: [{ id: first.id, state: "failed" }] }] });
    await world.deploy(web({ image: "x.test/web:2" }));
    const refused = await world.call("POST", `${APP}/rollback`, { body: {} });
    expect([refused.status, refused.body.error.reason]).toEqual([422, "first"]);
    expect(refused.body.error.message).toContain("any can be named");
    expect((await world.call("POST", `${APP}/rollback`, { body: { toRevision: first.revision } })).status).toBe(200);
  });

  test("of the first revision is refused", async () => {
    const world = await start();
    await world.deploy(web());
    const refused = await world.call("POST", `${APP}/rollback`, { body: {} });
    expect([refused.status, refused.body.error.reason]).toEqual([422, "first"]);
  });
});

describe("the rollback of a deployment that failed", () => {
  /** The second failed: what the planner commits then, and nothing after it. */
  async function twoDeployments() {
    const world = await start();
    const first = (await world.deploy(web())).body.deployment!;
    const second = (await world.deploy(web({ image: "registry.test/web:2" }))).body.deployment!;
    const { snapshot } = await new SnapshotKeeper(world.context.store).advance();
    const appId = snapshot.apps[0]!.id;
    const failed = { kind: "deployment", id: second.id, appId, state: "failed", message: "", rollbackTo: first.revision } as const;
    const plan = { rev: snapshot.rev, changes: [failed], wakeAtMs: null, explanations: [] };
    expect(await new PlanApplier(world.context.store).apply(snapshot, plan)).toMatchObject({ kind: "committed" });
    return { world, deployment: second.id, first };
  }
  const kinds = async (world: World) =>
    (await world.get<List<Deployment>>("/v1/namespaces/default/deployments")).body.items.map(({ kind }) => kind);

  test("F35: is made by the next process when the one that saw the failure was killed, and once by several", async () => {
    const { world, first } = await twoDeployments();
    const start = () => {
      const next: Promise<ControlPlane> = world.plane.beside({
        planning: (parts) => makePlanning({ ...parts, rollBack: async (deployment) => rollBack((await next).context, deployment) }),
      });
      onTestFinished(async () => (await next).context.shard.stop());
      return next;
    };
    const [one, other] = await Promise.all([start(), start()]);
    await one.eventually("a rollback", async () => (await kinds(world))[0] === "rollback");
    expect((await world.get<App>(APP)).body.services[0]?.image).toBe("registry.test/web:1");
    for (const plane of [one, other]) {
      plane.context.shard.ring();
      await plane.clock.advance(120_000);
    }
    expect(await kinds(world)).toEqual(["rollback", "deploy", "deploy"]);
    expect((await world.get<App>(APP)).body.deployment!.message).toBe(`rollback to ${first.revision}`);
  });

  test("is not rehearsed: the planner's loop waits for it", async () => {
    const { world, deployment } = await twoDeployments();
    world.context.rehearsals.run = () => Promise.reject(new Error("rehearsed"));
    await rollBack(world.context, deployment);
    expect((await kinds(world))[0]).toBe("rollback");
  });

  test("is a forward revision by berth, and is made once", async () => {
    const { world, deployment, first } = await twoDeployments();
    await rollBack(world.context, deployment);
    const newest = async () => (await world.get<List<Deployment>>("/v1/namespaces/default/deployments")).body.items[0];
    expect(await newest()).toMatchObject({
      kind: "rollback",
      createdBy: "berth",
      message: `rollback to ${first.revision}`,
      state: "running",
    });
    expect((await world.get<App>(APP)).body.services[0]?.image).toBe("registry.test/web:1");
    const before = await world.dump();
    await rollBack(world.context, deployment);
    expect(await world.dump()).toBe(before);
  });

  test("does not undo a newer deploy, nor touch an app that is being removed", async () => {
    const { world, deployment } = await twoDeployments();
    await world.deploy(web({ image: "registry.test/web:3" }));
    const before = await world.dump();
    await rollBack(world.context, deployment);
    expect(await world.dump()).toBe(before);

    const other = await twoDeployments();
    await other.world.call("DELETE", APP);
    const removing = await other.world.dump();
    await rollBack(other.world.context, other.deployment);
    expect(await other.world.dump()).toBe(removing);
  });

  test("loses to a deploy that is committed while it is made", async () => {
    const { world, deployment } = await twoDeployments();
    const { store } = world.context;
    const commit = store.commit.bind(store);
    store.commit = async (mutation) => {
      store.commit = commit;
      await world.deploy(web({ image: "registry.test/web:3" }));
      return commit(mutation);
    };
    await rollBack(world.context, deployment);
    expect(await kinds(world)).toEqual(["deploy", "deploy", "deploy"]);
  });

  test("loses to a deploy that is committed before it has read what there is", async () => {
    const { world, deployment } = await twoDeployments();
    const { store } = world.context;
    const read = store.read.bind(store) as (...asked: unknown[]) => Promise<never>;
    store.read = async (...asked: unknown[]) => {
      store.read = read as typeof store.read;
      await world.deploy(web({ image: "registry.test/web:3" }));
      return read(...asked);
    };
    await rollBack(world.context, deployment);
    expect(await kinds(world)).toEqual(["deploy", "deploy", "deploy"]);
  });

  test("to a revision that is not kept any more is given up, and people are told once", async () => {
    const { world, deployment, first } = await twoDeployments();
    await world.plane.commit({ changes: [{ op: "delete", table: "appRevisions", keys: [{ revision: first.revision }] }] });
    await rollBack(world.context, deployment);
    await rollBack(world.context, deployment);
    const { body } = await world.get<List<Event>>("/v1/namespaces/default/events?app=shop");
    expect(body.items.filter(({ type }) => type === "notRolledBack")).toMatchObject([
      { level: "error", message: expect.stringContaining(`no revision ${first.revision}`) },
    ]);
    expect((await new SnapshotKeeper(world.context.store).advance()).snapshot.rollbacks).toEqual([]);
  });
});

describe("DELETE app", () => {
  const volume = (): AppSpecInput =>
    appSpec("shop", {
      volumes: { data: {} },
      services: { web: { workload: { image: "x.test/a:1", mounts: [{ kind: "volume", volume: "data", target: "/data" }] } } },
    });

  async function withVolume(world: World): Promise<void> {
    const nodeId = await world.node(1);
    await world.deploy(volume());
    const place = { namespace: "default", app: "shop", service: "web", slot: "0", volume: "data" };
    await world.plane.commit({
      changes: [{ op: "insert", table: "volumes", rows: [{ ...place, nodeId, engineName: "berth_default_shop_data" }] }],
    });
  }

  test("stops everything and names the volumes that stay", async () => {
    const world = await start();
    await withVolume(world);
    const { status, body } = await world.call<Removed>("DELETE", APP);
    expect([status, body.notes]).toEqual([200, ["its volumes stay where they are: data on node-1"]]);
    const app = await world.get<App>(APP);
    expect(app.body).toMatchObject({ deleting: true, services: [{ removed: true, wanted: 0 }], deployment: { state: "superseded" } });
  });

  test("deletes data only when that is asked for", async () => {
    const world = await start();
    await withVolume(world);
    const flag = async () => Number((await world.context.store.readRaw(["select delete_volumes from apps"])).results[0]!.rows[0]![0]);
    await world.call("DELETE", APP);
    expect(await flag()).toBe(0);
    const { body } = await world.call<Removed>("DELETE", `${APP}?deleteData=true`);
    expect(body.notes).toEqual(["these volumes are deleted with it: data on node-1"]);
    expect(await flag()).toBe(1);
  });

  test("deletes what an app that is gone has left behind, and nothing else", async () => {
    const world = await start();
    const nodeId = await world.node(1);
    const place = { namespace: "default", service: "web", slot: "0", volume: "data", nodeId };
    const engineName = engineVolumeName("default", "shop", "data");
    const rows = [
      { ...place, app: "shop", engineName },
      { ...place, app: "shop", volume: "own", engineName: "made-elsewhere" },
      { ...place, app: "pay", engineName: engineVolumeName("default", "pay", "data") },
    ];
    await world.plane.commit({ changes: [{ op: "insert", table: "volumes", rows }] });
    const left = async (sql: string) => (await world.context.store.readRaw([sql])).results[0]!.rows.map((row) => Object.values(row));
    expect((await world.call("DELETE", APP)).status).toBe(404);
    const generation = await left("select generation from nodes");
    const { body } = await world.call<Removed>("DELETE", `${APP}?deleteData=true&dryRun=true`);
    expect(body.notes).toEqual(["these volumes are deleted with it: data on node-1, own on node-1"]);
    expect(await left("select app from volumes")).toHaveLength(3);
    expect((await world.call("DELETE", `${APP}?deleteData=true`)).status).toBe(200);
    expect(await left("select app from volumes")).toEqual([["pay"]]);
    expect(await left("select node_id, engine_name from volume_drops")).toEqual([[nodeId, engineName]]);
    expect(await left("select generation from nodes")).not.toEqual(generation);
    expect((await world.call("DELETE", `${APP}?deleteData=true`)).status).toBe(404);
  });

  test("does not drop the data of an app that is made meanwhile: that one is removed first", async () => {
    const world = await start();
    const nodeId = await world.node(1);
    const row = { namespace: "default", app: "shop", service: "web", slot: "0", volume: "data", nodeId };
    const engineName = engineVolumeName("default", "shop", "data");
    await world.plane.commit({ changes: [{ op: "insert", table: "volumes", rows: [{ ...row, engineName }] }] });
    const { store } = world.context;
    const commit = store.commit.bind(store);
    store.commit = async (mutation) => {
      store.commit = commit;
      await world.deploy(web());
      return await commit(mutation);
    };
    expect((await world.call("DELETE", `${APP}?deleteData=true`)).status).toBe(200);
    const count = async (table: string) => Number((await store.readRaw([`select count(*) from ${table}`])).results[0]!.rows[0]![0]);
    expect([await count("volumes"), await count("volume_drops")]).toEqual([1, 0]);
    expect((await world.get<App>(APP)).body.deleting).toBe(true);
  });

  test("of leftovers leaves the events of another tenant's app of the name alone", async () => {
    const world = await start();
    const nodeId = await world.node(1);
    const removeLeftovers = async (namespace: string) => {
      const row = { namespace, app: "shop", service: "web", slot: "0", volume: "data", nodeId };
      const engineName = engineVolumeName(namespace, "shop", "data");
      await world.plane.commit({ changes: [{ op: "insert", table: "volumes", rows: [{ ...row, engineName }] }] });
      await world.call("DELETE", `/v1/namespaces/${namespace}/apps/shop?deleteData=true`);
    };
    await removeLeftovers("default");
    // As many as are kept of one object.
    for (let time = 0; time < 200; time++) {
      await removeLeftovers(OTHER);
      await world.plane.clock.advance(100);
    }
    const { body } = await world.get<List<Event>>("/v1/namespaces/default/events");
    expect(body.items.map(({ message }) => message)).toEqual([expect.stringContaining("what shop had left behind")]);
  });

  test("again changes nothing, and nothing is deployed meanwhile", async () => {
    const world = await start();
    await world.deploy(web());
    await world.call("DELETE", APP);
    const before = await world.dump();
    expect((await world.call("DELETE", APP)).status).toBe(200);
    expect(await world.dump()).toBe(before);
    const refused = await world.call("PUT", APP, { body: { spec: web() } });
    expect([refused.status, refused.body.error.reason]).toEqual([422, "deleting"]);
  });

  test("of what is not there is a 404", async () => {
    const world = await start();
    expect((await world.call("DELETE", APP)).status).toBe(404);
  });

  test("with the planner at work the row goes, and the name is free again", async () => {
    const world = await start({ plans: true });
    await world.deploy(web());
    await world.call("DELETE", APP);
    for (let turn = 0; turn < 50 && (await world.get(APP)).status !== 404; turn++) await world.plane.clock.advance(200);
    expect((await world.get(APP)).status).toBe(404);
    expect((await world.deploy(web())).body.plan.fromRevision).toBeNull();
  });
});

test("each deploy is in the audit log and in the events, under the token's name", async () => {
  const world = await start();
  const token = await world.token("deployer", "default");
  await world.deploy(web({ env: { PASSWORD: "hunter2" } }), { token });
  const { results } = await world.context.store.readRaw([
    "select actor, verb, namespace, object, detail from audit order by rev desc limit 1",
  ]);
  expect(Object.values(results[0]!.rows[0]!)).toEqual([
    expect.stringContaining("deployer-of-default"),
    "deploy",
    "default",
    "app/shop",
    "deploy",
  ]);
  const { body } = await world.get<List<Event>>("/v1/namespaces/default/events?app=shop");
  expect(body.items.at(-1)).toMatchObject({ type: "started", message: "deployer-of-default: deploy" });
  expect(JSON.stringify(body)).not.toContain("hunter2");
});
