/** The whole path with everything real but the agent's engine: deploy → plan → manifest → report → ready; loss → replacement. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AppSpec, type AppSpecInput } from "../../../shared/model/app.ts";
import type { Manifest } from "../../../shared/wire/poll.ts";
import type { ReplicaFact } from "../../../shared/wire/report.ts";
import { draftDeploy } from "../../../worker/deploy.ts";
import type { Planning } from "../../../worker/shard/planner.ts";
import { makePlanning } from "../../../worker/shard/planning.ts";
import { deployments, endedReplicas, observations, replicas } from "../../../worker/store/schema.ts";
import { ControlPlane, type ControlPlaneOptions } from "./control-plane.ts";
import { FACTS, type FakeAgent } from "./fake-agent.ts";

const planning = (parts: Parameters<NonNullable<ControlPlaneOptions["planning"]>>[0]): Planning =>
  makePlanning({ ...parts, rollBack: async () => {} });
const DIGEST = `sha256:${"a".repeat(64)}`;

let plane: ControlPlane;
beforeEach(async () => {
  plane = await ControlPlane.start({ planning });
});
afterEach(() => plane.stop());

async function deploy(input: Partial<AppSpecInput["services"][string]> = {}): Promise<void> {
  const spec = AppSpec.parse({
    name: "shop",
    services: { web: { replicas: 1, workload: { image: "registry.example.com/web:1" }, update: { minHealthyMs: 0 }, ...input } },
  });
  const draft = await draftDeploy(plane.context, { namespace: "default", app: "shop", spec, createdBy: "test" });
  await plane.commit({ changes: draft.changes, guards: draft.guards, events: draft.events });
  plane.context.shard.ring();
}

const fact = (replica: string, changes: Partial<ReplicaFact> = {}): ReplicaFact => ({
  replica: replica as ReplicaFact["replica"],
  state: "running",
  reason: "",
  message: "",
  containerId: "c0ffee",
  health: "none",
  readyForMs: 60_000,
  restarts: 0,
  exitCode: null,
  oomKilled: false,
  ports: [],
  pull: null,
  logTail: [],
  ageMs: 0,
  ...changes,
});

/** Reports every assignment of the manifest as running, and what its image means where it was asked to say. */
async function run(agent: FakeAgent, manifest: Manifest): Promise<Response> {
  return agent.request(
    "POST",
    "/agent/v1/report",
    agent.reportBody({
      generation: manifest.generation,
      replicas: manifest.assignments.map(({ replica }) => fact(replica)),
      images: manifest.assignments
        .filter(({ image }) => image.resolve)
        .map(({ namespace, app, revision, image }) => ({
          namespace,
          app,
          revision,
          reference: image.reference,
          digest: DIGEST,
          imageId: null,
        })),
    }),
  );
}

async function readyNode(): Promise<FakeAgent> {
  const agent = await plane.node();
  const answer = await agent.request("POST", "/agent/v1/report", agent.reportBody({ facts: FACTS }));
  expect(await answer.json()).toEqual({ ackSeq: 1 });
  return agent;
}

