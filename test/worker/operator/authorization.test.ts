import { describe, expect, test } from "vitest";
import { type ErrorBody, ROLES, type Role } from "../../../shared/api/resources.ts";
import { hashText } from "../../../shared/model/content.ts";
import { ROUTES } from "../../../worker/routes/operator/table.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { furnishedWorld, isMutation, methodOf, SAMPLES, type Sample } from "./every-route.ts";
import { type List, OTHER, World } from "./world.ts";

const withDryRun = (sample: Sample, path: string) => (isMutation(sample) ? `${path}${path.includes("?") ? "&" : "?"}dryRun=true` : path);

/** What a caller gets who is let through: everything that a sample names is there. */
const TAKEN = 200;

function expected(sample: Sample, role: Role, namespace: string | null): number {
  if (sample.reach === "namespace" && namespace !== null && namespace !== "default") return 404;
  if (sample.reach === "cluster" && namespace !== null) return 403;
  if (ROLES.indexOf(role) < ROLES.indexOf(sample.least)) return 403;
  return sample.reach === "own" && namespace !== null && namespace !== "default" ? 404 : TAKEN;
}

test("every route has a sample, and every sample a route", () => {
  expect(SAMPLES.map(({ route }) => route).sort()).toEqual(ROUTES.map(({ method, path }) => `${method.toUpperCase()} ${path}`).sort());
});

describe("who may send what", () => {
  test("role by role, route by route", async () => {
    const { world, ids } = await furnishedWorld();
    for (const role of ROLES) {
      for (const namespace of [null, "default", OTHER]) {
        const token = await world.token(role, namespace);
        for (const sample of SAMPLES) {
          const path = withDryRun(sample, sample.path("default", ids.default!));
          const { status, text } = await world.call(methodOf(sample), path, { token, body: sample.body });
          expect({
            route: sample.route,
            role,
            namespace,
            status,
            text: status === expected(sample, role, namespace) ? "" : text.slice(0, 300),
          }).toEqual({
            route: sample.route,
            role,
            namespace,
            status: expected(sample, role, namespace),
            text: "",
          });
        }
      }
    }
  });

  test("nobody without a token, with a wrong one, or with one that has expired", async () => {
    const { world, ids } = await furnishedWorld();
    const expired = await world.token("admin", null, 1);
    for (const token of [null, expired, `berth_${"a".repeat(39)}`, "berth_x", "x"]) {
      for (const sample of SAMPLES) {
        const { status } = await world.call(methodOf(sample), sample.path("default", ids.default!), { token, body: sample.body });
        expect({ route: sample.route, token, status }).toEqual({ route: sample.route, token, status: 401 });
      }
    }
  });
});

