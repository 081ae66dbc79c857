import { describe, expect, test } from "vitest";
import type { JoinTokenCreated, Node, Removed, Replica } from "../../../shared/api/resources.ts";
import { JOIN_TOKEN_PREFIX, JoinToken } from "../../../shared/wire/enroll.ts";
import { thumbprint } from "../../../worker/keys.ts";
import { id, replicaRow } from "../../store/rows.ts";
import { appSpec, type List, OTHER, World } from "./world.ts";

const patch = (world: World, body: object, node = "node-1") => world.call<Node>("PATCH", `/v1/nodes/${node}`, { body });

describe("nodes", () => {
  test("are shown by id and by name, with what is set aside on them", async () => {
    const world = await World.start();
    const nodeId = await world.node(1);
    await world.deploy(
      appSpec("shop", { services: { web: { workload: { image: "x.test/a:1" }, reservation: { cpuMillis: 250, memoryMiB: 300 } } } }),
    );
    const spec = String((await world.context.store.readRaw(["select spec from services"])).results[0]!.rows[0]![0]);
    await world.plane.commit({ changes: [{ op: "insert", table: "replicas", rows: [replicaRow(1, { spec }), replicaRow(2, { spec })] }] });
    for (const name of [nodeId, "node-1"]) {
      const { body } = await world.get<Node>(`/v1/nodes/${name}`);
      expect(body).toMatchObject({
        id: nodeId,
        name: "node-1",
        site: "default",
        status: "ready",
        replicas: 2,
        reserved: { cpuMillis: 500, memoryMiB: 600 },
        engine: { reachable: true },
      });
    }
    expect((await world.get<List<Node>>("/v1/nodes")).body.items.map(({ replicas }) => replicas)).toEqual([2]);
  });

  test("what a node declares of itself is none of its labels", async () => {
    const world = await World.start();
    const { facts } = (await import("../../store/rows.ts")).nodeRow(1);
    await world.node(1, { facts: { ...(facts as Node["facts"]), labels: { zone: "own", disk: "ssd" } } });
    const { body } = await patch(world, { labels: { zone: "b" } });
    expect(body.labels).toEqual({ zone: "b" });
    const { body: after } = await patch(world, { labels: { zone: null } });
    expect(after.labels).toEqual({});
    expect(after.facts.labels).toEqual({ zone: "own", disk: "ssd" });
  });

  test("taints, availability, admission and quarantine are set, each once", async () => {
    const world = await World.start();
    await world.node(1, { admission: "pending", quarantined: true, instanceChangesMs: [1, 2, 3] });
    const body = {
      addTaints: [{ key: "gpu", value: "yes" }, { key: "edge" }],
      availability: "cordoned",
      admission: "admitted",
      reissue: true,
    };
    const changed = await patch(world, body);
    expect(changed.body).toMatchObject({
      taints: [
        { key: "gpu", value: "yes" },
        { key: "edge", value: "" },
      ],
      availability: "cordoned",
      admission: "admitted",
      quarantined: false,
    });
    const rev = await world.rev();
    expect((await patch(world, body)).status).toBe(200);
    expect(await world.rev()).toBe(rev);
    expect((await patch(world, { removeTaints: ["gpu", "nothing"] })).body.taints).toEqual([{ key: "edge", value: "" }]);
    const { body: events } = await world.get<List<{ message: string }>>("/v1/events");
    expect(events.items.at(-2)?.message).toBe("node-1: taint gpu=yes, taint edge, cordoned, approved, quarantine lifted");
  });

  test.each<[string, object, number, string]>([
    ["nothing of this name", { availability: "active" }, 404, "node"],
    ["more labels than are kept", { labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, "x"])) }, 422, "labels"],
    ["another availability", { availability: "sleeping" }, 400, "schema"],
    ["an unknown key", { name: "other" }, 400, "schema"],
  ])("refuses %s", async (_, body, status, reason) => {
    const world = await World.start();
    await world.node(1);
    const refused = await world.call("PATCH", `/v1/nodes/${reason === "node" ? "nobody" : "node-1"}`, { body });
    expect([refused.status, refused.body.error.reason]).toEqual([status, reason]);
  });
});

