/** Words to a deployment that runs, the lock of an app, and what differs between its revisions. */
import { describe, expect, test } from "vitest";
import type { App, Deployment, DeployAnswer, Event, RevisionDiff } from "../../../shared/api/resources.ts";
import type { AppSpecInput } from "../../../shared/model/app.ts";
import { SnapshotKeeper } from "../../../worker/store/snapshot.ts";
import { appSpec, type List, World } from "./world.ts";

const APP = "/v1/namespaces/default/apps/shop";
const web = (image: string, over: object = {}): AppSpecInput =>
  appSpec("shop", { services: { web: { workload: { image }, replicas: 2, ...over } } });

async function deploying() {
  const world = await World.start();
  const first = (await world.deploy(web("registry.test/web:1"))).body.deployment!;
  await world.plane.commit({ changes: [{ op: "update", table: "deployments", rows: [{ id: first.id, state: "succeeded" }] }] });
  const second = (await world.deploy(web("registry.test/web:2", { update: { canaries: 1 } }))).body.deployment!;
  const say = (verb: string, { id }: Deployment = second) =>
    world.call<Deployment>("POST", `/v1/namespaces/default/deployments/${id}/${verb}`);
  const planned = async () =>
    (await new SnapshotKeeper(world.context.store).advance()).snapshot.deployments.find(({ id }) => id === second.id);
  return { world, first, second, say, planned };
}
const eventsOf = async (world: World) => (await world.get<List<Event>>("/v1/namespaces/default/events?app=shop")).body.items;

describe("a deployment that runs", () => {
  test("is paused and resumed, and its deadlines run anew", async () => {
    const { world, say, planned } = await deploying();
    expect((await say("pause")).body).toMatchObject({ pausedBy: "admin-of-all", state: "running" });
    expect(await planned()).toMatchObject({ paused: true });
    const rev = await world.rev();
    expect((await say("pause")).status, "again: it is so already").toBe(200);
    expect(await world.rev()).toBe(rev);
    expect((await say("resume")).body).toMatchObject({ pausedBy: null });
    const after = await planned();
    expect(after).toMatchObject({ paused: false });
    expect(after!.resumedMs).toBeGreaterThan(0);
    expect((await eventsOf(world)).slice(-2).map(({ type, message }) => [type, message])).toEqual([
      ["paused", "admin-of-all paused it: nothing new is begun until it is resumed"],
      ["resumed", "admin-of-all resumed it"],
    ]);
  });

  test("is promoted when its canaries are healthy, or by force", async () => {
    const { world, second, say, planned } = await deploying();
    const early = await world.call("POST", `/v1/namespaces/default/deployments/${second.id}/promote`);
    expect([early.status, early.body.error.reason]).toEqual([422, "canaries"]);
    await world.plane.commit({ changes: [{ op: "update", table: "deployments", rows: [{ id: second.id, canariesHealthy: true }] }] });
    expect((await say("promote")).body).toMatchObject({ promoted: true });
    expect(await planned()).toMatchObject({ promoted: true });
    const other = await deploying();
    expect((await other.say("promote?force=true")).body).toMatchObject({ promoted: true });
  });

  test("is aborted: it has failed, and the way back is owed", async () => {
    const { world, first, second, say } = await deploying();
    expect((await say("abort")).body).toMatchObject({ state: "failed" });
    const { snapshot } = await new SnapshotKeeper(world.context.store).advance();
    expect(snapshot.deployments).toEqual([]);
    expect(snapshot.failed).toMatchObject([{ revision: second.revision }]);
    expect(snapshot.rollbacks).toEqual([second.id]);
    const [last] = (await eventsOf(world)).slice(-1);
    expect(last).toMatchObject({
      type: "failed",
      level: "warning",
      message: `aborted by admin-of-all: it is rolled back to revision ${first.revision}`,
    });
  });

  test("an app's first deployment is aborted to nowhere", async () => {
    const world = await World.start();
    const { id } = (await world.deploy(web("registry.test/web:1"))).body.deployment!;
    const { body } = await world.call<Deployment>("POST", `/v1/namespaces/default/deployments/${id}/abort`);
    expect(body.message).toBe("aborted by admin-of-all: what runs stays as it is");
    expect((await new SnapshotKeeper(world.context.store).advance()).snapshot.rollbacks).toEqual([]);
  });

  test.each(["pause", "resume", "promote", "abort"])("that is over takes no word: %s", async (verb) => {
    const { world, second } = await deploying();
    await world.deploy(web("registry.test/web:3"));
    const { status, body } = await world.call("POST", `/v1/namespaces/default/deployments/${second.id}/${verb}`);
    expect([status, body.error.reason]).toEqual([409, "over"]);
    expect(body.error.message).toContain("was superseded by a newer one");
  });

  test("a scale goes on with what it takes the place of: paused, and not promoted by it", async () => {
    const { world, say } = await deploying();
    await say("pause");
    const { body } = await world.call<DeployAnswer>("PATCH", `${APP}/services/web`, { body: { replicas: 3 } });
    expect(body.deployment).toMatchObject({ kind: "scale", pausedBy: "admin-of-all", promoted: false });
    const { snapshot } = await new SnapshotKeeper(world.context.store).advance();
    expect(snapshot.deployments).toMatchObject([{ kind: "scale", paused: true, promoted: false }]);
  });

  test("a rollback tries no canaries", async () => {
    const { world, first } = await deploying();
    const { body } = await world.call<DeployAnswer>("POST", `${APP}/rollback`, { body: { toRevision: first.revision } });
    expect(body.deployment).toMatchObject({ kind: "rollback", promoted: true });
  });
});

