import { eq } from "drizzle-orm";
import { generateKeyPair } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JOSE_TYPES } from "../../../shared/wire/jose.ts";
import { countReturns } from "../../../worker/routes/agent/session.ts";
import { events, nodes } from "../../../worker/store/schema.ts";
import { ControlPlane } from "./control-plane.ts";
import { type FakeAgent, random22 } from "./fake-agent.ts";

let plane: ControlPlane;
let agent: FakeAgent;
beforeEach(async () => {
  plane = await ControlPlane.start();
  agent = await plane.agent();
  await agent.enroll(await plane.joinToken());
});
afterEach(() => plane.stop());

const errorOf = async (answer: Response) => ((await answer.json()) as { error: { code: string; reason: string } }).error;
const row = async () => (await plane.context.store.db.select().from(nodes).where(eq(nodes.id, agent.node)))[0];
const open = async (changes: Parameters<FakeAgent["sessionBody"]>[0] = {}) =>
  agent.post("/agent/v1/session", await agent.sessionBody(changes));

describe("a session", () => {
  test("is numbered by the rev of its commit, rises, and makes the node ready", async () => {
    const first = await agent.openSession();
    expect(await row()).toMatchObject({ session: first.session, status: "ready", instance: agent.instance, rev: first.session });
    const second = await agent.openSession();
    expect(second.session).toBeGreaterThan(first.session);
    expect(second.sealedKey).not.toBe(first.sealedKey);
  });

  test("needs the node's key", async () => {
    const { privateKey } = await generateKeyPair("Ed25519");
    const answer = await open({ key: privateKey });
    expect(await errorOf(answer)).toMatchObject({ code: "bad_proof", reason: "signature" });
  });

  test("F53: of another node's name with this node's key is refused", async () => {
    const other = await plane.node();
    expect(await errorOf(await open({ header: { kid: other.node } }))).toMatchObject({ code: "bad_proof", reason: "node" });
    expect(await errorOf(await open({ header: { kid: other.node }, payload: { node: other.node } }))).toMatchObject({
      code: "bad_proof",
      reason: "signature",
    });
  });

  test.each([
    ["no kid", { kid: undefined }, "kid"],
    ["a kid that climbs", { kid: "../n_aaaaaaaaaaaaaaaa" }, "kid"],
    ["an enrolment's typ", { typ: "berth-enroll+jwt" }, "typ"],
    ["EdDSA", { alg: "EdDSA" }, "alg"],
  ])("F50 F52 F58: with %s is refused", async (_, header, reason) => {
    const body = JSON.parse(await agent.sessionBody()) as { jws: string };
    const [, payload, signature] = body.jws.split(".");
    const forged = Buffer.from(JSON.stringify({ alg: "Ed25519", typ: "berth-session+jwt", kid: agent.node, ...header })).toString(
      "base64url",
    );
    const answer = await agent.post("/agent/v1/session", JSON.stringify({ jws: `${forged}.${payload}.${signature}` }));
    expect(await errorOf(answer)).toMatchObject({ code: "bad_proof", reason });
  });

  test("F50: HS256 with the node's public key as its secret is refused", async () => {
    const secret = new TextEncoder().encode(agent.sign.jwk.x);
    expect(await errorOf(await open({ header: { alg: "HS256" }, key: secret }))).toMatchObject({ code: "bad_proof", reason: "alg" });
  });

  test("with a stale nonce is refused", async () => {
    expect(await errorOf(await open({ payload: { serverNonce: "1.AAAAAAAAAAAAAAAAAAAAAA" } }))).toMatchObject({ code: "stale_nonce" });
  });

  test("of an unknown node is refused, of a removed one for good", async () => {
    const unknown = "n_aaaaaaaaaaaaaaaa";
    expect(await errorOf(await open({ header: { kid: unknown }, payload: { node: unknown } }))).toMatchObject({ code: "unauthenticated" });
    await plane.commit({
      changes: [
        { op: "delete", table: "nodes", keys: [{ id: agent.node }] },
        {
          op: "insert",
          table: "removedNodes",
          rows: [{ thumbprint: await agent.thumbprint(), id: agent.node, name: "edge-1", removedMs: 1 }],
        },
      ],
    });
    const challenge = "c".repeat(22);
    const answer = await open({ payload: { challenge } });
    expect(answer.status).toBe(410);
    const { error, jws } = (await answer.json()) as { error: { code: string }; jws: string };
    expect(error.code).toBe("removed");
    expect(await agent.verify(jws, JOSE_TYPES.removal, agent.node)).toEqual({ iss: agent.keySet.iss, aud: agent.node, challenge });
  });

  test("is opened ten times at once by a node and then once a second; others do not notice", async () => {
    const other = await plane.node();
    const rev = (await plane.context.store.marks()).rev;
    const statuses: number[] = [];
    for (let i = 0; i < 13; i++) statuses.push((await open()).status);
    expect(statuses).toEqual([...Array(10).fill(200), 429, 429, 429]);
    expect((await plane.context.store.marks()).rev).toBe(rev + 10);
    const refused = await open();
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
    expect(await errorOf(refused)).toMatchObject({ code: "rate_limited", retryable: true });
    await other.openSession();
    await plane.clock.advance(2_000);
    expect([(await open()).status, (await open()).status, (await open()).status]).toEqual([200, 200, 429]);
  });

  test("is not used up by those who have not the node's key", async () => {
    const { privateKey } = await generateKeyPair("Ed25519");
    for (let i = 0; i < 20; i++) expect((await open({ key: privateKey })).status).toBe(401);
    await agent.openSession();
  });

  test("survives many at once: each gets its own number, the last one holds", async () => {
    const bodies = await Promise.all(Array.from({ length: 5 }, () => agent.sessionBody()));
    const answers = await Promise.all(bodies.map((body) => agent.post("/agent/v1/session", body)));
    expect(answers.some((answer) => answer.status === 200)).toBe(true);
    expect(answers.every((answer) => answer.status === 200 || answer.status === 409)).toBe(true);
  });
});

