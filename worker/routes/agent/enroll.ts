/**
 * A machine becomes a node. Two signatures over one payload: the join token's key says that it may, the node's new key
 * says that it is the one. One guarded commit burns a use of the token and inserts the node, so fifty machines that race
 * for one token burn it at most as often as it allows.
 */
import type { Context as Request } from "hono";
import { Name, NodeId } from "../../../shared/model/name.ts";
import { EnrollPayload, EnrollRequest, type EnrollGrant } from "../../../shared/wire/enroll.ts";
import { JOSE_TYPES } from "../../../shared/wire/jose.ts";
import { parseJson, readBody } from "../../body.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { thumbprint } from "../../keys.ts";
import { newId } from "../../new-id.ts";
import { parseRequest } from "../../parse-request.ts";
import { NOW, type Row } from "../../store/commit-types.ts";
import { type EnrolmentView, readEnrolment } from "../../store/read-agents.ts";
import { cleanText } from "./clean.ts";
import { readHeader, readPayload, verifySignature } from "./jws.ts";
import { removedError } from "./proof.ts";

/** Each lost race re-reads; more losses in a row than this and the agent is told to come again. */
const TRIES_MAX = 10;
const NAME_CHARS_MAX = 63;

const refuse = (message: string, reason: string) => new BerthError("enroll_refused", message, { reason });

/** Enrolments with one token take turns here, so that in one process none loses a race to another. */
export class Enrolments {
  readonly #context: Context;
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(context: Context) {
    this.#context = context;
  }

  async handle(c: Request): Promise<Response> {
    const payload = await this.#readRequest(c.req.raw);
    const key = await thumbprint(payload.signKey);
    const node = await this.#takeTurn(payload.token, () => this.#enroll(payload, key));
    return c.json({ jws: await this.#grant(node) });
  }

  async #readRequest(request: globalThis.Request): Promise<EnrollPayload> {
    const { jws } = parseRequest(EnrollRequest, parseJson(await readBody(request)));
    const [byToken, byNode] = jws.signatures;
    if (byToken === undefined || byNode === undefined) throw refuse("two signatures are needed", "signatures");
    for (const signature of [byToken, byNode]) readHeader(signature.protected, { alg: "Ed25519", typ: JOSE_TYPES.enroll });
    const payload = cleanText(readPayload(jws.payload, EnrollPayload));
    if (!(await this.#context.signer.nonceIsFresh(payload.serverNonce)))
      throw new BerthError("stale_nonce", "the nonce is over its time; use the one of this answer", { reason: "nonce" });
    // The node's signature needs no read; only who has made one may ask the database for a token.
    await verifySignature(jws.payload, byNode, payload.signKey);
    const view = await readEnrolment(this.#context.store, { token: payload.token, thumbprint: "", name: "" });
    if (view.token === null) throw unknownToken();
    await verifySignature(jws.payload, byToken, view.token.publicKey);
    return payload;
  }

  async #takeTurn<Result>(token: string, run: () => Promise<Result>): Promise<Result> {
    const before = this.#turns.get(token) ?? Promise.resolve();
    const mine = before.then(run, run);
    this.#turns.set(token, mine);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(token) === mine) this.#turns.delete(token);
    }
  }

  async #enroll(
    payload: EnrollPayload,
    key: string,
  ): Promise<Pick<Row<"nodes">, "id" | "name" | "site" | "labels" | "admission" | "thumbprint">> {
    const { store, shard, random } = this.#context;
    const wanted = wantedName(payload);
    /** Names that turned out to be taken though they were not among those read. */
    const lost: string[] = [];
    for (let attempt = 1; attempt <= TRIES_MAX; attempt++) {
      const view = await readEnrolment(store, { token: payload.token, thumbprint: key, name: wanted });
      const known = knownNode(view, payload);
      if (known !== null) return known;
      const { token, site } = usableToken(view);
      if (token.namePattern !== null && !matchesPattern(wanted, token.namePattern))
        throw refuse(`this token is for nodes named ${token.namePattern}; "${wanted}" is not`, "name");
      const node = newNode(payload, { key, token, id: newId(random, "n"), name: freeName(wanted, new Set([...view.names, ...lost])) });
      const result = await store.commit({
        guards: [
          { table: "joinTokens", key: { id: token.id }, rev: token.rev },
          { table: "sites", key: { name: site.name }, rev: site.rev },
        ],
        changes: [
          { op: "update", table: "joinTokens", rows: [{ id: token.id, uses: token.uses + 1 }] },
          { op: "insert", table: "nodes", rows: [{ ...node, statusMs: NOW, enrolledMs: NOW }] },
        ],
        events: [
          {
            namespace: null,
            objectKind: "node",
            objectId: node.id,
            app: null,
            type: "enrolled",
            level: "info",
            message: `node ${node.name} enrolled in site ${node.site}${node.admission === "pending" ? " and waits for approval" : ""}`,
          },
        ],
      });
      if (result.kind === "committed") {
        shard.changed(result.rev);
        shard.ring();
        return node;
      }
      if (result.kind === "conflict" && result.what === "unique") lost.push(node.name);
    }
    throw new BerthError("conflict", "many machines are enrolling with this token; try again", { retryAfterS: 1 });
  }

  #grant(node: Pick<Row<"nodes">, "id" | "name" | "site" | "labels" | "admission" | "thumbprint">): Promise<string> {
    const { clusterId, era } = this.#context.shard.cluster;
    const grant: EnrollGrant = {
      iss: clusterId,
      aud: node.thumbprint,
      era,
      node: NodeId.parse(node.id),
      name: node.name,
      site: node.site,
      labels: node.labels,
      admission: node.admission,
    };
    return this.#context.signer.sign(JOSE_TYPES.enrolled, grant);
  }
}

