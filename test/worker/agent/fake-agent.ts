/** An agent that does what the protocol says, and can be told to do otherwise. It trusts nothing that it has not verified. */
import {
  base64url,
  CompactSign,
  compactDecrypt,
  compactVerify,
  exportJWK,
  GeneralSign,
  generateKeyPair,
  importJWK,
  type CryptoKey,
} from "jose";
import { createHash, randomBytes } from "node:crypto";
import { EnrollGrant } from "../../../shared/wire/enroll.ts";
import { JOSE_TYPES } from "../../../shared/wire/jose.ts";
import { Ed25519Jwk, KeySet, X25519Jwk } from "../../../shared/wire/keys.ts";
import { Manifest, PollAnswer } from "../../../shared/wire/poll.ts";
import { SessionGrant } from "../../../shared/wire/session.ts";
import { NONCE_HEADER, PROTOCOL_VERSION } from "../../../shared/wire/version.ts";
import type { NodeFacts, ReportRequest } from "../../../shared/wire/report.ts";
import type { PrivateEd25519 } from "../../../worker/keys.ts";

export type Send = (path: string, init?: RequestInit) => Promise<Response>;

export const FACTS: NodeFacts = {
  hostname: "edge-1.example.com",
  os: "Debian GNU/Linux 12",
  kernel: "6.1.0",
  arch: "x64",
  cpuMillis: 4000,
  memoryMiB: 8192,
  devices: {},
  labels: {},
  engine: { version: "28.0.0", apiVersion: "1.48", cgroup: "2", storage: "overlay2" },
  agentVersion: "0.1.0",
  protocol: PROTOCOL_VERSION,
  addresses: ["192.0.2.10"],
};

export const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("base64url");
export const random22 = (): string => randomBytes(16).toString("base64url");
export const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));

export interface JoinSecret {
  readonly id: string;
  readonly jwk: PrivateEd25519;
}

export interface ProofChanges {
  readonly header?: Record<string, unknown>;
  readonly claims?: Record<string, unknown>;
  readonly key?: Uint8Array;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

export class FakeAgent {
  readonly send: Send;
  readonly sign: { readonly privateKey: CryptoKey; readonly jwk: Ed25519Jwk };
  readonly seal: { readonly privateKey: CryptoKey; readonly jwk: X25519Jwk };
  instance = random22();
  node = "";
  session = 0;
  sessionKey: Uint8Array = new Uint8Array(32);
  seq = 0;
  reportSeq = 0;
  generation = 0;
  nonce = "";
  leaseKeys = new Map<string, CryptoKey>();
  keySet: KeySet = { iss: "", era: "", version: 1, keys: [] };

  private constructor(send: Send, sign: FakeAgent["sign"], seal: FakeAgent["seal"]) {
    this.send = async (path, init) => {
      const answer = await send(path, init);
      this.nonce = answer.headers.get(NONCE_HEADER) ?? this.nonce;
      return answer;
    };
    this.sign = sign;
    this.seal = seal;
  }

  static async make(send: Send): Promise<FakeAgent> {
    const sign = await generateKeyPair("Ed25519", { extractable: true });
    const seal = await generateKeyPair("ECDH-ES", { crv: "X25519", extractable: true });
    return new FakeAgent(
      send,
      { privateKey: sign.privateKey, jwk: Ed25519Jwk.parse(await exportJWK(sign.publicKey)) },
      { privateKey: seal.privateKey, jwk: X25519Jwk.parse(await exportJWK(seal.publicKey)) },
    );
  }

  /** The same node and session, on another connection. */
  over(send: Send): FakeAgent {
    const agent = new FakeAgent(send, this.sign, this.seal);
    const { instance, node, session, sessionKey, seq, reportSeq, generation, nonce, leaseKeys, keySet } = this;
    return Object.assign(agent, { instance, node, session, sessionKey, seq, reportSeq, generation, nonce, leaseKeys, keySet });
  }

