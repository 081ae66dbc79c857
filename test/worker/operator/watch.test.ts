import { describe, expect, test } from "vitest";
import type { Replica } from "../../../shared/api/resources.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import { settle } from "../agent/control-plane.ts";
import { furnishedWorld, SAMPLES } from "./every-route.ts";
import { appSpec, type List, World } from "./world.ts";

const SITES = "/v1/sites";
type Sites = List<{ name: string }>;

/** Moves time until the answer is there; says how much it took. */
async function answered<T>(world: World, promise: Promise<T>, limitMs = 60_000): Promise<{ value: T; afterMs: number }> {
  let value: { got: T } | null = null;
  void promise.then((got) => {
    value = { got };
  });
  let afterMs = 0;
  for (; afterMs < limitMs; afterMs += 250) {
    await settle();
    if (value !== null) return { value: (value as { got: T }).got, afterMs };
    await world.plane.clock.advance(250);
  }
  throw new Error(`no answer within ${limitMs} ms`);
}

function countReads(world: World): () => number {
  const { database } = world.context.store;
  const read = database.read.bind(database);
  let reads = 0;
  database.read = (statements) => {
    reads += 1;
    return read(statements);
  };
  return () => reads;
}

describe("watch", () => {
  test("answers at once when something is newer", async () => {
    const world = await World.start();
    const { watch } = (await world.get<Sites>(SITES)).body;
    await world.call("POST", SITES, { body: { name: "berlin" } });
    const { value, afterMs } = await answered(world, world.get<Sites>(`${SITES}?watch=${watch}`));
    expect([afterMs, value.body.items.map(({ name }) => name)]).toEqual([0, ["berlin", "default"]]);
  });

  test("holds until something is written, and answers the whole list", async () => {
    const world = await World.start();
    const { watch, rev } = (await world.get<Sites>(SITES)).body;
    const held = world.get<Sites>(`${SITES}?watch=${watch}`);
    await settle();
    await world.plane.clock.advance(5_000);
    await world.call("POST", SITES, { body: { name: "berlin" } });
    const { value } = await answered(world, held, 1_000);
    expect(value.body.rev).toBe(rev + 1);
    expect(value.body.items.map(({ name }) => name)).toEqual(["berlin", "default"]);
  });

  test("ends after 25 s with the same mark", async () => {
    const world = await World.start();
    const { watch } = (await world.get<Sites>(SITES)).body;
    const { value, afterMs } = await answered(world, world.get<Sites>(`${SITES}?watch=${watch}`));
    expect([value.status, value.body.watch]).toEqual([200, watch]);
    expect(afterMs).toBeGreaterThanOrEqual(24_750);
    expect(afterMs).toBeLessThan(26_000);
  });

  test("sees what agents observe, which moves no rev", async () => {
    const world = await World.start({ plans: true });
    const agent = await world.plane.node();
    await world.deploy(appSpec("shop"));
    const list = "/v1/namespaces/default/replicas";
    for (let turn = 0; turn < 50 && (await world.get<List<Replica>>(list)).body.items.length === 0; turn++)
      await world.plane.clock.advance(150);
    await world.plane.clock.advance(1_000);
    const before = (await world.get<List<Replica>>(list)).body;
    expect(before.items[0]?.state).toBe("assigned");
    const held = world.get<List<Replica>>(`${list}?watch=${before.watch}`);
    await settle();
    await agent.request(
      "POST",
      "/agent/v1/report",
      agent.reportBody({
        complete: false,
        replicas: [
          {
            replica: before.items[0]!.id,
            state: "preparing",
            reason: "pulling",
            message: "",
            containerId: null,
            health: "none",
            readyForMs: null,
            restarts: 0,
            exitCode: null,
            oomKilled: false,
            ports: [],
            pull: { currentBytes: 5, totalBytes: 10 },
            logTail: [],
            ageMs: 0,
          },
        ],
      }),
    );
    const { value, afterMs } = await answered(world, held, 2_000);
    expect(afterMs).toBe(0);
    expect(value.body.rev).toBe(before.rev);
    expect(value.body.items[0]).toMatchObject({ state: "preparing", pull: { currentBytes: 5, totalBytes: 10 } });
  });

  test("reads nothing while nothing changes, and looks once when it ends", async () => {
    const world = await World.start();
    const { watch } = (await world.get<Sites>(SITES)).body;
    const held = world.get<Sites>(`${SITES}?watch=${watch}`);
    await settle();
    const reads = countReads(world);
    await world.plane.clock.advance(24_000);
    expect(reads()).toBe(0);
    await world.plane.clock.advance(1_000);
    await held;
    expect(reads()).toBe(1);
  });

  test("hears with the next commit of an observation that nobody told of", async () => {
    const world = await World.start();
    const { watch } = (await world.get<Sites>(SITES)).body;
    const held = world.get<Sites>(`${SITES}?watch=${watch}`);
    await settle();
    await world.context.store.commit({ advance: "observed", changes: [] });
    await world.context.shard.refresh();
    expect((await answered(world, held)).afterMs).toBe(0);
  });

  test("that ends finds what nobody told it of", async () => {
    const world = await World.start();
    const { watch, rev } = (await world.get<Sites>(SITES)).body;
    const held = world.get<Sites>(`${SITES}?watch=${watch}`);
    await settle();
    await world.context.store.commit({
      changes: [{ op: "insert", table: "sites", rows: [{ name: "berlin", labels: {}, createdMs: NOW }] }],
    });
    const { value, afterMs } = await answered(world, held);
    expect(afterMs).toBe(25_000);
    expect(value.body.rev).toBe(rev + 1);
  });

  test.each(["999", "999.0", "2.999"])("of a mark from elsewhere (%s) is gone", async (mark) => {
    const world = await World.start();
    const { status, body } = await world.get(`${SITES}?watch=${mark}`);
    expect([status, body.error.code]).toEqual([410, "gone"]);
  });

  test("from before what is kept is gone, and says to load again", async () => {
    const world = await World.start();
    await world.context.store.database.write([{ sql: "update cluster set feed_floor = 3", args: [] }]);
    const { status, body } = await world.get(`${SITES}?watch=1`);
    expect([status, body.error.code]).toEqual([410, "gone"]);
    expect(body.error.message).toContain("load the list again");
  });

  test.each(["x", "-1", "1.2.3", "1e3", "", "0x1", "9".repeat(20)])("of %j is a 400", async (mark) => {
    const world = await World.start();
    expect((await world.get(`${SITES}?watch=${mark}`)).status).toBe(400);
  });

  test("is refused before it is held when the caller may not see the list", async () => {
    const world = await World.start();
    const token = await world.token("viewer", "default");
    expect((await world.get(`/v1/namespaces/tenant-b/apps?watch=1`, { token })).status).toBe(404);
    expect((await world.get(`${SITES}?watch=1`, { token })).status).toBe(403);
  });

  test("of one token are bounded in number", async () => {
    const world = await World.start();
    const { watch } = (await world.get<Sites>(SITES)).body;
    const held = Array.from({ length: 64 }, () => world.get<Sites>(`${SITES}?watch=${watch}`));
    await settle();
    await settle();
    const refused = await world.get(`${SITES}?watch=${watch}`);
    expect([refused.status, refused.body.error.code]).toEqual([429, "rate_limited"]);
    await world.plane.commit({ changes: [{ op: "insert", table: "sites", rows: [{ name: "berlin", labels: {}, createdMs: NOW }] }] });
    await world.plane.clock.advance(500);
    expect((await Promise.all(held)).every(({ status }) => status === 200)).toBe(true);
    expect((await world.get(`${SITES}?watch=${watch}`)).status).toBe(200);
  });

  test("of all tokens of one namespace are bounded in number together", async () => {
    const world = await World.start();
    const tokens = [await world.token("viewer", "default"), await world.token("viewer", "default")];
    const list = "/v1/namespaces/default/apps";
    const { watch } = (await world.get<List<object>>(list)).body;
    const held = Array.from({ length: 64 }, (_, i) => world.get(`${list}?watch=${watch}`, { token: tokens[i % 2]! }));
    await settle();
    await settle();
    const refused = await world.get(`${list}?watch=${watch}`, { token: tokens[0]! });
    expect([refused.status, refused.body.error.message]).toEqual([429, "64 watches of namespace default are held; close some"]);
    const other = await answered(world, world.get(`${list}?watch=${watch}`));
    expect(other.value.status).toBe(200);
    await Promise.all(held);
  });

  test.each([
    ["is deleted", "delete from tokens where role = 'viewer'"],
    ["expires", "update tokens set expires_ms = 1 where role = 'viewer'"],
  ])("tells nothing to a token that %s while it is held", async (_, sql) => {
    const world = await World.start();
    const token = await world.token("viewer", null);
    const { watch } = (await world.get<Sites>(SITES, { token })).body;
    const held = world.get(`${SITES}?watch=${watch}`, { token });
    await settle();
    await world.context.store.database.write([sql]);
    await world.call("POST", SITES, { body: { name: "berlin" } });
    const { value } = await answered(world, held, 1_000);
    expect([value.status, value.text.includes("berlin")]).toEqual([401, false]);
  });

  test("ends when the control plane stops", async () => {
    const world = await World.start();
    const { watch } = (await world.get<Sites>(SITES)).body;
    const held = world.get<Sites>(`${SITES}?watch=${watch}`);
    await settle();
    await world.context.shard.stop();
    expect((await answered(world, held, 1_000)).value.status).toBe(200);
  });

  test("ends when the caller goes away, and leaves no timer", async () => {
    const world = await World.start();
    const { watch } = (await world.get<Sites>(SITES)).body;
    const timers = world.plane.clock.timers;
    const leaving = new AbortController();
    const held = world.app.request(`${SITES}?watch=${watch}`, {
      headers: { authorization: `Bearer ${world.admin}` },
      signal: leaving.signal,
    });
    await settle();
    expect(world.plane.clock.timers).toBe(timers + 1);
    const reads = countReads(world);
    leaving.abort();
    await held;
    expect(reads()).toBe(0);
    expect(world.plane.clock.timers).toBe(timers);
  });

  test("is taken by every list", async () => {
    const { world, ids } = await furnishedWorld();
    const lists = SAMPLES.filter(({ route }) => route.startsWith("GET "));
    const watched: string[] = [];
    for (const sample of lists) {
      const path = sample.path("default", ids.default!);
      const { body } = await world.get<Partial<List<unknown>>>(path);
      if (body?.items === undefined) continue;
      expect({ route: sample.route, watch: body.watch }).toEqual({ route: sample.route, watch: expect.stringMatching(/^\d+\.\d+$/) });
      expect((await world.get(`${path}${path.includes("?") ? "&" : "?"}watch=${Number(body.rev) - 1}`)).status).toBe(200);
      watched.push(sample.route);
    }
    expect(watched.length).toBe(14);
  });
});
