/** The plan that a deploy shows: decided by the planner itself, put in words. */
import { describe, expect, test } from "vitest";
import type { App, DeployAnswer, DeployPlan } from "../../../shared/api/resources.ts";
import type { AppSpecInput } from "../../../shared/model/app.ts";
import { ServiceSpec } from "../../../shared/model/app.ts";
import { differences } from "../../../worker/differences.ts";
import { NOW } from "../../../worker/store/commit-types.ts";
import type { NodeFacts } from "../../../shared/wire/report.ts";
import { id, nodeRow } from "../../store/rows.ts";
import { appSpec, World } from "./world.ts";

const APP = "/v1/namespaces/default/apps/shop";
const spec = (services: AppSpecInput["services"], over: Partial<AppSpecInput> = {}): AppSpecInput => appSpec("shop", { services, ...over });
const lone = (image: string, over: object = {}, workload: object = {}) => ({
  workload: { image, networkMode: "none" as const, ...workload },
  ...over,
});

async function preview(world: World, input: AppSpecInput): Promise<DeployPlan> {
  const { status, body, text } = await world.call<DeployAnswer>("PUT", `${APP}?dryRun=true`, { body: { spec: input } });
  if (status !== 200) throw new Error(text);
  return body.plan;
}

/** Replicas of a service as if its deployment had run: slot n on nodes[n]. */
async function running(world: World, service: string, nodes: readonly string[]): Promise<void> {
  const { body } = await world.get<App>(APP);
  const row = (
    await world.context.store.readRaw([
      { sql: "select spec, revision from services where app_id = ? and name = ?", args: [body.id, service] },
    ])
  ).results[0]!.rows[0]!;
  await world.plane.commit({
    changes: [
      {
        op: "insert",
        table: "replicas",
        rows: nodes.map((nodeId, slot) => ({
          id: id("r", 1000 * service.length + slot),
          appId: body.id,
          service,
          slot: String(slot),
          nodeId,
          spec: String(row[0]),
          revision: Number(row[1]),
          desired: "run" as const,
          reason: "initial",
          assignedMs: 1,
          attempt: 0,
          stoppedMs: null,
        })),
      },
      {
        op: "insert",
        table: "observations",
        rows: nodes.map((nodeId, slot) => ({
          replica: id("r", 1000 * service.length + slot),
          nodeId,
          session: 1,
          seq: 1,
          state: "running",
          reason: "",
          message: "",
          containerId: "c",
          health: "none",
          readySinceMs: 1,
          restarts: 0,
          exitCode: null,
          oomKilled: false,
          ports: [],
          pull: null,
          logTail: [],
          asOfMs: 1,
          mark: 0,
        })),
      },
      { op: "update", table: "deployments", rows: [{ id: body.deployment!.id, state: "succeeded", finishedMs: NOW }] },
    ],
  });
}

const of = (plan: DeployPlan, service = "web") => plan.services.find((one) => one.service === service)!;