  async fetchKeys(): Promise<void> {
    const answer = (await (await this.send("/agent/v1/keys")).json()) as { keySet: string; serverNonce: string };
    const [header = ""] = answer.keySet.split(".");
    const { jwk } = JSON.parse(new TextDecoder().decode(base64url.decode(header))) as { jwk: Ed25519Jwk };
    const { payload } = await compactVerify(answer.keySet, await importJWK(jwk, "Ed25519"), { algorithms: ["Ed25519"] });
    this.keySet = KeySet.parse(JSON.parse(new TextDecoder().decode(payload)));
    for (const { kid, jwk: lease } of this.keySet.keys) this.leaseKeys.set(kid, (await importJWK(lease, "Ed25519")) as CryptoKey);
  }

  /** Verifies what the control plane signed: exact algorithm, typ, issuer and audience. */
  async verify(jws: string, typ: string, audience: string): Promise<unknown> {
    const { payload, protectedHeader } = await compactVerify(
      jws,
      async (header) => {
        const key = this.leaseKeys.get(header.kid ?? "");
        if (key === undefined) throw new Error(`unknown kid ${header.kid}`);
        return key;
      },
      { algorithms: ["Ed25519"] },
    );
    const claims = JSON.parse(new TextDecoder().decode(payload)) as { aud: unknown; iss: unknown };
    if (protectedHeader.typ !== typ || claims.aud !== audience || claims.iss !== this.keySet.iss) throw new Error("not for this agent");
    return claims;
  }

  async enrollBody(
    token: JoinSecret,
    changes: { readonly payload?: Record<string, unknown>; readonly header?: Record<string, unknown> } = {},
  ): Promise<string> {
    const payload = {
      token: token.id,
      serverNonce: this.nonce,
      signKey: this.sign.jwk,
      sealKey: this.seal.jwk,
      facts: FACTS,
      ...changes.payload,
    };
    const header = { alg: "Ed25519", typ: JOSE_TYPES.enroll, ...changes.header };
    const jws = await new GeneralSign(bytes(payload))
      .addSignature(await importJWK(token.jwk, "Ed25519"))
      .setProtectedHeader(header)
      .addSignature(this.sign.privateKey)
      .setProtectedHeader(header)
      .sign();
    return JSON.stringify({ jws });
  }

  post(path: string, body: string): Promise<Response> {
    return this.send(path, { method: "POST", body, headers: { "content-type": "application/json" } });
  }

  async enroll(token: JoinSecret, changes: Parameters<FakeAgent["enrollBody"]>[1] = {}): Promise<EnrollGrant> {
    await this.fetchKeys();
    const answer = await this.post("/agent/v1/enroll", await this.enrollBody(token, changes));
    if (answer.status !== 200) throw new Error(`enroll: ${answer.status} ${await answer.text()}`);
    const { jws } = (await answer.json()) as { jws: string };
    const grant = EnrollGrant.parse(await this.verify(jws, JOSE_TYPES.enrolled, await this.thumbprint()));
    this.node = grant.node;
    return grant;
  }

  async thumbprint(): Promise<string> {
    return sha256(`{"crv":"Ed25519","kty":"OKP","x":"${this.sign.jwk.x}"}`);
  }

  async sessionBody(
    changes: {
      readonly payload?: Record<string, unknown>;
      readonly header?: Record<string, unknown>;
      readonly key?: CryptoKey | Uint8Array;
    } = {},
  ): Promise<string> {
    const payload = {
      node: this.node,
      serverNonce: this.nonce,
      challenge: random22(),
      bootId: "boot-1",
      hardware: "hardware-1",
      instance: this.instance,
      protocol: PROTOCOL_VERSION,
      agentVersion: "0.1.0",
      ...changes.payload,
    };
    const header = { alg: "Ed25519", typ: JOSE_TYPES.session, kid: this.node, ...changes.header };
    const jws = await new CompactSign(bytes(payload)).setProtectedHeader(header).sign(changes.key ?? this.sign.privateKey);
    return JSON.stringify({ jws });
  }