const unknownToken = () =>
  refuse("this join token is not known here; it may have been deleted. Create one with berth join-token create", "token");

/** The same key again gets the same answer; a removed key none. */
function knownNode(view: EnrolmentView, payload: EnrollPayload): Row<"nodes"> | null {
  if (view.isRemoved) throw removedError();
  if (view.node === null) return null;
  if (view.node.joinToken === payload.token) return view.node;
  throw refuse(`this machine is node ${view.node.name} of site ${view.node.site} already; remove that node first`, "enrolled");
}

function usableToken(view: EnrolmentView): { readonly token: Row<"joinTokens">; readonly site: Row<"sites"> } {
  const { token, site, nowMs } = view;
  if (token === null) throw unknownToken();
  if (token.expiresMs <= nowMs) throw refuse("this join token has expired", "expired");
  if (token.uses >= token.usesMax)
    throw refuse(`this join token was for ${token.usesMax} ${token.usesMax === 1 ? "machine" : "machines"}, and all have joined`, "used");
  if (site === null) throw refuse(`site ${token.site} of this join token is gone`, "site");
  return { token, site };
}

/** What the machine asks to be called, else its host name as a name of ours, else `node`. */
export function wantedName(payload: Pick<EnrollPayload, "name" | "facts">): string {
  if (payload.name !== undefined) return payload.name;
  const [label = ""] = payload.facts.hostname.split(".");
  const made = label
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .slice(0, NAME_CHARS_MAX)
    .replaceAll(/^-+|-+$/g, "");
  return Name.safeParse(made).success ? made : "node";
}

export function freeName(wanted: string, taken: ReadonlySet<string>): string {
  if (!taken.has(wanted)) return wanted;
  for (let number = 2; ; number++) {
    const suffix = `-${number}`;
    const name = `${wanted.slice(0, NAME_CHARS_MAX - suffix.length)}${suffix}`;
    if (!taken.has(name)) return name;
  }
}

/** `*` stands for any characters. Walked by hand: a pattern with many stars must not take exponential time. */
export function matchesPattern(name: string, pattern: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return name === first;
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return false;
  const end = name.length - last.length;
  let at = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found === -1 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}

function newNode(
  payload: EnrollPayload,
  given: { readonly key: string; readonly token: Row<"joinTokens">; readonly id: string; readonly name: string },
) {
  return {
    id: given.id,
    name: given.name,
    site: given.token.site,
    thumbprint: given.key,
    signKey: payload.signKey,
    sealKey: payload.sealKey,
    joinToken: given.token.id,
    admission: given.token.needsApproval ? ("pending" as const) : ("admitted" as const),
    labels: given.token.labels,
    taints: [],
    availability: "active" as const,
    // Until its first session nothing can run there.
    status: "unreachable" as const,
    facts: payload.facts,
    session: 0,
    instance: "",
    bootId: "",
    hardware: "",
    instanceChangesMs: [],
    quarantined: false,
    generation: 0,
  };
}