describe("lock", () => {
  test("keeps everybody from changing the app, and says who and why", async () => {
    const world = await World.start();
    await world.deploy(web("registry.test/web:1"));
    const { body } = await world.call<App>("PUT", `${APP}/lock`, { body: { message: "the sale is on" } });
    expect(body.lock).toMatchObject({ by: "admin-of-all", message: "the sale is on" });
    const token = await world.token("deployer", "default");
    const tries = [
      ["PUT", APP, { spec: web("registry.test/web:2") }],
      ["PATCH", `${APP}/services/web`, { replicas: 5 }],
      ["POST", `${APP}/rollback`, {}],
      ["DELETE", APP, undefined],
    ] as const;
    const rev = await world.rev();
    for (const [method, path, sent] of tries) {
      const refused = await world.call(method, path, { token, body: sent });
      expect([method, refused.status, refused.body.error.reason]).toEqual([method, 422, "locked"]);
      expect(refused.body.error.message).toBe("shop is locked by admin-of-all: the sale is on; berth unlock shop lifts it");
    }
    expect((await world.call("PUT", `${APP}/lock`, { token, body: { message: "mine" } })).status).toBe(422);
    expect(await world.rev()).toBe(rev);
    expect((await world.call<App>("DELETE", `${APP}/lock`, { token })).body.lock).toBeNull();
    expect((await world.call("PATCH", `${APP}/services/web`, { token, body: { replicas: 5 } })).status).toBe(200);
  });

  test("does not keep a failed deployment from going back by itself", async () => {
    const { world, say } = await deploying();
    await world.call("PUT", `${APP}/lock`, { body: { message: "the sale is on" } });
    await say("abort");
    await world.context.shard.refresh();
    const { reviseToEarlier } = await import("../../../worker/deploy.ts");
    const { message } = await reviseToEarlier(world.context, { namespace: "default", app: "shop", createdBy: "berth" });
    expect(message).toMatch(/^rollback to \d+$/);
  });
});

describe("diff", () => {
  test("names what differs between two revisions, service by service", async () => {
    const world = await World.start();
    const first = (await world.deploy(web("registry.test/web:1"))).body.deployment!;
    const services = {
      web: { workload: { image: "registry.test/web:2" }, replicas: 3 },
      api: { workload: { image: "registry.test/api:1" } },
    };
    const second = (await world.deploy(appSpec("shop", { services, configs: { motd: { content: "hi" } } }))).body.deployment!;
    const diff = await world.get<RevisionDiff>(`${APP}/diff`);
    expect(diff.body).toEqual({
      from: first.revision,
      to: second.revision,
      services: [
        { service: "api", change: "added", differences: [] },
        { service: "web", change: "changed", differences: ["image registry.test/web:1 → registry.test/web:2", "replicas 2 → 3"] },
      ],
      others: ["config motd added"],
    });
    const back = await world.get<RevisionDiff>(`${APP}/diff?from=${second.revision}&to=${first.revision}`);
    expect(back.body).toMatchObject({ services: [{ change: "removed" }, { change: "changed" }], others: ["config motd removed"] });
    expect((await world.get<RevisionDiff>(`${APP}/diff?from=${first.revision}&to=${first.revision}`)).body.services).toEqual([]);
  });

  test("of the first revision, or of one that is not kept, is refused", async () => {
    const world = await World.start();
    const first = (await world.deploy(web("registry.test/web:1"))).body.deployment!;
    expect((await world.call("GET", `${APP}/diff`)).body.error.reason).toBe("first");
    const missing = await world.call("GET", `${APP}/diff?from=1&to=${first.revision}`);
    expect([missing.status, missing.body.error.reason]).toEqual([404, "revision"]);
  });
});

test("a rollback leaves jobs as they are: what a migration did is not undone by running the one before it", async () => {
  const world = await World.start();
  const app = (version: number): AppSpecInput =>
    appSpec("shop", {
      services: {
        migrate: { workload: { image: `registry.test/migrate:${version}`, restart: { condition: "no" } } },
        web: { workload: { image: `registry.test/web:${version}` }, dependsOn: { migrate: { condition: "completed" } } },
      },
    });
  await world.deploy(app(1));
  await world.deploy(app(2));
  const back = await world.call<DeployAnswer>("POST", `${APP}/rollback`, { body: {} });
  expect(back.body.plan.services.map(({ service, action }) => [service, action])).toEqual([
    ["migrate", "keep"],
    ["web", "update"],
  ]);
  expect((await world.get<App>(APP)).body.services.map(({ image }) => image)).toEqual(["registry.test/migrate:2", "registry.test/web:1"]);
});
