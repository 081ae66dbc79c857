import { describe, expect, test } from "vitest";
import { furnishedWorld, isMutation, methodOf, SAMPLES } from "./every-route.ts";
import { appSpec } from "./world.ts";

const mutations = SAMPLES.filter(isMutation);
const and = (path: string, query: string) => `${path}${path.includes("?") ? "&" : "?"}${query}`;

describe("dryRun", () => {
  test.each(mutations.map((sample) => [sample.route, sample] as const))(
    "%s writes nothing and answers what it would be",
    async (_, sample) => {
      const { world, ids } = await furnishedWorld();
      const path = sample.path("default", ids.default!);
      const { after } = sample;
      if (after !== undefined) await world.call(after.method, after.path("default", ids.default!), { body: after.body });
      const before = { rev: await world.rev(), rows: await world.dump() };
      const dry = await world.call<Record<string, unknown>>(methodOf(sample), and(path, "dryRun=true"), {
        body: sample.body,
        headers: { "idempotency-key": `${Date.now()}-dry` },
      });
      expect([dry.status, dry.headers.get("berth-dry-run")]).toEqual([200, "true"]);
      expect({ rev: await world.rev(), rows: await world.dump() }).toEqual(before);

      const done = await world.call<Record<string, unknown>>(methodOf(sample), path, { body: sample.body });
      expect(done.status).toBeLessThan(300);
      expect(await world.rev()).toBeGreaterThan(before.rev);
      expect(Object.keys(done.body).sort()).toEqual(Object.keys(dry.body).sort());
    },
  );

  test.each(mutations.map((sample) => [sample.route, sample] as const))("%s refuses another word for it", async (_, sample) => {
    const { world, ids } = await furnishedWorld();
    const before = await world.dump();
    for (const value of ["yes", "1", "", "TRUE"]) {
      const { status } = await world.call(methodOf(sample), and(sample.path("default", ids.default!), `dryRun=${value}`), {
        body: sample.body,
      });
      expect(status).toBe(400);
    }
    expect(await world.dump()).toBe(before);
  });

  test("is taken one at a time of each token, with four in line", async () => {
    const { world } = await furnishedWorld();
    let [now, most] = [0, 0];
    const { snapshots } = world.context;
    const use = snapshots.use.bind(snapshots);
    const dryRun = () => world.call("PUT", "/v1/namespaces/default/apps/shop?dryRun=true", { body: { spec: appSpec("shop") } });
    snapshots.use = async (take) => {
      most = Math.max(most, ++now);
      try {
        return await use(take);
      } finally {
        now--;
      }
    };
    const answers = await Promise.all(Array.from({ length: 8 }, dryRun));
    expect(most).toBe(1);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 200, 429, 429, 429]);
    expect(answers.find(({ status }) => status === 429)?.body.error.message).toContain("dry runs");
    expect((await dryRun()).status).toBe(200);
  });

  test("makes no token that works", async () => {
    const { world } = await furnishedWorld();
    const token = await world.call<{ token: string }>("POST", "/v1/tokens?dryRun=true", { body: { name: "ci", role: "viewer" } });
    const joinToken = await world.call<{ token: string; command: string }>("POST", "/v1/join-tokens?dryRun=true", {
      body: { site: "default" },
    });
    expect([token.body.token, joinToken.body.token, joinToken.body.command]).toEqual(["", "", ""]);
  });
});
