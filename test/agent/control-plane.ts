/**
 * A small control plane for tests of the agent alone: it speaks the wire's schemas, checks every signature, and lets a
 * test hold, break or replay what it answers. Bodies and manifests are what the test says.
 */
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { base64url, compactVerify, exportJWK, generalVerify, generateKeyPair, importJWK } from "jose";
import { WebSocketServer } from "ws";
import { AppSpec, type AppSpecInput } from "../../shared/model/app.ts";
import { desireApp } from "../../shared/model/desire.ts";
import { hashText } from "../../shared/model/content.ts";
import { LogFrame } from "../../shared/wire/channel.ts";
import { type EnrollGrant, EnrollPayload, EnrollRequest, JOIN_TOKEN_PREFIX, type JoinToken } from "../../shared/wire/enroll.ts";
import { JOSE_TYPES } from "../../shared/wire/jose.ts";
import type { Ed25519Jwk, X25519Jwk } from "../../shared/wire/keys.ts";
import {
  type AssignmentRef,
  type ChannelAsk,
  type ImageSource,
  type Manifest,
  type PollAnswer,
  PollRequest,
} from "../../shared/wire/poll.ts";
import { type ImageFact, type NodeFacts, type ReplicaFact, ReportRequest } from "../../shared/wire/report.ts";
import { RequestProof } from "../../shared/wire/request.ts";
import { type Removal, type SessionGrant, SessionPayload, SignedBody } from "../../shared/wire/session.ts";
import { ERA_HEADER, NONCE_HEADER, PROTOCOL_HEADER } from "../../shared/wire/version.ts";
import { type KeyRing, makeSigner, newEd25519, newKeyRing, type PrivateEd25519, signKeySet, thumbprint } from "../../worker/keys.ts";
import type { Signer } from "../../worker/ports.ts";
import { until } from "../e2e/hosts/until.ts";

const CLUSTER = "c_testcluster";
const NODE = "n_aaaaaaaaaaaaaaaa" as const;
const TOKEN = "jt_aaaaaaaaaaaaaaaa" as const;
const HOLD_MS = 1_000;

export interface Assigned {
  /** Default: a new one for each. */
  readonly replica?: string;
  readonly app: AppSpecInput;
  readonly service: string;
  readonly slot?: string;
  readonly namespace?: string;
  readonly image?: Partial<ImageSource>;
  readonly revision?: number;
}

/** What the next answer to a path is instead, once or until it is cleared. */
export type Disturbance = (request: IncomingMessage, response: ServerResponse) => boolean;

class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  /** What the answer holds besides. */
  readonly more: object;
  constructor(status: number, code: string, message = code, more: object = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.more = more;
  }
}

export class ControlPlane {
  readonly reports: ReportRequest[] = [];
  readonly facts = new Map<string, ReplicaFact>();
  readonly images: ImageFact[] = [];
  readonly frames: LogFrame[] = [];
  readonly requests: string[] = [];
  volumes: readonly string[] = [];
  nodeFacts: NodeFacts | null = null;
  enrolments = 0;
  sessions = 0;
  era = "era-1";
  isRemoved = false;
  /** What a session is refused with though the node was not removed. */
  forgeRemoval: ((challenge: string) => Promise<string>) | null = null;
  sessionsRefused = 0;
  admission: "admitted" | "pending" = "admitted";
  generation = 0;
  holdMs = HOLD_MS;
  /** Bodies of answers that the test spoils, by path prefix. */
  disturb: Disturbance | null = null;
  /** Sent with every answer to a poll from now on, whatever the agent holds: a forgery, a replay. */
  sendAlways: string | null = null;
  forgeries = 0;
  onEnrol: (payload: EnrollPayload) => void = () => undefined;
  asks: ChannelAsk[] = [];
  keySetVersion = 1;
  readonly #bodies = new Map<string, string>();
  readonly #credentials = new Map<string, { version: number; username: string; password: string }>();
  readonly #wakers = new Set<() => void>();
  readonly #server: Server;
  readonly #sockets: WebSocketServer;
  readonly root: PrivateEd25519;
  ring: KeyRing;
  signer: Signer;
  #tokenKey: { seed: string; jwk: Ed25519Jwk };
  #manifest: Manifest | null = null;
  #node: { signKey: Ed25519Jwk; sealKey: X25519Jwk } | null = null;
  #session = 0;
  #host: string;