describe("removing a node", () => {
  test("that is ready is refused, unless forced", async () => {
    const world = await World.start();
    await world.node(1);
    const refused = await world.call("DELETE", "/v1/nodes/node-1");
    expect([refused.status, refused.body.error.reason]).toEqual([422, "ready"]);
    expect((await world.call("DELETE", "/v1/nodes/node-1?force=true")).status).toBe(200);
    expect((await world.get("/v1/nodes/node-1")).status).toBe(404);
  });

  test("that holds the only copy of data is refused, unless forced, and says which", async () => {
    const world = await World.start();
    const nodeId = await world.node(1, { status: "lost" });
    await world.deploy(appSpec("shop"));
    const place = { namespace: "default", app: "shop", service: "web", slot: "0" };
    await world.plane.commit({
      changes: [{ op: "insert", table: "volumes", rows: [{ ...place, volume: "data", nodeId, engineName: "e" }] }],
    });
    const refused = await world.call("DELETE", "/v1/nodes/node-1");
    expect([refused.status, refused.body.error.reason]).toEqual([422, "volumes"]);
    expect(refused.body.error.message).toContain("data of default/shop web 0");
    const { body } = await world.call<Removed>("DELETE", "/v1/nodes/node-1?force=true");
    expect(body.notes.join()).toContain("data of default/shop web 0");
    const left = await world.context.store.readRaw(["select count(*) from volumes"]);
    expect(Number(left.results[0]!.rows[0]![0])).toBe(0);
  });

  test("revokes its key: the agent is told that it was removed, and cannot come back with it", async () => {
    const world = await World.start();
    const agent = await world.plane.node();
    const { body } = await world.get<Node>(`/v1/nodes/${agent.node}`);
    expect(body.lastSeen).not.toBeNull();
    expect((await world.call("DELETE", `/v1/nodes/${agent.node}?force=true`)).status).toBe(200);
    await expect(agent.openSession()).rejects.toThrow(/removed/);
  });

  test("gives its slots to others", async () => {
    const world = await World.start({ plans: true });
    const gone = await world.node(1);
    await world.node(2);
    await world.deploy(appSpec("shop", { services: { web: { replicas: 4, workload: { image: "x.test/a:1" } } } }));
    const nodesOf = async () =>
      (await world.context.store.readRaw(["select node_id from replicas"])).results[0]!.rows.map((row) => String(row[0]));
    const until = async (isDone: (nodes: string[]) => boolean) => {
      for (let turn = 0; turn < 100 && !isDone(await nodesOf()); turn++) await world.plane.clock.advance(150);
    };
    await until((nodes) => nodes.length === 4);
    await world.call("DELETE", `/v1/nodes/${gone}?force=true`);
    await until((nodes) => nodes.length === 4 && !nodes.includes(gone));
    expect((await nodesOf()).filter((nodeId) => nodeId !== id("n", 2))).toEqual([]);
    const ended = await world.get<List<{ reason: string; node: { status: string } }>>("/v1/namespaces/default/replicas?ended=true");
    const removed = ended.body.items.filter(({ node }) => node.status === "removed");
    expect(removed.map(({ reason }) => reason).every((reason) => reason === "nodeRemoved")).toBe(true);
  });
});

describe("sites and namespaces", () => {
  test("are made, changed and deleted", async () => {
    const world = await World.start();
    expect((await world.call("POST", "/v1/sites", { body: { name: "berlin", labels: { region: "eu" } } })).status).toBe(201);
    expect(
      (await world.call<{ labels: object }>("PATCH", "/v1/sites/berlin", { body: { labels: { region: null, power: "a" } } })).body.labels,
    ).toEqual({ power: "a" });
    expect((await world.call("DELETE", "/v1/sites/berlin")).status).toBe(200);
    expect((await world.call("POST", "/v1/namespaces", { body: { name: "fresh" } })).status).toBe(201);
    const bound = await world.token("admin", "fresh");
    const { body } = await world.call<Removed>("DELETE", "/v1/namespaces/fresh");
    expect(body.notes).toEqual(["1 token bound to it was deleted"]);
    expect((await world.get("/v1/whoami", { token: bound })).status).toBe(401);
  });

  test.each<[string, string, string, object | undefined, number, string]>([
    ["a site that exists", "POST", "/v1/sites", { name: "default" }, 422, "exists"],
    ["a site that is not there", "PATCH", "/v1/sites/nowhere", { labels: {} }, 404, "site"],
    ["deleting one that is not there", "DELETE", "/v1/sites/nowhere", undefined, 404, "site"],
    ["deleting a site with nodes", "DELETE", "/v1/sites/default", undefined, 422, "notEmpty"],
    ["a namespace that exists", "POST", "/v1/namespaces", { name: OTHER }, 422, "exists"],
    ["deleting a namespace with apps", "DELETE", "/v1/namespaces/default", undefined, 422, "notEmpty"],
    ["deleting one that is missing", "DELETE", "/v1/namespaces/nowhere", undefined, 404, "namespace"],
    ["credentials that are not there", "DELETE", "/v1/namespaces/default/registries/x.test", undefined, 404, "registry"],
    [
      "credentials for what is no registry",
      "PUT",
      "/v1/namespaces/default/registries/a b",
      { username: "u", password: "p" },
      400,
      "schema",
    ],
    ["a join token for a site that is not there", "POST", "/v1/join-tokens", { site: "nowhere" }, 422, "site"],
    ["deleting a join token that is not there", "DELETE", "/v1/join-tokens/jt_aaaaaaaaaaaaaaaa", undefined, 404, "joinToken"],
  ])("refuses %s", async (_, method, path, body, status, reason) => {
    const world = await World.start();
    await world.node(1);
    await world.deploy(appSpec("shop"));
    const refused = await world.call(method, path, { body });
    expect([refused.status, refused.body.error.reason]).toEqual([status, reason]);
  });
});