describe("deploy", () => {
  test("reaches the agent through a held poll, and its report makes the deployment succeed", async () => {
    const agent = await readyNode();
    const held = agent.accept();
    await plane.held(1);
    await deploy();
    await plane.eventually("the poll is answered", () => plane.context.shard.heldPolls === 0);
    const manifest = await held;
    expect(manifest?.assignments).toMatchObject([{ app: "shop", service: "web", slot: "0", image: { digest: null, resolve: true } }]);

    // Resolving its image makes a new generation that says the digest.
    expect((await run(agent, manifest!)).status).toBe(200);
    const next = await agent.accept();
    expect(next?.assignments).toMatchObject([{ image: { digest: DIGEST, resolve: false } }]);
    await plane.eventually(
      "the deployment has succeeded",
      async () => (await plane.context.store.db.select().from(deployments))[0]?.state === "succeeded",
    );
  });

  test("I15: a report that comes twice is acknowledged twice and applied once", async () => {
    const agent = await readyNode();
    await deploy();
    await plane.eventually("a replica", async () => (await plane.context.store.db.select().from(replicas)).length === 1);
    const manifest = await agent.accept();
    const body = agent.reportBody({ replicas: manifest!.assignments.map(({ replica }) => fact(replica)) });
    const first = await agent.request("POST", "/agent/v1/report", body);
    const { observed } = await plane.context.store.marks();
    const stale = { ...body, replicas: body.replicas.map((row) => ({ ...row, state: "failed" as const })) };
    const second = await agent.request("POST", "/agent/v1/report", stale);
    expect([await first.json(), await second.json()]).toEqual([{ ackSeq: 2 }, { ackSeq: 2 }]);
    expect((await plane.context.store.marks()).observed).toBe(observed);
    expect(await plane.context.store.db.select().from(observations)).toMatchObject([{ state: "running" }]);
  });

  test("a report that loses to other commits again and again is to come again, and no defect", async () => {
    const agent = await readyNode();
    const { store } = plane.context;
    const commit = store.commit.bind(store);
    let tries = 0;
    store.commit = async (mutation) => {
      const isReport = mutation.changes.some(({ table }) => table === "nodeReports");
      if (isReport) tries++;
      return isReport ? { kind: "conflict", what: "guard", message: "node report has changed since it was read" } : commit(mutation);
    };
    const body = agent.reportBody({});
    const lost = await agent.request("POST", "/agent/v1/report", body);
    expect([lost.status, lost.headers.get("retry-after")]).toEqual([409, "1"]);
    expect(await lost.json()).toMatchObject({ error: { code: "conflict", retryable: true } });
    expect(tries).toBe(5);
    store.commit = commit;
    expect(await (await agent.request("POST", "/agent/v1/report", body)).json()).toEqual({ ackSeq: body.seq });
  });

  test("B66: text that cannot be stored is mended, not refused: the node would fall silent", async () => {
    const agent = await readyNode();
    await deploy();
    await plane.eventually("a replica", async () => (await plane.context.store.db.select().from(replicas)).length === 1);
    const manifest = await agent.accept();
    const rows = manifest!.assignments.map(({ replica }) => fact(replica, { message: "a\0b \ud800", logTail: ["\u0000\u001b[31m"] }));
    expect((await agent.request("POST", "/agent/v1/report", agent.reportBody({ replicas: rows }))).status).toBe(200);
    expect(await plane.context.store.db.select().from(observations)).toMatchObject([{ message: "a\uFFFDb \uFFFD" }]);
  });
});

describe("loss", () => {
  test("a node that falls silent loses its replica to another, and gets nothing ended when it returns", async () => {
    const [one, two] = [await readyNode(), await readyNode()];
    await deploy();
    await plane.eventually("a replica", async () => (await plane.context.store.db.select().from(replicas)).length === 1);
    const [replica] = await plane.context.store.db.select().from(replicas);
    const [holder, other] = replica?.nodeId === one.node ? [one, two] : [two, one];
    const manifest = await holder.accept();
    await run(holder, manifest!);
    await holder.accept();

    // The other goes on polling; the holder is silent.
    const moved = keepPolling(other);
    await plane.clock.advance(8_000);
    await plane.eventually("a replacement", async () => (await plane.context.store.db.select().from(replicas)).length === 2);
    const rows = await plane.context.store.db.select().from(replicas);
    expect(rows.map(({ nodeId, desired }) => ({ nodeId, desired }))).toEqual(
      expect.arrayContaining([
        { nodeId: holder.node, desired: "run" },
        { nodeId: other.node, desired: "run" },
      ]),
    );
    expect((await moved).assignments).toHaveLength(1);
    expect(await plane.context.store.db.select().from(endedReplicas)).toHaveLength(0);
  });
});

/** Polls again whenever a hold ends, until there is a manifest with an assignment. */
async function keepPolling(agent: FakeAgent): Promise<Manifest> {
  for (;;) {
    const manifest = await agent.accept();
    if (manifest !== null && manifest.assignments.length > 0) return manifest;
  }
}
