/** What belongs to something cannot outlive it, however its making and the deletion fall together; nor do words of it. */
import { describe, expect, test } from "vitest";
import { engineVolumeName } from "../../../shared/model/desire.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { nodeRow } from "../../store/rows.ts";
import { appSpec, type List, World } from "./world.ts";

/** Runs `meanwhile` between what the next mutation reads and its commit. */
function beforeCommit(world: World, meanwhile: () => Promise<unknown>): void {
  const { store } = world.context;
  const commit = store.commit.bind(store);
  store.commit = async (mutation) => {
    store.commit = commit;
    await meanwhile();
    return await commit(mutation);
  };
}

const count = async (world: World, sql: string): Promise<number> =>
  Number((await world.context.store.readRaw([sql])).results[0]!.rows[0]![0]);

describe("a namespace that is deleted", () => {
  const gone = async () => {
    const world = await World.start();
    await world.call("POST", "/v1/namespaces", { body: { name: "team" } });
    return world;
  };

  test("while an app is deployed into it stays, with the app", async () => {
    const world = await gone();
    beforeCommit(world, () => world.deploy(appSpec("shop"), { namespace: "team" }));
    const { status, body } = await world.call("DELETE", "/v1/namespaces/team");
    expect([status, body.error.reason]).toEqual([422, "notEmpty"]);
    expect((await world.get("/v1/namespaces/team/apps/shop")).status).toBe(200);
  });

  test.each([
    ["a token", (world: World) => world.call("POST", "/v1/tokens", { body: { name: "ci", role: "viewer", namespace: "team" } }), "tokens"],
    [
      "credentials",
      (world: World) => world.call("PUT", "/v1/namespaces/team/registries/r.test", { body: { username: "u", password: "p" } }),
      "registries",
    ],
  ])("while %s is made in it takes that along", async (_, make, table) => {
    const world = await gone();
    beforeCommit(world, () => make(world));
    expect((await world.call("DELETE", "/v1/namespaces/team")).status).toBe(200);
    expect(await count(world, `select count(*) from ${table} where namespace = 'team'`)).toBe(0);
  });

  test.each([
    ["an app", "PUT", "/v1/namespaces/team/apps/shop", { spec: appSpec("shop") }, 404],
    ["a token", "POST", "/v1/tokens", { name: "ci", role: "viewer", namespace: "team" }, 422],
    ["credentials", "PUT", "/v1/namespaces/team/registries/r.test", { username: "u", password: "p" }, 404],
  ])("before %s is committed to it refuses that", async (_, method, path, body, status) => {
    const world = await gone();
    beforeCommit(world, () => world.call("DELETE", "/v1/namespaces/team"));
    expect((await world.call(method, path, { body })).status).toBe(status);
    expect(await count(world, "select count(*) from apps where namespace = 'team'")).toBe(0);
  });

  const leaveData = async (world: World) => {
    const nodeId = await world.node(1);
    const row = { namespace: "team", app: "shop", service: "db", slot: "0", volume: "data", nodeId };
    const engineName = engineVolumeName("team", "shop", "data");
    await world.plane.commit({ changes: [{ op: "insert", table: "volumes", rows: [{ ...row, engineName }] }] });
  };

  test("is refused while it holds data of an app that was removed: the next of its name would get it", async () => {
    const world = await gone();
    await leaveData(world);
    const { status, body } = await world.call("DELETE", "/v1/namespaces/team");
    expect([status, body.error.reason]).toEqual([422, "volumes"]);
    expect(body.error.message).toContain("data of shop");
    expect(body.error.message).toMatch(/; delete them: berth rm shop --delete-data -n team$/);
    expect((await world.call("DELETE", "/v1/namespaces/team/apps/shop?deleteData=true")).status).toBe(200);
    expect((await world.call("DELETE", "/v1/namespaces/team")).status).toBe(200);
  });

  test("while an app's data is left behind in it stays, with the data", async () => {
    const world = await gone();
    beforeCommit(world, () => leaveData(world));
    const { status, body } = await world.call("DELETE", "/v1/namespaces/team");
    expect([status, body.error.reason]).toEqual([422, "volumes"]);
  });

  test("and made again shows nothing of what happened in it before", async () => {
    const world = await gone();
    await world.deploy(appSpec("shop"), { namespace: "team" });
    await world.plane.commit({ changes: [{ op: "delete", table: "apps", keys: [{ namespace: "team" }] }] });
    expect((await world.get<List<object>>("/v1/namespaces/team/events")).body.items.length).toBeGreaterThan(0);
    expect((await world.call("DELETE", "/v1/namespaces/team")).status).toBe(200);
    await world.call("POST", "/v1/namespaces", { body: { name: "team" } });
    const token = await world.token("viewer", "team");
    expect((await world.get<List<object>>("/v1/namespaces/team/events", { token })).body.items).toEqual([]);
    expect((await world.get<List<object>>("/v1/events", { token })).body.items).toEqual([]);
  });
});

describe("a site that is deleted", () => {
  test("while a machine enrolls into it stays, with the node", async () => {
    const world = await World.start();
    await world.call("POST", "/v1/sites", { body: { name: "berlin" } });
    beforeCommit(world, () => world.plane.commit({ changes: [{ op: "insert", table: "nodes", rows: [nodeRow(1, { site: "berlin" })] }] }));
    const { status, body } = await world.call("DELETE", "/v1/sites/berlin");
    expect([status, body.error.reason]).toEqual([422, "notEmpty"]);
  });

  test("while a join token is made for it takes that along", async () => {
    const world = await World.start();
    await world.plane.commit({ changes: [{ op: "insert", table: "sites", rows: [{ name: "berlin", labels: {}, createdMs: NOW }] }] });
    beforeCommit(world, () => world.call("POST", "/v1/join-tokens", { body: { site: "berlin" } }));
    expect((await world.call("DELETE", "/v1/sites/berlin")).status).toBe(200);
    expect(await count(world, "select count(*) from join_tokens")).toBe(0);
  });
});
