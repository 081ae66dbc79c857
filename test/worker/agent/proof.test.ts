import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { sha256 as hash, random22, type FakeAgent, type ProofChanges } from "./fake-agent.ts";
import { ControlPlane } from "./control-plane.ts";
import { cpuMs } from "./cpu-time.ts";

let plane: ControlPlane;
let agent: FakeAgent;
beforeAll(async () => {
  plane = await ControlPlane.start();
});
afterAll(() => plane.stop());
beforeEach(async () => {
  agent = await plane.node();
});

const HASH = "0".repeat(64);
const BODY = `/agent/v1/bodies/${HASH}`;
/** A proved request for a body that is not there: 404 says that the proof was taken. */
const PROVED = 404;
const ask = (changes: ProofChanges = {}) => agent.request("GET", BODY, "", changes);
const errorOf = async (answer: Response) => ((await answer.json()) as { error: { code: string; reason: string } }).error;

describe("a proof", () => {
  test("is taken", async () => {
    expect((await ask()).status).toBe(PROVED);
  });

  test("is needed", async () => {
    const answer = await plane.send(BODY);
    expect(answer.status).toBe(401);
    expect(await errorOf(answer)).toMatchObject({ code: "bad_proof", reason: "missing" });
  });

  test.each([
    ["alg none", { alg: "none" }, "alg"],
    ["HS512", { alg: "HS512" }, "alg"],
    ["typ of a session", { typ: "berth-session+jwt" }, "typ"],
    ["no typ", { typ: undefined }, "typ"],
    ["crit", { crit: ["exp"] }, "header"],
    ["b64 false", { b64: false, crit: ["b64"] }, "header"],
    ["jwk", { jwk: { kty: "oct", k: "AA" } }, "header"],
    ["jku", { jku: "https://evil.example" }, "header"],
    ["x5u", { x5u: "https://evil.example" }, "header"],
    ["zip", { zip: "DEF" }, "header"],
    ["no kid", { kid: undefined }, "kid"],
    ["a kid that climbs", { kid: "../../n_aaaaaaaaaaaaaaaa.1" }, "kid"],
    ["SQL in the kid", { kid: "n_aaaaaaaaaaaaaaaa.1' or 1=1 --" }, "kid"],
    ["session 0", { kid: "n_aaaaaaaaaaaaaaaa.0" }, "kid"],
    ["a session over 2^53", { kid: "n_aaaaaaaaaaaaaaaa.9999999999999999" }, "kid"],
    ["a kid of 400 characters", { kid: "n".repeat(400) }, "header"],
  ])("F50 F51 F52 F58: with %s is refused", async (_, changes, reason) => {
    const jws = await agent.proof({ method: "GET", path: BODY, body: "" });
    const [, payload, signature] = jws.split(".");
    const header = { alg: "HS256", typ: "berth-request+jwt", kid: `${agent.node}.${agent.session}`, ...changes };
    const forged = `${Buffer.from(JSON.stringify(header)).toString("base64url")}.${payload}.${signature}`;
    const answer = await plane.send(BODY, { headers: { authorization: `Berth ${forged}` } });
    expect(answer.status).toBe(401);
    expect(await errorOf(answer)).toMatchObject({ code: "bad_proof", reason });
  });

  test("F58: of 1 MB is refused before it is decoded", async () => {
    const startMs = cpuMs();
    const answer = await plane.send(BODY, { headers: { authorization: `Berth ${"A".repeat(1_000_000)}.e30.AA` } });
    expect(answer.status).toBe(401);
    expect(cpuMs() - startMs).toBeLessThan(50);
  });

  test("F58: a flood of unknown kids reads nothing from the database", async () => {
    let reads = 0;
    const { database } = plane.context.store;
    const read = database.read.bind(database);
    database.read = (statements) => {
      reads++;
      return read(statements);
    };
    for (let i = 0; i < 200; i++) {
      const unknown = `n_${"abcdefghij234567"
        .split("")
        .sort(() => Math.random() - 0.5)
        .join("")}.7`;
      const answer = await ask({ header: { kid: unknown } });
      expect((await errorOf(answer)).reason).toBe("signature");
    }
    database.read = read;
    expect(reads).toBe(0);
  });

  test("F53: of another node under this node's name is refused", async () => {
    const other = await plane.node();
    const answer = await other.request("GET", BODY, "", { header: { kid: `${agent.node}.${agent.session}` } });
    expect(await errorOf(answer)).toMatchObject({ code: "bad_proof", reason: "signature" });
  });

  test.each([
    ["path", { path: `/agent/v1/bodies/${"1".repeat(64)}` }],
    ["query", { path: `${BODY}?all=true` }],
    ["method", { method: "POST" }],
  ])("F56: made for another %s is refused", async (_, claims) => {
    expect(await errorOf(await ask({ claims }))).toMatchObject({ code: "bad_proof", reason: "request" });
  });

  test("F56: made for another body is refused", async () => {
    const answer = await agent.request("POST", "/agent/v1/poll", agent.pollBody(), { claims: { body: hash("other") } });
    expect(await errorOf(answer)).toMatchObject({ code: "bad_proof", reason: "body" });
  });

  test("F56: used twice is refused, and may be made anew", async () => {
    const jws = await agent.proof({ method: "GET", path: BODY, body: "" });
    const send = () => plane.send(BODY, { headers: { authorization: `Berth ${jws}` } });
    expect((await send()).status).toBe(PROVED);
    const again = await send();
    expect(again.status).toBe(401);
    expect(await errorOf(again)).toMatchObject({ code: "stale_nonce", reason: "replayed", retryable: true });
    expect((await ask()).status).toBe(PROVED);
  });

  test("requests that overtake one another are both taken, once", async () => {
    const first = await agent.proof({ method: "GET", path: BODY, body: "" });
    const second = await agent.proof({ method: "GET", path: BODY, body: "" });
    const send = (jws: string) => plane.send(BODY, { headers: { authorization: `Berth ${jws}` } });
    expect((await send(second)).status).toBe(PROVED);
    expect((await send(first)).status).toBe(PROVED);
    expect((await send(first)).status).toBe(401);
  });

  test("over 64 behind is refused", async () => {
    const old = await agent.proof({ method: "GET", path: BODY, body: "" });
    await ask({ claims: { seq: agent.seq + 64 } });
    expect(await errorOf(await plane.send(BODY, { headers: { authorization: `Berth ${old}` } }))).toMatchObject({ reason: "replayed" });
  });

  test("with an old nonce is refused, with the new one in the header", async () => {
    let wallMs = Date.now();
    const aged = await ControlPlane.start({ wallMs: () => wallMs });
    const node = await aged.node();
    const old = node.nonce;
    wallMs += 9 * 60_000;
    expect((await node.request("GET", BODY)).status).toBe(PROVED);
    wallMs += 4 * 60_000;
    const answer = await node.request("GET", BODY, "", { claims: { serverNonce: old } });
    expect(answer.status).toBe(401);
    expect(await errorOf(answer)).toMatchObject({ code: "stale_nonce", reason: "nonce", retryable: true });
    expect((await node.request("GET", BODY)).status).toBe(PROVED);
    await aged.stop();
  });

  test("of a session that was replaced is refused", async () => {
    const { session, sessionKey } = agent;
    await agent.openSession();
    const answer = await ask({ header: { kid: `${agent.node}.${session}` }, key: sessionKey });
    expect(answer.status).toBe(401);
    expect(await errorOf(answer)).toMatchObject({ code: "session_replaced", retryable: false });
    expect((await ask()).status).toBe(PROVED);
  });

  test("B74: in two Authorization headers is refused", async () => {
    const jws = await agent.proof({ method: "GET", path: BODY, body: "" });
    const answer = await plane.send(BODY, {
      headers: [
        ["authorization", `Berth ${jws}`],
        ["authorization", `Berth ${jws}`],
      ],
    });
    expect(answer.status).toBe(401);
  });

  test("of a session that another process has opened is taken, and the older one refused, by every process", async () => {
    const one = await ControlPlane.start();
    const node = await one.node();
    const two = await one.beside();
    const old = { session: node.session, key: node.sessionKey };
    const moved = node.over(two.send);
    await moved.openSession();
    const first = await moved.proof({ method: "GET", path: BODY, body: "" });
    expect((await one.send(BODY, { headers: { authorization: `Berth ${first}` } })).status).toBe(PROVED);
    const stale = await moved.proof(
      { method: "GET", path: BODY, body: "" },
      { header: { kid: `${node.node}.${old.session}` }, key: old.key },
    );
    for (const process of [one, two]) {
      const answer = await process.send(BODY, { headers: { authorization: `Berth ${stale}` } });
      expect(await errorOf(answer)).toMatchObject({ code: "session_replaced" });
    }
    await two.context.shard.stop();
    await one.stop();
  });

  test("F56: made before a restart of the control plane, whose memory is new, is refused; the session holds", async () => {
    let wallMs = Date.now();
    const before = await ControlPlane.start({ wallMs: () => wallMs });
    const node = await before.node();
    wallMs += 120_000;
    expect((await node.request("GET", BODY)).status).toBe(PROVED);
    const jws = await node.proof({ method: "GET", path: BODY, body: "" });
    const after = await before.restart({ wallMs: () => wallMs });
    const answer = await after.send(BODY, { headers: { authorization: `Berth ${jws}` } });
    expect(await errorOf(answer)).toMatchObject({ code: "stale_nonce", reason: "nonce", retryable: true });
    const serverNonce = answer.headers.get("berth-nonce") ?? "";
    const anew = await node.proof({ method: "GET", path: BODY, body: "" }, { claims: { serverNonce } });
    expect((await after.send(BODY, { headers: { authorization: `Berth ${anew}` } })).status).toBe(PROVED);
    await after.stop();
  });

  test("F60: of a removed node is refused, also in a poll that is held", async () => {
    const fresh = await ControlPlane.start();
    const node = await fresh.node();
    const held = node.request("POST", "/agent/v1/poll", node.pollBody());
    await fresh.held(1);
    await fresh.commit({ changes: [{ op: "delete", table: "nodes", keys: [{ id: node.node }] }] });
    const answer = await held;
    expect(answer.status).toBe(410);
    expect(await errorOf(answer)).toMatchObject({ code: "removed", retryable: false });
    const next = await node.request("POST", "/agent/v1/poll", node.pollBody());
    expect(next.status).toBe(410);
    await fresh.stop();
  });
});