describe("join tokens", () => {
  test("carry what an agent needs, and enroll one", async () => {
    const world = await World.start();
    const { body } = await world.call<JoinTokenCreated>("POST", "/v1/join-tokens", {
      body: { site: "default", uses: 1, labels: { rack: "a" } },
    });
    const token = JoinToken.parse(JSON.parse(Buffer.from(body.token.slice(JOIN_TOKEN_PREFIX.length), "base64url").toString()));
    const { rootKey } = await world.context.store.cluster();
    expect(token).toMatchObject({ v: 1, id: body.id, url: world.context.address.url, root: await thumbprint(rootKey) });
    expect(body.command).toBe(`(curl -fsSL ${world.context.address.url}/join.sh || echo exit 1) | sh -s -- ${body.token}`);

    const [row] = (await world.context.store.readRaw([{ sql: "select public_key from join_tokens where id = ?", args: [body.id] }]))
      .results[0]!.rows;
    const agent = await world.plane.agent();
    await agent.enroll({ id: body.id, jwk: { ...JSON.parse(String(row![0])), d: token.seed } });
    const { body: nodes } = await world.get<List<Node>>("/v1/nodes");
    expect(nodes.items).toMatchObject([{ site: "default", labels: { rack: "a" }, admission: "admitted" }]);
    expect((await world.get<List<{ id: string; uses: number }>>("/v1/join-tokens")).body.items).toMatchObject([{ id: body.id, uses: 1 }]);
  });

  test("name another address, and pin our own certificate", async () => {
    const world = await World.start();
    Object.assign(world.context, { address: { url: "https://10.0.0.1:7420", spki: "a-_".repeat(14).concat("a") } });
    const { body } = await world.call<JoinTokenCreated>("POST", "/v1/join-tokens", {
      body: { site: "default", url: "https://berth.example.com:7420/" },
    });
    expect(body.command).toMatch(/^\(curl -fsSL -k --pinnedpubkey 'sha256\/\/\S+ .* \| sh -s -- berth_join_\S+$/);
    expect(body.command).toContain(" https://berth.example.com:7420/join.sh ");
    expect(JSON.parse(Buffer.from(body.token.slice(JOIN_TOKEN_PREFIX.length), "base64url").toString())).toMatchObject({
      url: "https://berth.example.com:7420",
      spki: "a-_".repeat(14).concat("a"),
    });
  });

  test.each([
    "javascript:alert(1)",
    "ftp://x.test",
    "https://user:pass@x.test",
    "https://x.test/$(reboot)",
    "https://x.test/';id;'",
    "https://x.test/?a=b",
    "http://x.test/`id`",
    "https://x.test/#a",
  ])("refuse %s as an address: the line is pasted into a root shell", async (url) => {
    const world = await World.start();
    expect((await world.call("POST", "/v1/join-tokens", { body: { site: "default", url } })).status).toBe(400);
  });
});

test("what an agent said of a replica is as fresh as its last poll, until its engine is gone", async () => {
  const world = await World.start();
  const { node: nodeId } = await world.plane.node();
  await world.deploy(appSpec("shop"));
  const { id: appId } = (await world.get<{ id: string }>("/v1/namespaces/default/apps/shop")).body;
  const fact = { state: "running", reason: "", message: "", containerId: "c", health: "none", readySinceMs: 1, restarts: 0 } as const;
  const rest = { exitCode: null, oomKilled: false, ports: [], pull: null, logTail: [], asOfMs: 1, mark: 0 };
  const report = { nodeId, session: 1, seq: 1, generation: 0, complete: true, engineMessage: "", asOfMs: 1, mark: 0 };
  await world.plane.commit({
    changes: [
      { op: "insert", table: "replicas", rows: [replicaRow(1, { appId, nodeId, revision: 2 })] },
      { op: "insert", table: "observations", rows: [{ replica: id("r", 1), nodeId, session: 1, seq: 1, ...fact, ...rest }] },
      { op: "insert", table: "nodeReports", rows: [{ ...report, engineReachable: true }], onConflict: "replace" },
    ],
  });
  const seen = async () => (await world.get<List<Replica>>("/v1/namespaces/default/replicas")).body.items[0]!;
  const { lastSeen } = (await world.get<Node>(`/v1/nodes/${nodeId}`)).body;
  const fresh = await seen();
  expect(Date.parse(fresh.asOf ?? "") - Date.parse(lastSeen ?? "")).toBeLessThan(5_000);
  expect([fresh.asOf! >= lastSeen!, fresh.node.engineReachable]).toEqual([true, true]);
  const reported = new Date(1).toISOString();
  await world.plane.commit({ changes: [{ op: "update", table: "nodeReports", rows: [{ nodeId, engineReachable: false }] }] });
  expect(await seen()).toMatchObject({ asOf: reported, node: { engineReachable: false } });
});