describe("tokens", () => {
  test("stop working with the commit that deletes them, though they were remembered", async () => {
    const world = await World.start();
    const made = await world.call<{ id: string; token: string }>("POST", "/v1/tokens", { body: { name: "ci", role: "viewer" } });
    expect(made.status).toBe(201);
    expect((await world.get("/v1/whoami", { token: made.body.token })).status).toBe(200);
    expect((await world.call("DELETE", `/v1/tokens/${made.body.id}`)).status).toBe(200);
    const after = await world.get("/v1/whoami", { token: made.body.token });
    expect(after.status).toBe(401);
    expect(after.body.error.reason).toBe("unknown");
  });

  test("are shown once and stored as a hash", async () => {
    const world = await World.start();
    const made = await world.call<{ token: string }>("POST", "/v1/tokens", {
      body: { name: "ci", role: "viewer" },
      headers: { "idempotency-key": `${Date.now()}-one` },
    });
    expect(made.body.token).toMatch(/^berth_[a-z2-7]{39}$/);
    expect(await world.dump()).not.toContain(made.body.token);
    expect((await world.get("/v1/tokens")).text).not.toContain(made.body.token);
  });

  test("with a typing mistake are refused before anything is read", async () => {
    const world = await World.start();
    const reads: unknown[] = [];
    const { database } = world.context.store;
    const read = database.read.bind(database);
    database.read = (statements) => {
      reads.push(statements);
      return read(statements);
    };
    const mistyped = world.admin.replace(/.$/, (last) => (last === "a" ? "b" : "a"));
    const { status, body } = await world.get("/v1/whoami", { token: mistyped });
    expect([status, body.error.reason, reads.length]).toEqual([401, "checksum", 0]);
  });

  test("cannot delete themselves", async () => {
    const world = await World.start();
    const { body } = await world.get<{ token: string }>("/v1/whoami");
    const refused = await world.call("DELETE", `/v1/tokens/${body.token}`);
    expect([refused.status, refused.body.error.reason]).toEqual([422, "self"]);
  });

  test("of a namespace are managed by its admin: deployers and viewers, no others", async () => {
    const { world, ids } = await furnishedWorld();
    const token = await world.token("admin", "default");
    const create = (body: object) => world.call<ErrorBody & { id: string }>("POST", "/v1/tokens", { token, body: { name: "ci", ...body } });
    const made = await create({ role: "deployer", namespace: "default" });
    expect(made.status).toBe(201);
    const { body } = await world.get<List<{ id: string; namespace: string }>>("/v1/tokens", { token });
    expect(body.items.map(({ id }) => id)).toContain(made.body.id);
    expect(new Set(body.items.map(({ namespace }) => namespace))).toEqual(new Set(["default"]));
    expect((await world.call("DELETE", `/v1/tokens/${made.body.id}`, { token })).status).toBe(200);

    const answers = [
      await create({ role: "admin", namespace: "default" }),
      await create({ role: "viewer" }),
      await create({ role: "viewer", namespace: OTHER }),
      await create({ role: "viewer", namespace: "tenant-x" }),
      await world.call("DELETE", `/v1/tokens/${ids[OTHER]!.token}`, { token }),
    ];
    expect(answers.map(({ status, body: { error } }) => `${status} ${error.reason}`)).toEqual([
      "403 role",
      "403 scope",
      "404 namespace",
      "404 namespace",
      "404 token",
    ]);
    expect(answers[2]!.text.replace(OTHER, "?")).toBe(answers[3]!.text.replace("tenant-x", "?"));

    await world.token("admin", "default");
    const other = (await world.get<List<{ id: string; role: string }>>("/v1/tokens", { token })).body.items.filter(
      ({ role }) => role === "admin",
    );
    const self = (await world.get<{ token: string }>("/v1/whoami", { token })).body.token;
    const refused = await world.call("DELETE", `/v1/tokens/${other.find(({ id }) => id !== self)!.id}`, { token });
    expect([refused.status, refused.body.error.reason]).toEqual([403, "role"]);
  });

  describe("are bounded in number", () => {
    const crowd = (world: World, count: number, { namespace, expiresMs }: { namespace: string | null; expiresMs: number | null }) =>
      world.plane.commit({
        changes: [
          {
            op: "insert",
            table: "tokens",
            rows: Array.from({ length: count }, (_, i) => {
              const name = `${namespace}-${expiresMs}-${i}`;
              return { id: `t_${name}`, hash: hashText(name), name, role: "viewer", namespace, createdMs: NOW, expiresMs };
            }),
          },
        ],
      });
    const make = (world: World, namespace: string | null) =>
      world.call("POST", "/v1/tokens", { body: { name: "ci", role: "viewer", namespace } });
    const count = async (world: World, where: string) =>
      Number((await world.context.store.readRaw([`select count(*) from tokens where ${where}`])).results[0]!.rows[0]![0]);

    test.each([
      ["a namespace", "default", 100, /^there are 100 tokens of namespace default, and 100 may be; .*berth token rm/],
      ["all namespaces", null, 1_000, /^there are 1000 tokens of all namespaces, and 1000 may be; .*berth token rm/],
    ])("of %s", async (_, namespace, max, message) => {
      const world = await World.start();
      await crowd(world, max - 1 - (namespace === null ? 1 : 0), { namespace, expiresMs: null });
      expect((await make(world, namespace)).status).toBe(201);
      const { status, body } = await make(world, namespace);
      expect([status, body.error.code, body.error.reason]).toEqual([422, "refused", "tokens"]);
      expect(body.error.message).toMatch(message);
      // Of others there may be as many as before.
      expect((await make(world, OTHER)).status).toBe(201);
    });

    test("and one that has expired makes room, the longest expired first", async () => {
      const world = await World.start();
      await crowd(world, 97, { namespace: "default", expiresMs: null });
      for (const expiresMs of [2_000, 1_000, 3_000]) await crowd(world, 1, { namespace: "default", expiresMs });
      await crowd(world, 1, { namespace: OTHER, expiresMs: 500 });
      for (const left of [2, 1, 0]) {
        expect((await make(world, "default")).status).toBe(201);
        expect(await count(world, "namespace = 'default'")).toBe(100);
        expect(await count(world, "namespace = 'default' and expires_ms is not null")).toBe(left);
        if (left === 2) expect(await count(world, "expires_ms = 1000")).toBe(0);
      }
      expect((await make(world, "default")).status).toBe(422);
      expect(await count(world, `namespace = '${OTHER}'`)).toBe(1);
    });

    test("and where there is room one that has expired stays in the list", async () => {
      const world = await World.start();
      await crowd(world, 1, { namespace: "default", expiresMs: 1_000 });
      expect((await make(world, "default")).status).toBe(201);
      expect(await count(world, "namespace = 'default'")).toBe(2);
    });
  });

  test("must name a namespace that exists", async () => {
    const world = await World.start();
    const refused = await world.call("POST", "/v1/tokens", { body: { name: "ci", role: "viewer", namespace: "nowhere" } });
    expect([refused.status, refused.body.error.reason]).toEqual([422, "namespace"]);
    expect((await world.call("DELETE", "/v1/tokens/t_aaaaaaaaaaaaaaaa")).status).toBe(404);
  });
});
