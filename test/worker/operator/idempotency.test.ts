/** I13: a key takes effect once, and says so in the same words. */
import { describe, expect, test } from "vitest";
import { furnishedWorld, isMutation, methodOf, SAMPLES } from "./every-route.ts";
import { appSpec, World } from "./world.ts";

const keyNow = (name: string) => ({ "idempotency-key": `${Date.now()}-${name}` });
const mutations = SAMPLES.filter(isMutation);

describe("the same key again", () => {
  test.each(mutations.map((sample) => [sample.route, sample] as const))("%s: takes effect once and answers the same", async (_, sample) => {
    const { world, ids } = await furnishedWorld();
    const path = sample.path("default", ids.default!);
    const headers = keyNow("once");
    const first = await world.call(methodOf(sample), path, { body: sample.body, headers });
    expect(first.status).toBeLessThan(300);
    const after = { rev: await world.rev(), rows: await world.dump() };
    const second = await world.call(methodOf(sample), path, { body: sample.body, headers });
    expect([second.status, second.text]).toEqual([first.status, first.text]);
    expect(second.headers.get("idempotent-replayed")).toBe("true");
    expect(second.headers.get("berth-rev")).toBe(first.headers.get("berth-rev"));
    expect({ rev: await world.rev(), rows: await world.dump() }).toEqual(after);
  });

  test("at the same time takes effect once", async () => {
    const world = await World.start();
    const headers = keyNow("race");
    const rev = await world.rev();
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => world.call<{ id: string }>("POST", "/v1/tokens", { body: { name: "ci", role: "viewer" }, headers })),
    );
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect(await world.rev()).toBe(rev + 1);
  });

  test("that changed nothing still answers so when it would be a change by now", async () => {
    const world = await World.start();
    await world.deploy(appSpec("shop"));
    const headers = keyNow("nothing");
    const scale = (replicas: number, more: object = {}) =>
      world.call<{ deployment: null | object }>("PATCH", "/v1/namespaces/default/apps/shop/services/web", { body: { replicas }, ...more });
    const rev = await world.rev();
    const first = await scale(1, { headers });
    expect([first.status, first.body.deployment, await world.rev()]).toEqual([200, null, rev]);
    await scale(3);
    const again = await scale(1, { headers });
    expect([again.headers.get("idempotent-replayed"), again.text]).toEqual(["true", first.text]);
    const { body } = await world.get<{ services: { wanted: number }[] }>("/v1/namespaces/default/apps/shop");
    expect(body.services[0]?.wanted).toBe(3);
  });

  test("with another body is refused and changes nothing", async () => {
    const world = await World.start();
    const headers = keyNow("reused");
    await world.call("POST", "/v1/sites", { body: { name: "berlin" }, headers });
    const rev = await world.rev();
    const other = await world.call("POST", "/v1/sites", { body: { name: "paris" }, headers });
    expect([other.status, other.body.error.reason, await world.rev()]).toEqual([422, "idempotency", rev]);
  });

  test("after its acknowledgement was lost answers what was done", async () => {
    const world = await World.start();
    const { database } = world.context.store;
    const write = database.write.bind(database);
    database.write = async (statements) => {
      await write(statements);
      database.write = write;
      throw new Error("the connection was cut");
    };
    const ask = { body: { spec: appSpec("shop") }, headers: keyNow("lost") };
    expect((await world.call("PUT", "/v1/namespaces/default/apps/shop", ask)).status).toBe(500);
    const again = await world.call<{ deployment: { revision: number } }>("PUT", "/v1/namespaces/default/apps/shop", ask);
    expect([again.status, again.headers.get("idempotent-replayed")]).toEqual([200, "true"]);
    expect(again.body.deployment.revision).toBe(await world.rev());
  });
});

describe("keys", () => {
  test.each([
    "x",
    "123-abc",
    `${Date.now()}`,
    `${Date.now()}-`,
    `${Date.now()}-${"x".repeat(121)}`,
    "7f8d5a1c-1111-4111-8111-111111111111",
    `${Date.now()}-a b`,
  ])("%s is a 400 that says how a key is written", async (key) => {
    const world = await World.start();
    const { status, body } = await world.call("POST", "/v1/sites", { body: { name: "berlin" }, headers: { "idempotency-key": key } });
    expect([status, body.error.reason]).toEqual([400, "idempotency"]);
    expect(body.error.message).toContain("UUID");
  });

  test("may be a UUID of version 7", async () => {
    const world = await World.start();
    const time = Date.now().toString(16).padStart(12, "0");
    const headers = { "idempotency-key": `${time.slice(0, 8)}-${time.slice(8)}-7abc-8def-0123456789ab` };
    expect((await world.call("POST", "/v1/sites", { body: { name: "berlin" }, headers })).status).toBe(201);
    expect((await world.call("POST", "/v1/sites", { body: { name: "berlin" }, headers })).headers.get("idempotent-replayed")).toBe("true");
  });

  test("of another day are refused: nobody knows any more whether they were used", async () => {
    const world = await World.start();
    const rev = await world.rev();
    const { status, body } = await world.call("POST", "/v1/sites", {
      body: { name: "berlin" },
      headers: { "idempotency-key": `${Date.now() - 90_000_000}-old` },
    });
    expect([status, body.error.reason, await world.rev()]).toEqual([422, "idempotency", rev]);
  });

  test("keep no secret in the database", async () => {
    const world = await World.start();
    const headers = keyNow("secret");
    const made = await world.call<{ token: string; command: string }>("POST", "/v1/join-tokens", { body: { site: "default" }, headers });
    expect(await world.dump()).not.toContain(made.body.token);
    expect(await world.dump()).not.toContain(made.body.token.slice("berth_join_".length, 60));
    const registry = { body: { username: "u", password: "hunter2-hunter2" }, headers: keyNow("registry") };
    await world.call("PUT", "/v1/namespaces/default/registries/r.test", registry);
    expect(await world.dump()).not.toContain("hunter2");
  });
});

test("sent again while the first is under way, it is not refused for what the first has done", async () => {
  const world = await World.start();
  const headers = keyNow("race");
  const ask = () => world.call<{ name: string }>("POST", "/v1/sites", { body: { name: "berlin" }, headers });
  const { database } = world.context.store;
  const read = database.read.bind(database);
  database.read = async (statements) => {
    const results = await read(statements);
    if (!JSON.stringify(statements).includes('\\"ops\\"')) return results;
    // It has seen that the key is unused, and before it goes on the twin is carried out.
    database.read = read;
    expect((await ask()).status).toBe(201);
    return results;
  };
  const again = await ask();
  expect([again.status, again.headers.get("idempotent-replayed"), again.body.name]).toEqual([201, "true", "berlin"]);
});
