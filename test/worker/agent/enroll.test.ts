import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { freeName, matchesPattern, wantedName } from "../../../worker/routes/agent/enroll.ts";
import { newEd25519 } from "../../../worker/keys.ts";
import { nodes } from "../../../worker/store/schema.ts";
import { ControlPlane } from "./control-plane.ts";
import { cpuMs } from "./cpu-time.ts";
import { FACTS } from "./fake-agent.ts";

let plane: ControlPlane;
beforeEach(async () => {
  plane = await ControlPlane.start();
});
afterEach(() => plane.stop());

const codeOf = async (answer: Response) => ((await answer.json()) as { error: { code: string; reason: string } }).error;

describe("enroll", () => {
  test("makes a node of the token's site, named by its host", async () => {
    const token = await plane.joinToken({ labels: { zone: "a" } });
    const agent = await plane.agent();
    const grant = await agent.enroll(token);
    expect(grant).toMatchObject({ name: "edge-1", site: "default", labels: { zone: "a" }, admission: "admitted" });
    const [node] = await plane.context.store.db.select().from(nodes);
    expect(node).toMatchObject({ id: grant.node, signKey: agent.sign.jwk, sealKey: agent.seal.jwk, thumbprint: await agent.thumbprint() });
  });

  test("answers the same to the same key and token, and burns one use", async () => {
    const token = await plane.joinToken({ usesMax: 1 });
    const agent = await plane.agent();
    const first = await agent.enroll(token);
    expect(await agent.enroll(token)).toEqual(first);
    expect(await plane.context.store.db.select().from(nodes)).toHaveLength(1);
  });

  test("gives the second node of one host name a suffix", async () => {
    const token = await plane.joinToken();
    const names = [];
    for (let i = 0; i < 3; i++) names.push((await (await plane.agent()).enroll(token)).name);
    expect(names).toEqual(["edge-1", "edge-1-2", "edge-1-3"]);
  });

  test("I29 F57: fifty machines that race for one token burn it as often as it allows", async () => {
    const token = await plane.joinToken({ usesMax: 3 });
    const agents = await Promise.all(Array.from({ length: 50 }, () => plane.agent()));
    const results = await Promise.allSettled(agents.map((agent) => agent.enroll(token)));
    expect(results.filter((result) => result.status === "fulfilled")).toHaveLength(3);
    const refusals = results.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
    expect(refusals.every((text) => text.includes('"used"'))).toBe(true);
    expect(await plane.context.store.db.select().from(nodes)).toHaveLength(3);
  });

  test("I29 F57: so do enrolments that race through two processes", async () => {
    const token = await plane.joinToken({ usesMax: 2 });
    const { app } = plane;
    const other = await plane.restart();
    // A slow disk: both processes have read the token before either has written.
    const { database } = plane.context.store;
    const write = database.write.bind(database);
    database.write = async (statements) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      return write(statements);
    };
    const agents = await Promise.all(Array.from({ length: 20 }, () => plane.agent()));
    await Promise.all(agents.map((agent) => agent.fetchKeys()));
    const answers = await Promise.all(
      agents.map(async (agent, i) => {
        // Names of their own, or the unique name alone would keep them apart.
        const body = await agent.enrollBody(token, { payload: { facts: { ...FACTS, hostname: `edge-${i}` } } });
        return (i % 2 === 0 ? app : other.app).request("/agent/v1/enroll", { method: "POST", body });
      }),
    );
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(2);
    expect(await plane.context.store.db.select().from(nodes)).toHaveLength(2);
  });

  test("a token that needs approval makes a pending node", async () => {
    const agent = await plane.agent();
    expect((await agent.enroll(await plane.joinToken({ needsApproval: true }))).admission).toBe("pending");
    const answer = await agent.post("/agent/v1/session", await agent.sessionBody());
    expect(answer.status).toBe(403);
    expect(answer.headers.get("retry-after")).toBe("5");
    expect(await codeOf(answer)).toMatchObject({ code: "pending_approval", retryable: true });
  });

  test("a key whose node was removed stays out", async () => {
    const token = await plane.joinToken();
    const agent = await plane.agent();
    const { node, name } = await agent.enroll(token);
    await plane.commit({
      changes: [
        { op: "delete", table: "nodes", keys: [{ id: node }] },
        { op: "insert", table: "removedNodes", rows: [{ thumbprint: await agent.thumbprint(), id: node, name, removedMs: 1 }] },
      ],
    });
    const answer = await agent.post("/agent/v1/enroll", await agent.enrollBody(token));
    expect(answer.status).toBe(410);
    expect((await codeOf(answer)).code).toBe("removed");
  });

  test.each([
    ["expired", { expiresMs: 1 }, {}],
    ["used", { usesMax: 1, uses: 1 }, {}],
    ["name", { namePattern: "shop-*" }, {}],
    ["site", { site: "gone" }, {}],
    ["token", {}, { token: "jt_aaaaaaaaaaaaaaaa" }],
  ])("is refused: %s", async (reason, tokenChanges, payload) => {
    const agent = await plane.agent();
    const token = await plane.joinToken(tokenChanges);
    await agent.fetchKeys();
    const answer = await agent.post("/agent/v1/enroll", await agent.enrollBody(token, { payload }));
    expect(answer.status).toBe(403);
    expect(await codeOf(answer)).toMatchObject({ code: "enroll_refused", reason });
    expect(await plane.context.store.db.select().from(nodes)).toHaveLength(0);
  });

  test("into a site that goes meanwhile makes no node", async () => {
    const agent = await plane.agent();
    const token = await plane.joinToken();
    await agent.fetchKeys();
    const { store } = plane.context;
    const commit = store.commit.bind(store);
    store.commit = async (mutation) => {
      store.commit = commit;
      await commit({ changes: [{ op: "delete", table: "sites", keys: [{ name: "default" }] }] });
      return await commit(mutation);
    };
    const answer = await agent.post("/agent/v1/enroll", await agent.enrollBody(token));
    expect(await codeOf(answer)).toMatchObject({ code: "enroll_refused", reason: "site" });
    expect(await store.db.select().from(nodes)).toHaveLength(0);
  });

  test("another token's key under this token's id is refused", async () => {
    const token = await plane.joinToken();
    const agent = await plane.agent();
    await agent.fetchKeys();
    const { jwk } = await newEd25519();
    const answer = await agent.post("/agent/v1/enroll", await agent.enrollBody({ id: token.id, jwk }));
    expect(await codeOf(answer)).toMatchObject({ code: "bad_proof", reason: "signature" });
  });

  test("a node key that did not sign is refused: nobody enrolls another's key", async () => {
    const token = await plane.joinToken();
    const agent = await plane.agent();
    const other = await plane.agent();
    await agent.fetchKeys();
    const answer = await agent.post("/agent/v1/enroll", await agent.enrollBody(token, { payload: { signKey: other.sign.jwk } }));
    expect(await codeOf(answer)).toMatchObject({ code: "bad_proof", reason: "signature" });
  });

  test("a stale nonce is refused, with the new one in the header", async () => {
    const token = await plane.joinToken();
    const agent = await plane.agent();
    await agent.fetchKeys();
    const answer = await agent.post(
      "/agent/v1/enroll",
      await agent.enrollBody(token, { payload: { serverNonce: "zzz.AAAAAAAAAAAAAAAAAAAAAA" } }),
    );
    expect(answer.status).toBe(401);
    expect(await codeOf(answer)).toMatchObject({ code: "stale_nonce", retryable: true });
    expect(answer.headers.get("berth-nonce")).toBeTruthy();
  });

  test.each([
    ["alg none", { alg: "none" }],
    ["HS256", { alg: "HS256" }],
    ["EdDSA, which jose would take", { alg: "EdDSA" }],
    ["wrong typ", { typ: "berth-session+jwt" }],
    ["no typ", { typ: undefined }],
    ["crit", { crit: ["b64"], b64: true }],
    ["b64 false", { b64: false }],
    ["jku", { jku: "https://evil.example/keys" }],
    ["x5u", { x5u: "https://evil.example/cert" }],
    ["jwk", { jwk: { kty: "OKP" } }],
    ["kid that is no text", { kid: 1 }],
  ])("F50 F51 F52: a header with %s is refused before anything is verified", async (_, changes) => {
    const token = await plane.joinToken();
    const agent = await plane.agent();
    await agent.fetchKeys();
    const body = JSON.parse(await agent.enrollBody(token)) as { jws: { signatures: { protected: string }[] } };
    const header = { alg: "Ed25519", typ: "berth-enroll+jwt", ...changes };
    body.jws.signatures[1]!.protected = Buffer.from(JSON.stringify(header)).toString("base64url");
    const answer = await agent.post("/agent/v1/enroll", JSON.stringify(body));
    expect(answer.status).toBe(401);
    expect((await codeOf(answer)).reason).toMatch(/^(?:alg|typ|header|kid)$/);
  });
});