  private constructor(parts: {
    root: PrivateEd25519;
    ring: KeyRing;
    signer: Signer;
    tokenKey: { seed: string; jwk: Ed25519Jwk };
    host: string;
  }) {
    this.root = parts.root;
    this.ring = parts.ring;
    this.signer = parts.signer;
    this.#tokenKey = parts.tokenKey;
    this.#host = parts.host;
    this.#server = createServer((request, response) => void this.#handle(request, response));
    this.#sockets = new WebSocketServer({ noServer: true });
    this.#server.on("upgrade", (request, socket, head) => {
      this.requests.push(`UPGRADE ${request.url}`);
      this.#sockets.handleUpgrade(request, socket, head, (client) => {
        client.on("message", (data) => this.frames.push(LogFrame.parse(JSON.parse(data.toString()))));
      });
    });
  }

  static async start(host = "127.0.0.1"): Promise<ControlPlane> {
    const root = (await newEd25519()).jwk;
    const ring = await newKeyRing({ bytes: (count) => new Uint8Array(randomBytes(count)) });
    const signer = await makeSigner(ring);
    const { privateKey } = await generateKeyPair("Ed25519", { extractable: true });
    const jwk = await exportJWK(privateKey);
    const control = new ControlPlane({
      root,
      ring,
      signer,
      tokenKey: { seed: jwk.d ?? "", jwk: { kty: "OKP", crv: "Ed25519", x: jwk.x ?? "" } },
      host,
    });
    await new Promise<void>((resolve) => control.#server.listen(0, host, resolve));
    return control;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }
  get url(): string {
    return `http://${this.#host}:${this.port}`;
  }

  async joinToken(changes: Partial<JoinToken> = {}): Promise<string> {
    const token: JoinToken = { v: 1, id: TOKEN, seed: this.#tokenKey.seed, url: this.url, root: await thumbprint(this.root), ...changes };
    return JOIN_TOKEN_PREFIX + base64url.encode(JSON.stringify(token));
  }

  async close(): Promise<void> {
    this.#wake();
    for (const client of this.#sockets.clients) client.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** The node's set from now on. Gives the replica ids in order. */
  assign(assigned: readonly Assigned[], more: { dropVolumes?: string[]; credentials?: Manifest["credentials"] } = {}): string[] {
    const assignments = assigned.map((item): AssignmentRef => {
      const namespace = item.namespace ?? "default";
      const desired = desireApp(namespace, AppSpec.parse(item.app));
      for (const config of desired.configs) this.#bodies.set(config.hash, config.content);
      const service = desired.services.find(({ name }) => name === item.service);
      if (service === undefined) throw new Error(`no service ${item.service}`);
      this.#bodies.set(service.spec, service.body);
      const reference = item.app.services[item.service]?.workload.image ?? "";
      return {
        replica: (item.replica ?? newReplicaId()) as AssignmentRef["replica"],
        namespace,
        app: item.app.name,
        service: item.service,
        slot: item.slot ?? "0",
        revision: item.revision ?? 1,
        spec: service.spec,
        image: { reference, digest: null, imageId: null, resolve: true, ...item.image },
      };
    });
    this.generation++;
    this.#manifest = {
      iss: CLUSTER,
      aud: NODE,
      era: this.era,
      generation: this.generation,
      assignments,
      credentials: more.credentials ?? [],
      dropVolumes: more.dropVolumes ?? [],
    };
    this.#wake();
    return assignments.map(({ replica }) => replica);
  }

  putCredential(namespace: string, registry: string, login: { version: number; username: string; password: string }): void {
    this.#credentials.set(`${namespace}/${registry}`, login);
  }

  /** Another spec body under a hash of its own, for specs that no schema makes. */
  putBody(text: string): string {
    const hash = hashText(text);
    this.#bodies.set(hash, text);
    return hash;
  }

  editManifest(edit: (manifest: Manifest) => Manifest): void {
    if (this.#manifest === null) throw new Error("no manifest");
    this.#manifest = edit(this.#manifest);
    this.#wake();
  }

  ask(ask: ChannelAsk): void {
    this.asks = [ask];
    this.#wake();
  }

  fact(replica: string | undefined): ReplicaFact | undefined {
    return this.facts.get(replica ?? "");
  }

  /** Until the fact of a replica satisfies. */
  async until(replica: string | undefined, what: string, test: (fact: ReplicaFact) => boolean, timeoutMs = 30_000): Promise<ReplicaFact> {
    return until(
      `${replica} to be ${what}`,
      () => {
        const fact = this.fact(replica);
        return fact !== undefined && test(fact) ? fact : undefined;
      },
      { timeoutMs, detail: () => JSON.stringify(this.fact(replica)) },
    );
  }

  untilState(replica: string | undefined, state: ReplicaFact["state"], timeoutMs?: number): Promise<ReplicaFact> {
    return this.until(replica, state, (fact) => fact.state === state, timeoutMs);
  }

  #wake(): void {
    for (const wake of this.#wakers) wake();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    this.requests.push(`${request.method} ${path}`);
    try {
      if (this.disturb?.(request, response) === true) return;
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const answer = await this.#answer(request, path, Buffer.concat(chunks).toString());
      await this.#send(response, answer === null ? 204 : 200, answer);
    } catch (error) {
      if (error instanceof Refusal)
        await this.#send(response, error.status, {
          error: { code: error.code, message: error.message, reason: error.code, details: [], retryable: false },
          ...error.more,
        });
      else
        await this.#send(response, 500, {
          error: { code: "internal", message: String(error), reason: "internal", details: [], retryable: false },
        });
    }
  }

  async #send(response: ServerResponse, status: number, answer: unknown): Promise<void> {
    if (response.destroyed) return;
    response.writeHead(status, {
      [NONCE_HEADER]: await this.signer.nonce(),
      [ERA_HEADER]: this.era,
      [PROTOCOL_HEADER]: "1",
      "content-type": "application/json",
    });
    response.end(answer === null ? undefined : typeof answer === "string" ? answer : JSON.stringify(answer));
  }

  async #answer(request: IncomingMessage, path: string, body: string): Promise<unknown> {
    if (path === "/agent/v1/keys") return { keySet: await this.#keySet(), serverNonce: await this.signer.nonce() };
    if (path === "/agent/v1/enroll") return this.#enroll(JSON.parse(body));
    if (path === "/agent/v1/session") return this.#openSession(SignedBody.parse(JSON.parse(body)).jws);
    await this.#prove(request, path, body);
    if (path === "/agent/v1/poll") return this.#poll(PollRequest.parse(JSON.parse(body)));
    if (path === "/agent/v1/report") return this.#report(ReportRequest.parse(JSON.parse(body)));
    const [, , , kind, first = "", second = ""] = path.split("/");
    if (kind === "bodies") {
      const found = this.#bodies.get(first);
      if (found === undefined) throw new Refusal(404, "not_found");
      return found;
    }
    if (kind === "credentials") {
      const found = this.#credentials.get(`${first}/${decodeURIComponent(second)}`);
      if (found === undefined || this.#node === null) throw new Refusal(404, "not_found");
      const plaintext = new TextEncoder().encode(JSON.stringify({ username: found.username, password: found.password }));
      return { version: found.version, sealed: await this.signer.seal(this.#node.sealKey, plaintext) };
    }
    throw new Refusal(404, "not_found");
  }

  #keySet(): Promise<string> {
    const keys = this.ring.lease.map(({ kid, jwk }) => ({ kid, use: "lease" as const, jwk: { kty: jwk.kty, crv: jwk.crv, x: jwk.x } }));
    return signKeySet(this.root, { iss: CLUSTER, era: this.era, version: this.keySetVersion, keys });
  }

  async #enroll(body: unknown): Promise<unknown> {
    if (this.isRemoved) throw new Refusal(410, "removed", "this node was removed from the cluster by an operator");
    const { jws } = EnrollRequest.parse(body);
    const payload = EnrollPayload.parse(JSON.parse(new TextDecoder().decode(base64url.decode(jws.payload))));
    const [byToken, byNode] = jws.signatures;
    await generalVerify({ payload: jws.payload, signatures: [byToken!] }, await importJWK(this.#tokenKey.jwk, "Ed25519"));
    await generalVerify({ payload: jws.payload, signatures: [byNode!] }, await importJWK(payload.signKey, "Ed25519"));
    if (!(await this.signer.nonceIsFresh(payload.serverNonce))) throw new Refusal(401, "stale_nonce");
    this.enrolments++;
    this.onEnrol(payload);
    this.#node = { signKey: payload.signKey, sealKey: payload.sealKey };
    this.nodeFacts = payload.facts;
    const grant: EnrollGrant = {
      iss: CLUSTER,
      aud: await thumbprint(payload.signKey),
      era: this.era,
      node: NODE,
      name: payload.name ?? "test",
      site: "here",
      labels: {},
      admission: this.admission,
    };
    return { jws: await this.signer.sign(JOSE_TYPES.enrolled, grant) };
  }

  /** What proves a removal to the attempt with this challenge, or what looks like it. */
  removal(
    challenge: string,
    changes: Partial<Removal> = {},
    { typ = JOSE_TYPES.removal as string, signer = this.signer } = {},
  ): Promise<string> {
    return signer.sign(typ, { iss: CLUSTER, aud: NODE, challenge, ...changes });
  }

  async #openSession(jws: string): Promise<unknown> {
    if (this.#node === null) throw new Refusal(401, "unauthenticated");
    const { payload } = await compactVerify(jws, await importJWK(this.#node.signKey, "Ed25519"));
    const asked = SessionPayload.parse(JSON.parse(new TextDecoder().decode(payload)));
    const prove = this.isRemoved ? (challenge: string) => this.removal(challenge) : this.forgeRemoval;
    if (prove !== null) {
      this.sessionsRefused++;
      throw new Refusal(410, "removed", "this node was removed from the cluster by an operator", { jws: await prove(asked.challenge) });
    }
    if (!(await this.signer.nonceIsFresh(asked.serverNonce))) throw new Refusal(401, "stale_nonce");
    if (this.admission === "pending") throw new Refusal(403, "pending_approval", "waits for an operator");
    this.#session = ++this.sessions;
    const grant: SessionGrant = {
      iss: CLUSTER,
      aud: NODE,
      era: this.era,
      challenge: asked.challenge,
      session: this.#session,
      sealedKey: await this.signer.seal(this.#node.sealKey, await this.signer.sessionKey(NODE, this.#session)),
    };
    return { jws: await this.signer.sign(JOSE_TYPES.sessionGrant, grant) };
  }

  async #prove(request: IncomingMessage, path: string, body: string): Promise<void> {
    const [scheme, jws = ""] = (request.headers.authorization ?? "").split(" ");
    if (scheme !== "Berth") throw new Refusal(401, "bad_proof");
    const { payload, protectedHeader } = await compactVerify(
      jws,
      await this.signer.sessionKey(NODE, Number(/\.(\d+)$/.exec(protectedKid(jws))?.[1])),
    );
    const claims = RequestProof.parse(JSON.parse(new TextDecoder().decode(payload)));
    if (protectedHeader.typ !== JOSE_TYPES.request || claims.method !== request.method || claims.path !== path)
      throw new Refusal(401, "bad_proof");
    if (claims.body !== createHash("sha256").update(body).digest("base64url")) throw new Refusal(401, "bad_proof");
    if (!(await this.signer.nonceIsFresh(claims.serverNonce))) throw new Refusal(401, "stale_nonce");
    if (this.isRemoved) throw new Refusal(410, "removed", "this node was removed from the cluster by an operator");
    if (Number(protectedKid(jws).split(".")[1]) !== this.#session) throw new Refusal(401, "session_replaced");
  }

  async #poll(asked: PollRequest): Promise<PollAnswer | null> {
    const now = async (): Promise<PollAnswer | null> => {
      const asks = this.asks.filter(({ id }) => !asked.channels.includes(id));
      this.asks = this.asks.filter((ask) => !asks.includes(ask));
      const isNewer = this.#manifest !== null && this.#manifest.generation > asked.generation;
      if (!isNewer && asks.length === 0) return null;
      const jws = isNewer ? await this.signer.sign(JOSE_TYPES.manifest, { ...this.#manifest }) : undefined;
      return {
        ...(jws === undefined ? {} : { manifest: jws }),
        challenge: asked.challenge,
        channels: asks,
        keySetVersion: this.keySetVersion,
      };
    };
    if (this.sendAlways !== null) {
      this.forgeries++;
      return { manifest: this.sendAlways, challenge: asked.challenge, channels: [], keySetVersion: this.keySetVersion };
    }
    const answer = await now();
    if (answer !== null) return answer;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wakers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, this.holdMs);
      this.#wakers.add(done);
    });
    if (this.isRemoved) throw new Refusal(410, "removed", "this node was removed from the cluster by an operator");
    if (asked.session !== this.#session) throw new Refusal(401, "session_replaced");
    return now();
  }

  #report(report: ReportRequest): unknown {
    this.reports.push(report);
    if (report.complete) this.facts.clear();
    for (const fact of report.replicas) this.facts.set(fact.replica, fact);
    this.images.push(...report.images);
    if (report.facts !== null) this.nodeFacts = report.facts;
    if (report.volumes !== null) this.volumes = report.volumes.map(({ engineName }) => engineName);
    return { ackSeq: report.seq };
  }

  manifest(): Record<string, unknown> {
    return { ...this.#manifest };
  }

  /** Every connection that is open now. */
  cut(): void {
    this.#server.closeAllConnections();
  }

  get channelsOpen(): number {
    return this.#sockets.clients.size;
  }

  closeChannels(): void {
    for (const client of this.#sockets.clients) client.close();
  }

  /** A new lease key signs from now on; the old one is gone. */
  async rotate(): Promise<void> {
    this.ring = { ...this.ring, lease: [await newEd25519()] };
    this.signer = await makeSigner(this.ring);
    this.keySetVersion++;
  }

  replaceSession(): void {
    this.#session = ++this.sessions;
    this.#wake();
  }
  wakePolls(): void {
    this.#wake();
  }
}

const protectedKid = (jws: string): string => {
  const header: unknown = JSON.parse(new TextDecoder().decode(base64url.decode(jws.split(".")[0] ?? "")));
  return String((header as { kid?: unknown }).kid);
};

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
export const newReplicaId = (): string => `r_${[...randomBytes(16)].map((byte) => ALPHABET[byte & 31]).join("")}`;
