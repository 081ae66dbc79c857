/** Long lists come in pages that together are the whole list, once each. */
import { describe, expect, test } from "vitest";
import { id, replicaRow } from "../../store/rows.ts";
import { appSpec, type List, OTHER, World } from "./world.ts";

interface Item {
  readonly id: string;
}
type Page = List<Item> & { readonly next: string | null };
const REPLICAS = "/v1/namespaces/default/replicas";

/** `shop` with 25 live replicas and 7 that have ended; another tenant with 3. */
async function crowded(): Promise<World> {
  const world = await World.start();
  await world.node(1);
  await world.deploy(appSpec("shop"));
  await world.deploy(appSpec("shop"), { namespace: OTHER });
  const appOf = async (namespace: string) => (await world.get<{ id: string }>(`/v1/namespaces/${namespace}/apps/shop`)).body.id;
  const [ours, theirs] = [await appOf("default"), await appOf(OTHER)];
  await world.plane.commit({
    changes: [
      {
        op: "insert",
        table: "replicas",
        // Two of each slot, as while one is replaced.
        rows: Array.from({ length: 25 }, (_, i) => replicaRow(i + 1, { appId: ours, slot: String(i >> 1), revision: 2 })),
      },
      { op: "insert", table: "replicas", rows: [100, 101, 102].map((n) => replicaRow(n, { appId: theirs, slot: String(n), revision: 2 })) },
      {
        op: "insert",
        table: "endedReplicas",
        rows: Array.from({ length: 7 }, (_, i) => ({
          id: id("r", 200 + i),
          appId: ours,
          service: "web",
          slot: String(i >> 1),
          nodeId: id("n", 1),
          revision: 2,
          state: "failed",
          reason: "exited",
          message: "",
          exitCode: 1,
          logTail: [],
          endedMs: 5 + (i % 3),
        })),
      },
    ],
  });
  await world.context.shard.refresh();
  return world;
}

async function walk(world: World, path: string): Promise<{ ids: string[]; sizes: number[] }> {
  const ids: string[] = [];
  const sizes: number[] = [];
  for (let next: string | null = ""; next !== null; ) {
    const { status, body }: { status: number; body: Page } = await world.get<Page>(`${path}${next === "" ? "" : `&cursor=${next}`}`);
    expect(status).toBe(200);
    ids.push(...body.items.map((item) => item.id));
    sizes.push(body.items.length);
    next = body.next;
  }
  return { ids, sizes };
}

describe("replicas", () => {
  test.each([1, 2, 10, 25, 31, 32, 33])("in pages of %i are all of them, once each, in the order of the whole list", async (limit) => {
    const world = await crowded();
    const whole = (await world.get<Page>(`${REPLICAS}?ended=true`)).body;
    expect([whole.items.length, whole.next]).toEqual([32, null]);
    const { ids, sizes } = await walk(world, `${REPLICAS}?ended=true&limit=${limit}`);
    expect(ids).toEqual(whole.items.map((item) => item.id));
    expect(sizes).toEqual([...Array.from({ length: Math.ceil(32 / limit) - 1 }, () => limit), 32 % limit || limit]);
  });

  test("of a page's end that has gone meanwhile go on from there", async () => {
    const world = await crowded();
    const first = (await world.get<Page>(`${REPLICAS}?limit=10`)).body;
    await world.plane.commit({ changes: [{ op: "delete", table: "replicas", keys: [{ id: first.items[9]!.id }] }] });
    const second = (await world.get<Page>(`${REPLICAS}?limit=10&cursor=${first.next}`)).body;
    expect(second.items.length).toBe(10);
    expect(second.items.filter((item) => first.items.some((other) => other.id === item.id))).toEqual([]);
  });

  test("with a cursor of another tenant's list are one's own still", async () => {
    const world = await crowded();
    const theirs = (await world.get<Page>(`/v1/namespaces/${OTHER}/replicas?limit=1`)).body;
    const token = await world.token("viewer", "default");
    const { body } = await world.get<List<{ namespace: string }>>(`${REPLICAS}?cursor=${theirs.next}`, { token });
    expect(body.items.filter(({ namespace }) => namespace !== "default")).toEqual([]);
  });

  test.each(["x", "bnVsbA", "W10", encodeURIComponent("' or 1=1 --"), "x".repeat(2_000)])(
    "with the cursor %s are a 400",
    async (cursor) => {
      const world = await crowded();
      expect((await world.get(`${REPLICAS}?cursor=${cursor}`)).status).toBe(400);
    },
  );

  test.each(["0", "-1", "10001", "1.5", "x"])("with limit %s are a 400", async (limit) => {
    const world = await World.start();
    expect((await world.get(`${REPLICAS}?limit=${limit}`)).status).toBe(400);
  });

  test("are watched by their first page alone", async () => {
    const world = await crowded();
    const { next, watch } = (await world.get<Page>(`${REPLICAS}?limit=10`)).body;
    const refused = await world.get(`${REPLICAS}?limit=10&cursor=${next}&watch=${watch}`);
    expect([refused.status, refused.body.error.reason]).toEqual([400, "cursor"]);
    await world.deploy(appSpec("other"));
    const { body } = await world.get<Page>(`${REPLICAS}?limit=10&watch=${watch}`);
    expect([body.items.length, typeof body.next]).toEqual([10, "string"]);
  });
});

test("deployments come in pages, newest first", async () => {
  const world = await World.start();
  for (let replicas = 1; replicas <= 5; replicas++)
    await world.deploy(appSpec("shop", { services: { web: { replicas, workload: { image: "registry.test/web:1" } } } }));
  const path = "/v1/namespaces/default/deployments";
  const whole = (await world.get<Page>(path)).body.items.map((item) => item.id);
  expect(await walk(world, `${path}?limit=2`)).toEqual({ ids: whole, sizes: [2, 2, 1] });
});