describe("replicas", () => {
  test("new ones are shown with the nodes they will be on, spread", async () => {
    const world = await World.start();
    await world.node(1);
    await world.node(2);
    const plan = await preview(world, spec({ web: lone("x.test/web:1", { replicas: 2 }) }));
    expect(of(plan)).toMatchObject({ action: "create", counts: { create: 2, unplaced: 0 } });
    expect(of(plan).replicas.map(({ slot, action, from, reason }) => [slot, action, from, reason])).toEqual([
      ["0", "create", null, "initial"],
      ["1", "create", null, "initial"],
    ]);
    expect(
      of(plan)
        .replicas.map(({ to }) => to)
        .sort(),
    ).toEqual(["node-1", "node-2"]);
  });

  test("what is shown is what the planner then does", async () => {
    const world = await World.start({ plans: true });
    for (const number of [1, 2, 3]) await world.node(number);
    const wanted = spec({ web: lone("x.test/web:1", { replicas: 5 }), api: lone("x.test/api:1", { replicas: 2 }) });
    const plan = await preview(world, wanted);
    await world.deploy(wanted);
    const placed = async () =>
      (
        await world.context.store.readRaw([
          "select r.service, r.slot, n.name from replicas r join nodes n on n.id = r.node_id order by 1, 2",
        ])
      ).results[0]!.rows.map((row) => `${String(row[0])} ${String(row[1])} ${String(row[2])}`);
    for (let turn = 0; turn < 50 && (await placed()).length < 7; turn++) await world.plane.clock.advance(200);
    expect(await placed()).toEqual(
      plan.services.flatMap(({ service, replicas }) => replicas.map(({ slot, to }) => `${service} ${slot} ${to}`)).sort(),
    );
  });

  test("what other apps occupy counts: load, host ports and devices as the planner sees them", async () => {
    const world = await World.start({ plans: true });
    const { facts } = nodeRow(1);
    for (const number of [1, 2, 3, 4]) await world.node(number, { facts: { ...(facts as NodeFacts), devices: { gpu: 1 } } });
    const placed = async (app: string) =>
      (
        await world.context.store.readRaw([
          {
            sql: "select r.service, r.slot, n.name from replicas r join nodes n on n.id = r.node_id join apps a on a.id = r.app_id where a.name = ? order by 1, 2",
            args: [app],
          },
        ])
      ).results[0]!.rows.map((row) => `${String(row[0])} ${String(row[1])} ${String(row[2])}`);
    const settled = async (app: string, count: number) => {
      for (let turn = 0; turn < 50 && (await placed(app)).length < count; turn++) await world.plane.clock.advance(200);
      expect((await placed(app)).length).toBe(count);
    };
    await world.deploy(
      appSpec("big", { services: { a: lone("x.test/a:1", { replicas: 3, reservation: { cpuMillis: 900, memoryMiB: 2000 } }) } }),
    );
    await settled("big", 3);
    await world.deploy(
      appSpec("edge", {
        services: { a: lone("x.test/a:1", { replicas: 2 }, { ports: [{ target: 80, published: 80 }], networkMode: "app" }) },
      }),
    );
    await settled("edge", 2);
    await world.deploy(appSpec("ml", { services: { a: lone("x.test/a:1", { replicas: 2, reservation: { devices: { gpu: 1 } } }) } }));
    await settled("ml", 2);

    const wanted = spec({
      // The one service with names in the app, so it too is placed by itself.
      web: lone("x.test/web:1", { replicas: 2 }, { ports: [{ target: 80, published: 80 }], networkMode: "app" }),
      gpu: lone("x.test/gpu:1", { replicas: 3, reservation: { devices: { gpu: 1 } } }),
      api: lone("x.test/api:1", { replicas: 4 }),
    });
    const plan = await preview(world, wanted);
    expect(of(plan, "gpu").counts).toMatchObject({ create: 2, unplaced: 1 });
    await world.deploy(wanted);
    await settled("shop", 8);
    const shown = plan.services.flatMap(({ service, replicas }) =>
      replicas.filter(({ to }) => to !== null).map(({ slot, to }) => `${service} ${slot} ${to}`),
    );
    expect(await placed("shop")).toEqual(shown.sort());
  });

  test("how many replicas a node has counts", async () => {
    const world = await World.start();
    const nodes = [await world.node(1)];
    await world.deploy(appSpec("bulk", { services: { web: lone("x.test/bulk:1", { reservation: { cpuMillis: 0, memoryMiB: 0 } }) } }));
    const { body } = await world.get<App>("/v1/namespaces/default/apps/bulk");
    const { results } = await world.context.store.readRaw(["select spec, revision from services"]);
    const row = results[0]!.rows[0]!;
    await world.plane.commit({
      changes: [
        {
          op: "insert",
          table: "replicas",
          rows: Array.from({ length: 998 }, (_, slot) => ({
            id: id("r", slot),
            appId: body.id,
            service: "web",
            slot: String(slot),
            nodeId: nodes[0]!,
            spec: String(row[0]),
            revision: Number(row[1]),
            desired: "run" as const,
            reason: "initial",
            assignedMs: 1,
            attempt: 0,
            stoppedMs: null,
          })),
        },
      ],
    });
    const plan = await preview(world, spec({ web: lone("x.test/web:1", { replicas: 3 }) }));
    expect(of(plan).counts).toMatchObject({ create: 2, unplaced: 1 });
    expect(of(plan).replicas[2]).toMatchObject({ slot: "2", reason: "replicas" });
  });

  test("a new image replaces each slot, start-first, from where to where", async () => {
    const world = await World.start();
    const nodes = [await world.node(1), await world.node(2)];
    await world.deploy(spec({ web: lone("x.test/web:1", { replicas: 2 }) }));
    await running(world, "web", nodes);
    const plan = await preview(world, spec({ web: lone("x.test/web:2", { replicas: 2 }) }));
    expect(of(plan)).toMatchObject({
      action: "update",
      differences: ["image x.test/web:1 → x.test/web:2"],
      order: "start-first",
      counts: { replace: 2, create: 0, keep: 0, remove: 0, unplaced: 0 },
    });
    expect(of(plan).replicas.map(({ from, reason }) => [from, reason])).toEqual([
      ["node-1", "update"],
      ["node-2", "update"],
    ]);
    expect(of(plan).replicas.every(({ to }) => to !== null)).toBe(true);
  });

  test("scaling keeps what is there, and adds or removes the rest", async () => {
    const world = await World.start();
    const nodes = [await world.node(1), await world.node(2)];
    await world.deploy(spec({ web: lone("x.test/web:1", { replicas: 2 }) }));
    await running(world, "web", nodes);
    expect(of(await preview(world, spec({ web: lone("x.test/web:1", { replicas: 3 }) })))).toMatchObject({
      action: "scale",
      counts: { keep: 2, create: 1, replace: 0 },
    });
    expect(of(await preview(world, spec({ web: lone("x.test/web:1", { replicas: 1 }) })))).toMatchObject({
      action: "scale",
      counts: { keep: 1, remove: 1, replace: 0 },
    });
    expect(of(await preview(world, spec({ web: lone("x.test/web:1", { replicas: 2 }) })))).toMatchObject({
      action: "keep",
      counts: { keep: 2 },
    });
  });

  test("scaling in the middle of another rollout shows what that goes on to replace", async () => {
    const world = await World.start();
    const nodes = [await world.node(1), await world.node(2)];
    await world.deploy(spec({ web: lone("x.test/web:1", { replicas: 2 }), api: lone("x.test/api:1") }));
    await running(world, "web", nodes);
    await world.deploy(spec({ web: lone("x.test/web:2", { replicas: 2 }), api: lone("x.test/api:1") }));
    const scale = (service: string) =>
      world.call<DeployAnswer>("PATCH", `${APP}/services/${service}?dryRun=true`, { body: { replicas: 3 } });
    const { plan } = (await scale("api")).body;
    expect(of(plan)).toMatchObject({
      action: "update",
      differences: ["nothing, but 2 of its replicas are not as wanted and replaced"],
      counts: { replace: 2 },
    });
    expect(of((await scale("web")).body.plan)).toMatchObject({
      action: "update",
      differences: ["replicas 2 → 3"],
      counts: { replace: 2, create: 1 },
    });
  });

  test("scaling after a failure replaces nothing", async () => {
    const world = await World.start();
    const nodes = [await world.node(1), await world.node(2)];
    await world.deploy(spec({ web: lone("x.test/web:1", { replicas: 2 }), api: lone("x.test/api:1") }));
    await running(world, "web", nodes);
    const { body } = await world.deploy(spec({ web: lone("x.test/web:2", { replicas: 2 }), api: lone("x.test/api:1") }));
    await world.plane.commit({ changes: [{ op: "update", table: "deployments", rows: [{ id: body.deployment!.id, state: "failed" }] }] });
    const scale = async (service: string, replicas: number) =>
      (await world.call<DeployAnswer>("PATCH", `${APP}/services/${service}?dryRun=true`, { body: { replicas } })).body.plan;
    expect(of(await scale("api", 2))).toMatchObject({ action: "keep", counts: { keep: 2, replace: 0 } });
    expect(of(await scale("web", 1))).toMatchObject({ action: "scale", counts: { keep: 1, remove: 1, replace: 0 } });
    expect(of(await scale("web", 3))).toMatchObject({ action: "scale", counts: { keep: 2, create: 1, replace: 0 } });
    expect(of(await scale("web", 2))).toMatchObject({ action: "keep", counts: { keep: 2, replace: 0 } });
  });

  test("a service that is gone is shown with what stops", async () => {
    const world = await World.start();
    const nodes = [await world.node(1)];
    await world.deploy(spec({ web: lone("x.test/web:1"), old: lone("x.test/old:1") }));
    await running(world, "old", nodes);
    expect(of(await preview(world, spec({ web: lone("x.test/web:1") })), "old")).toMatchObject({
      action: "remove",
      counts: { remove: 1 },
      replicas: [{ slot: "0", from: "node-1", to: null }],
    });
  });

  test("what does not fit says why, with numbers", async () => {
    const world = await World.start();
    await world.node(1);
    const plan = await preview(world, spec({ web: lone("x.test/web:1", { replicas: 3, reservation: { memoryMiB: 5000 } }) }));
    expect(of(plan).counts).toMatchObject({ create: 1, unplaced: 2 });
    const unplaced = of(plan).replicas.filter(({ to }) => to === null);
    expect(unplaced.map(({ reason }) => reason)).toEqual(["memory", "memory"]);
    expect(unplaced[0]?.message).toMatch(/5000 MiB|memory/);
  });

  test("many are rehearsed in few steps, and all are counted", async () => {
    const world = await World.start();
    const nodes: string[] = [];
    for (let number = 1; number <= 4; number++) nodes.push(await world.node(number));
    await world.deploy(spec({ web: lone("x.test/web:1", { replicas: 200 }) }));
    await running(
      world,
      "web",
      Array.from({ length: 200 }, (_, slot) => nodes[slot % 4]!),
    );
    expect(of(await preview(world, spec({ web: lone("x.test/web:2", { replicas: 200 }) }))).counts).toEqual({
      create: 0,
      replace: 200,
      remove: 0,
      keep: 0,
      unplaced: 0,
    });
  });

  test("nothing of the rehearsal reaches the database or the planner", async () => {
    const world = await World.start();
    await world.node(1);
    await world.deploy(spec({ web: lone("x.test/web:1") }));
    const before = await world.dump();
    await preview(world, spec({ web: lone("x.test/web:2", { replicas: 4 }) }));
    expect(await world.dump()).toBe(before);
    expect(await world.context.snapshots.use(({ snapshot }) => snapshot.replicas.length)).toBe(0);
  });
});