describe("a body", () => {
  const post = (text: string, headers: Record<string, string> = {}) => agent.request("POST", "/agent/v1/poll", text, { headers });

  test("B62: over 1 MB is refused", async () => {
    const answer = await post("x".repeat(1_000_001));
    expect(answer.status).toBe(413);
  });

  test("B62: in chunks is refused as soon as it is over 1 MB", async () => {
    let sent = 0;
    const stream = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        sent += 100_000;
        controller.enqueue(new Uint8Array(100_000));
      },
    });
    const jws = await agent.proof({ method: "POST", path: "/agent/v1/poll", body: "" });
    const init = { method: "POST", body: stream, duplex: "half", headers: { authorization: `Berth ${jws}` } } as RequestInit;
    expect((await plane.send("/agent/v1/poll", init)).status).toBe(413);
    expect(sent).toBeLessThan(1_500_000);
  });

  test.each(["gzip", "br", "deflate", "gzip, identity"])("B63: encoded as %s is refused", async (encoding) => {
    expect((await post("{}", { "content-encoding": encoding })).status).toBe(415);
  });

  test.each([
    ["nested 100,000 deep", "[".repeat(100_000), "depth"],
    ["nested in objects", '{"a":'.repeat(33), "depth"],
    ["with a million keys", `{${Array.from({ length: 80_000 }, (_, i) => `"k${i}":1`).join(",")}}`, "keys"],
    ["with a key twice", '{"era":"a","era":"b"}', "duplicate"],
    ["with a key twice in two spellings", '{"era":"a","\\u0065ra":"b"}', "duplicate"],
    ["that is not JSON", "{", "json"],
    ["that is a login page", "<html>", "json"],
    ["of another form", "[]", "schema"],
  ])("B64: %s is refused in no time", async (_, text, reason) => {
    const jws = await agent.proof({ method: "POST", path: "/agent/v1/poll", body: text });
    const startMs = cpuMs();
    const answer = await plane.send("/agent/v1/poll", { method: "POST", body: text, headers: { authorization: `Berth ${jws}` } });
    const tookMs = cpuMs() - startMs;
    expect(answer.status).toBe(400);
    expect(await errorOf(answer)).toMatchObject({ code: "invalid", reason });
    expect(tookMs).toBeLessThan(100);
  });

  test("B65: __proto__ and its like are data", async () => {
    const body = JSON.stringify({ ...agent.pollBody({ generation: 0 }), constructor: 1, toString: 2 }).replace(
      "{",
      '{"__proto__":{"session":1},',
    );
    const answer = agent.request("POST", "/agent/v1/poll", body);
    await plane.held(1);
    await plane.clock.advance(5_000);
    expect((await answer).status).toBe(204);
    expect(({} as { session?: number }).session).toBeUndefined();
  });

  test("a body of another session than the proof's is refused", async () => {
    const answer = await agent.request("POST", "/agent/v1/poll", agent.pollBody({ session: agent.session + 1 }));
    expect(await errorOf(answer)).toMatchObject({ code: "bad_proof", reason: "session" });
  });

  test("of another era asks for a new session", async () => {
    const answer = await agent.request("POST", "/agent/v1/poll", agent.pollBody({ era: random22() }));
    expect(await errorOf(answer)).toMatchObject({ code: "session_replaced", reason: "era" });
  });
});

test("every answer carries the nonce, 204 and errors included", async () => {
  const answers = [
    await plane.send("/agent/v1/keys"),
    await plane.send("/agent/v1/nothing"),
    await plane.send(BODY),
    await plane.send("/agent/v1/enroll", { method: "POST", body: "{" }),
  ];
  const held = agent.request("POST", "/agent/v1/poll", agent.pollBody());
  await plane.held(1);
  await plane.clock.advance(5_000);
  answers.push(await held);
  expect(answers.map((answer) => answer.status)).toEqual([200, 404, 401, 400, 204]);
  for (const answer of answers) {
    expect(answer.headers.get("berth-nonce")).toMatch(/^[0-9a-z]+\.[A-Za-z0-9_-]{22}$/);
    expect(answer.headers.get("berth-era")).toBe(agent.keySet.era);
  }
});
