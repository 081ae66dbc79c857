/** I26, B75: nothing that a tenant is answered shows another tenant's id, name, count, or that it exists at all. */
import { describe, expect, test } from "vitest";
import { furnishedWorld, type Ids, isMutation, methodOf, SAMPLES } from "./every-route.ts";
import { appSpec, type List, OTHER } from "./world.ts";

/** As long as the other tenant's name, so that even lengths agree. */
const MISSING = "tenant-x";
const namespaced = SAMPLES.filter(({ reach }) => reach === "namespace");

describe("another tenant's namespace", () => {
  test("is the same answer as one that does not exist, on every route and for every role", async () => {
    const { world, ids } = await furnishedWorld();
    for (const role of ["viewer", "deployer", "admin"] as const) {
      const token = await world.token(role, "default");
      for (const sample of namespaced) {
        const ask = async (namespace: string) => {
          const { status, text, headers } = await world.call(methodOf(sample), sample.path(namespace, ids[OTHER]!), {
            token,
            body: sample.body,
          });
          return { status, text: text.replaceAll(namespace, "?"), headers: [...headers.keys()].sort() };
        };
        const foreign = await ask(OTHER);
        expect({ route: sample.route, ...foreign }).toEqual({ route: sample.route, ...(await ask(MISSING)) });
        expect(foreign.status).toBe(404);
      }
    }
  });

  test("is untouched by all of it", async () => {
    const { world, ids } = await furnishedWorld();
    const token = await world.token("admin", "default");
    const before = await world.dump();
    for (const sample of namespaced.filter(isMutation))
      await world.call(methodOf(sample), sample.path(OTHER, ids[OTHER]!), { token, body: sample.body });
    expect(await world.dump()).toBe(before);
  });
});

describe("another tenant's ids in one's own namespace", () => {
  test.each([
    ["deployments", (ids: Ids) => ids.deployment, "d_aaaaaaaaaaaaaaaa"],
    ["replicas", (ids: Ids) => ids.replica, "r_aaaaaaaaaaaaaaaa"],
    ["apps/shop/revisions", (ids: Ids) => String(ids.revision), "99999"],
  ])("%s", async (noun, idOf, missing) => {
    const { world, ids } = await furnishedWorld();
    const token = await world.token("admin", "default");
    const foreign = idOf(ids[OTHER]!);
    const answerTo = async (id: string) => {
      const { status, text } = await world.get(`/v1/namespaces/default/${noun}/${id}`, { token });
      return { status, text: text.replaceAll(id, "?") };
    };
    expect(await answerTo(foreign)).toEqual(await answerTo(missing));
    expect((await answerTo(foreign)).status).toBe(404);
    expect((await world.get(`/v1/namespaces/default/${noun}/${idOf(ids.default!)}`, { token })).status).toBe(200);
  });

  test("a rollback to another tenant's revision is one to a missing revision", async () => {
    const { world, ids } = await furnishedWorld();
    const token = await world.token("deployer", "default");
    const roll = (toRevision: number) => world.call("POST", "/v1/namespaces/default/apps/shop/rollback", { token, body: { toRevision } });
    const foreign = await roll(ids[OTHER]!.revision);
    expect([foreign.status, foreign.body.error.reason]).toEqual([404, "revision"]);
  });

  test("tokens and join tokens of the cluster are out of reach, whether they exist or not", async () => {
    const { world, ids } = await furnishedWorld();
    const token = await world.token("admin", "default");
    for (const [noun, theirs, missing, status] of [
      ["tokens", ids[OTHER]!.token, "t_aaaaaaaaaaaaaaaa", 404],
      ["join-tokens", ids[OTHER]!.joinToken, "jt_aaaaaaaaaaaaaaaa", 403],
    ] as const) {
      const there = await world.call("DELETE", `/v1/${noun}/${theirs}`, { token });
      const nowhere = await world.call("DELETE", `/v1/${noun}/${missing}`, { token });
      expect([there.status, there.text.replace(theirs, "?")]).toEqual([status, nowhere.text.replace(missing, "?")]);
    }
  });
});

describe("lists, counts and cursors of a tenant's token", () => {
  test("hold nothing of another tenant", async () => {
    const { world, ids } = await furnishedWorld();
    await world.deploy(appSpec("only-theirs"), { namespace: OTHER });
    const token = await world.token("admin", "default");
    const secrets = [OTHER, "only-theirs", ...Object.values(ids[OTHER]!).filter((value) => typeof value === "string")];
    for (const sample of SAMPLES.filter((one) => !isMutation(one))) {
      const { text } = await world.get(sample.path("default", ids.default!), { token });
      for (const secret of secrets)
        expect({ route: sample.route, secret, shown: text.includes(secret) }).toEqual({ route: sample.route, secret, shown: false });
    }
  });

  test("count only what is theirs", async () => {
    const { world } = await furnishedWorld();
    const token = await world.token("viewer", "default");
    await world.deploy(appSpec("only-theirs"), { namespace: OTHER });
    expect((await world.get<{ apps: number }>("/v1/cluster", { token })).body.apps).toBe(1);
    expect((await world.get<{ apps: number }>("/v1/cluster")).body.apps).toBe(3);
  });

  test("show names and sites of nodes, and no more", async () => {
    const { world } = await furnishedWorld();
    const token = await world.token("admin", "default");
    expect((await world.get<List<object>>("/v1/nodes", { token })).body.items).toEqual([{ name: "node-1", site: "default" }]);
    expect((await world.get<object>("/v1/nodes/node-1", { token })).body).toEqual({ name: "node-1", site: "default" });
  });

  test.each([`app=only-theirs`, "app=shop", "after=0"])("filters and cursors stay inside: events?%s", async (query) => {
    const { world } = await furnishedWorld();
    await world.deploy(appSpec("only-theirs"), { namespace: OTHER });
    const token = await world.token("viewer", "default");
    const { body } = await world.get<List<{ namespace: string }>>(`/v1/namespaces/default/events?${query}`, { token });
    expect(body.items.filter(({ namespace }) => namespace !== "default")).toEqual([]);
  });

  test("events of the whole cluster are those of the namespace", async () => {
    const { world } = await furnishedWorld();
    const token = await world.token("viewer", "default");
    const { body } = await world.get<List<{ namespace: string | null }>>("/v1/events", { token });
    expect(body.items.length).toBeGreaterThan(0);
    expect(new Set(body.items.map(({ namespace }) => namespace))).toEqual(new Set(["default"]));
  });
});

test("an Idempotency-Key of another token is unknown, with the same text", async () => {
  const { world } = await furnishedWorld();
  const key = { "idempotency-key": `${Date.now()}-shared` };
  const theirs = await world.token("deployer", OTHER);
  const ours = await world.token("deployer", "default");
  const put = (namespace: string, token: string) =>
    world.call("PUT", `/v1/namespaces/${namespace}/registries/a.test`, {
      token,
      headers: key,
      body: { username: `user-of-${namespace}`, password: "p" },
    });
  expect((await put(OTHER, theirs)).status).toBe(200);
  const second = await put("default", ours);
  expect(second.status).toBe(200);
  expect(second.headers.get("idempotent-replayed")).toBeNull();
  expect(second.text).not.toContain(OTHER);
});