describe("F15: clones of one key", () => {
  test("an agent that restarts again and again is no clone", async () => {
    for (let i = 0; i < 10; i++) {
      agent.instance = random22();
      await agent.openSession();
    }
    expect((await row())?.quarantined).toBe(false);
  });

  test("two that take turns are quarantined at the third return, and an operator lifts it", async () => {
    const [one, two] = [random22(), random22()];
    for (const instance of [one, two, one, two]) {
      agent.instance = instance;
      await agent.openSession();
      await agent.request("POST", "/agent/v1/report", agent.reportBody());
      expect((await row())?.quarantined).toBe(false);
    }
    agent.instance = one;
    await agent.openSession();
    expect((await row())?.quarantined).toBe(true);
    const written = await plane.context.store.db.select().from(events).where(eq(events.type, "quarantined"));
    expect(written).toHaveLength(1);

    // The other one is kept off, so that they do not take the session from each other for ever.
    agent.instance = two;
    const answer = await open();
    expect(answer.status).toBe(403);
    expect(answer.headers.get("retry-after")).toBe("30");
    expect(await errorOf(answer)).toMatchObject({ code: "quarantined", retryable: true });

    await plane.commit({
      changes: [{ op: "update", table: "nodes", rows: [{ id: agent.node, quarantined: false, instanceChangesMs: [] }] }],
    });
    await agent.openSession();
    expect((await row())?.quarantined).toBe(false);
  });

  test("F31 F45: requests of an agent and of its next start, answered in turns after a standstill, are no clones", async () => {
    const [one, two] = [random22(), random22()];
    for (const instance of [one, two, one, two, one, two, one, two]) {
      agent.instance = instance;
      await agent.openSession();
    }
    expect((await row())?.quarantined).toBe(false);
  });

  test("returns more than ten minutes apart do not add up", () => {
    const node = { instance: "a b", instanceChangesMs: [0, 1_000] };
    expect(countReturns(node, { instance: "b", nowMs: 600_500, isUsed: true }).instanceChangesMs).toEqual([1_000, 600_500]);
    expect(countReturns(node, { instance: "b", nowMs: 700_000, isUsed: true }).instanceChangesMs).toEqual([700_000]);
  });
});