describe("names", () => {
  test.each([
    ["edge-1.example.com", "edge-1"],
    ["Kassé_03", "kass-03"],
    ["--", "node"],
    ["constructor", "node"],
    ["x".repeat(80), "x".repeat(63)],
  ])("host %s is called %s", (hostname, name) => {
    expect(wantedName({ facts: { ...FACTS, hostname } })).toBe(name);
  });

  test("a long name leaves room for its suffix", () => {
    const long = "x".repeat(63);
    expect(freeName(long, new Set([long]))).toBe(`${"x".repeat(61)}-2`);
  });

  test.each([
    ["shop-1", "shop-*", true],
    ["shop-1", "*-1", true],
    ["shop-1", "shop-1", true],
    ["shop-1", "shop-2", false],
    ["a-b-c", "a*b*c", true],
    ["a-c", "a*b*c", false],
    ["ab", "ab*b", false],
  ])("%s matches %s: %s", (name, pattern, expected) => {
    expect(matchesPattern(name, pattern)).toBe(expected);
  });

  test("B68: a pattern of many stars takes no time", () => {
    const startMs = cpuMs();
    expect(matchesPattern("a".repeat(63), `${"*a".repeat(30)}*b`)).toBe(false);
    expect(cpuMs() - startMs).toBeLessThan(5);
  });
});