describe("words", () => {
  test("services that share a node are named, and land on one", async () => {
    const world = await World.start();
    await world.node(1);
    await world.node(2);
    const plan = await preview(
      world,
      appSpec("shop", { services: { web: { workload: { image: "x.test/web:1" } }, db: { workload: { image: "x.test/db:1" } } } }),
    );
    expect(plan.notes).toContain("db and web talk to each other by name or share a volume, so they are placed together on one node");
    expect(new Set(plan.services.flatMap(({ replicas }) => replicas.map(({ to }) => to))).size).toBe(1);
  });

  test("volumes are made, kept or left over", async () => {
    const world = await World.start();
    const nodeId = await world.node(1);
    const mounts = (...names: string[]) => ({ mounts: names.map((volume) => ({ kind: "volume" as const, volume, target: `/${volume}` })) });
    await world.deploy(spec({ web: lone("x.test/web:1", {}, mounts("data", "old")) }, { volumes: { data: {}, old: {} } }));
    await world.plane.commit({
      changes: [
        {
          op: "insert",
          table: "volumes",
          rows: ["data", "old"].map((volume) => ({
            namespace: "default",
            app: "shop",
            service: "web",
            slot: "0",
            volume,
            nodeId,
            engineName: `berth_default_shop_${volume}`,
          })),
        },
      ],
    });
    const plan = await preview(
      world,
      spec({ web: lone("x.test/web:1", {}, mounts("data", "fresh")) }, { volumes: { data: {}, fresh: {} } }),
    );
    expect(plan.volumes).toEqual([
      { name: "data", action: "keep" },
      { name: "fresh", action: "create" },
      { name: "old", action: "orphan" },
    ]);
    expect(plan.notes.join()).toContain("volume old is no longer used");
    expect(of(plan)).toMatchObject({ order: "stop-first", orderReason: expect.stringContaining("volume data") });
  });

  test("data that a removed app left is used again, on the node that has it", async () => {
    const world = await World.start();
    await world.node(1);
    const nodeId = await world.node(2);
    await world.node(3);
    const place = { namespace: "default", app: "shop", service: "web", slot: "0", volume: "data" };
    await world.plane.commit({
      changes: [{ op: "insert", table: "volumes", rows: [{ ...place, nodeId, engineName: "berth_default_shop_data" }] }],
    });
    const mounts = { mounts: [{ kind: "volume" as const, volume: "data", target: "/data" }] };
    const again = spec({ web: lone("x.test/web:1", {}, mounts) }, { volumes: { data: {} } });
    const plan = await preview(world, again);
    expect(plan.volumes).toEqual([{ name: "data", action: "keep" }]);
    expect(plan.notes).toEqual(expect.arrayContaining(["data that an earlier shop left behind is used again: data on node-2"]));
    expect(of(plan).replicas).toMatchObject([{ slot: "0", action: "create", to: "node-2" }]);

    await world.plane.commit({ changes: [{ op: "update", table: "nodes", rows: [{ id: nodeId, status: "lost" }] }] });
    expect(of(await preview(world, again)).replicas).toMatchObject([
      { to: null, reason: "volume", message: "its data is on node-2, which is lost: it waits for that node" },
    ]);
  });

  test("a config whose text changed is a difference", async () => {
    const world = await World.start();
    const mount = { mounts: [{ kind: "config" as const, config: "page", target: "/page" }] };
    await world.deploy(spec({ web: lone("x.test/web:1", {}, mount) }, { configs: { page: { content: "one" } } }));
    expect(
      of(await preview(world, spec({ web: lone("x.test/web:1", {}, mount) }, { configs: { page: { content: "two" } } }))),
    ).toMatchObject({ action: "update", differences: ["contents of a config changed"] });
  });

  const service = (input: object) => ServiceSpec.parse({ workload: { image: "x.test/web:1" }, ...input });
  test.each<[string, object, object, string[]]>([
    ["nothing", {}, {}, []],
    ["a count", { replicas: 2 }, { replicas: 3 }, ["replicas 2 → 3"]],
    ["an image", {}, { workload: { image: "x.test/web:2" } }, ["image x.test/web:1 → x.test/web:2"]],
    [
      "variables, by name alone",
      { workload: { image: "x.test/web:1", env: { KEEP: "1", OLD: "hunter1", CHANGED: "hunter2" } } },
      { workload: { image: "x.test/web:1", env: { KEEP: "1", NEW: "hunter3", CHANGED: "hunter4" } } },
      ["env NEW added", "env CHANGED changed", "env OLD removed"],
    ],
    [
      "ports",
      { workload: { image: "x.test/web:1", ports: [{ target: 80 }] } },
      { workload: { image: "x.test/web:1", ports: [{ target: 80, published: 8080 }] } },
      ["port 8080→80/tcp added", "port any→80/tcp removed"],
    ],
    ["mounts", {}, { workload: { image: "x.test/web:1", mounts: [{ kind: "tmpfs", target: "/tmp" }] } }, ["mount tmpfs→/tmp added"]],
    ["a command, without its words", {}, { workload: { image: "x.test/web:1", command: ["--password", "hunter2"] } }, ["command set"]],
    ["a number", {}, { workload: { image: "x.test/web:1", stopGraceMs: 20_000 } }, ["stopGraceMs 10000 → 20000"]],
    [
      "placement",
      {},
      { placement: { strategy: "binpack", constraints: [{ key: "node.arch", operator: "=", values: ["x64"] }] } },
      ["constraint node.arch = x64 added", "placement.strategy spread → binpack"],
    ],
    ["the reservation", {}, { reservation: { memoryMiB: 128 } }, ["reservation changed"]],
    ["the rollout", {}, { update: { parallelism: 2 } }, ["update.parallelism 1 → 2"]],
  ])("%s", (_, before, after, words) => {
    const said = differences(service(before), service(after));
    expect(said).toEqual(words);
    expect(said.join()).not.toContain("hunter");
  });
});