  async openSession(changes: Parameters<FakeAgent["sessionBody"]>[0] = {}): Promise<SessionGrant> {
    if (this.nonce === "") await this.fetchKeys();
    const answer = await this.post("/agent/v1/session", await this.sessionBody(changes));
    if (answer.status !== 200) throw new Error(`session: ${answer.status} ${await answer.text()}`);
    const { jws } = (await answer.json()) as { jws: string };
    const grant = SessionGrant.parse(await this.verify(jws, JOSE_TYPES.sessionGrant, this.node));
    const { plaintext } = await compactDecrypt(grant.sealedKey, this.seal.privateKey, {
      keyManagementAlgorithms: ["ECDH-ES"],
      contentEncryptionAlgorithms: ["A256GCM"],
    });
    this.session = grant.session;
    this.sessionKey = plaintext;
    this.seq = 0;
    this.reportSeq = 0;
    return grant;
  }

  /** Opens what was sealed to this node. */
  async open(sealed: string): Promise<unknown> {
    const { plaintext } = await compactDecrypt(sealed, this.seal.privateKey, {
      keyManagementAlgorithms: ["ECDH-ES"],
      contentEncryptionAlgorithms: ["A256GCM"],
    });
    return JSON.parse(new TextDecoder().decode(plaintext));
  }

  async proof(
    asked: { readonly method: string; readonly path: string; readonly body: string },
    changes: ProofChanges = {},
  ): Promise<string> {
    this.seq += 1;
    const claims = {
      method: asked.method,
      path: asked.path,
      body: sha256(asked.body),
      seq: this.seq,
      serverNonce: this.nonce,
      ...changes.claims,
    };
    const header = { alg: "HS256", typ: JOSE_TYPES.request, kid: `${this.node}.${this.session}`, ...changes.header };
    return new CompactSign(bytes(claims)).setProtectedHeader(header as { alg: string }).sign(changes.key ?? this.sessionKey);
  }

  async request(method: string, path: string, body: unknown = "", changes: ProofChanges = {}): Promise<Response> {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const jws = await this.proof({ method, path, body: text }, changes);
    const init: RequestInit = { method, headers: { authorization: `Berth ${jws}`, ...changes.headers } };
    if (method !== "GET") init.body = text;
    if (changes.signal !== undefined) init.signal = changes.signal;
    return this.send(path, init);
  }

  pollBody(changes: Record<string, unknown> = {}): Record<string, unknown> {
    return { era: this.keySet.era, session: this.session, generation: this.generation, challenge: random22(), channels: [], ...changes };
  }

  /** The answer; null: 204. Asks again with the nonce of a `stale_nonce`, as agents do; throws on any other refusal. */
  async poll(changes: Record<string, unknown> = {}): Promise<PollAnswer | null> {
    const ask = () => this.request("POST", "/agent/v1/poll", this.pollBody(changes));
    const first = await ask();
    const answer = first.status === 401 && (await first.clone().text()).includes('"stale_nonce"') ? await ask() : first;
    if (answer.status === 204) return null;
    if (answer.status !== 200) throw new Error(`poll: ${answer.status} ${await answer.text()}`);
    return PollAnswer.parse(await answer.json());
  }

  /** Polls and accepts the manifest. */
  async accept(): Promise<Manifest | null> {
    const answer = await this.poll();
    if (answer?.manifest === undefined) return null;
    const manifest = Manifest.parse(await this.verify(answer.manifest, JOSE_TYPES.manifest, this.node));
    this.generation = manifest.generation;
    return manifest;
  }

  reportBody(changes: Partial<ReportRequest> = {}): ReportRequest {
    this.reportSeq += 1;
    return {
      era: this.keySet.era,
      session: this.session,
      seq: this.reportSeq,
      complete: this.reportSeq === 1,
      generation: this.generation,
      replicas: [],
      images: [],
      facts: null,
      volumes: null,
      engine: { reachable: true, message: "" },
      ...changes,
    };
  }
}
