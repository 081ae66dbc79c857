/**
 * Who is asking. Every request of the agent protocol but keys, enroll and session proves itself by a short JWS under
 * the session key. Whether it is genuine is known with no read; the shard adds whether its session is still the node's.
 *
 * Order matters: nothing is read from the database and no body is taken in before the signature has been checked.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { base64url } from "jose";
import { NodeId } from "../../../shared/model/name.ts";
import { JOSE_TYPES } from "../../../shared/wire/jose.ts";
import { PROOF_SCHEME, RequestProof } from "../../../shared/wire/request.ts";
import { readAnnouncedBody } from "../../body.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import type { Link } from "../../shard/link.ts";
import { readHeader, readPayload, splitCompact, verifyMac } from "./jws.ts";

/** The longest proof of ours is about 700 characters, 2,048 of path aside. */
const PROOF_CHARS_MAX = 4_096;
const AUTHORIZATION = new RegExp(`^${PROOF_SCHEME} ([A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+)$`);
const KID = /^(n_[a-z2-7]{16})\.([1-9][0-9]{0,15})$/;

export interface Proven {
  readonly link: Link;
  readonly session: number;
  readonly body: Uint8Array;
}

export interface AskedRequest {
  readonly method: string;
  /** Path and query as they came. */
  readonly path: string;
  readonly authorization: string | null;
}

const refuse = (message: string, reason: string) => new BerthError("bad_proof", message, { reason });
const replaced = () => new BerthError("session_replaced", "this session is not the node's newest; open a new one");
/** What it said before it was lost decides nothing any more: the complete report of its next session does. */
const outlived = () => new BerthError("session_replaced", "this node was lost, and its session with it; open a new one");
/** One of the clones comes back that much later at most: PAUSE_MAX_MS of the agent's link. */
export const CLONE_RETRY_S = 30;
export const quarantinedError = (name: string) =>
  new BerthError("quarantined", `two machines use the key of node ${name}; an operator must deal with it: berth node reissue ${name}`, {
    retryAfterS: CLONE_RETRY_S,
  });
export const removedError = () => new BerthError("removed", "this node was removed from the cluster by an operator");

/** Path and query of a Request as sent, whatever its host. */
export function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  return start === -1 ? "/" : url.slice(start);
}

export async function proveRequest(context: Context, request: Request): Promise<Proven> {
  const asked = { method: request.method, path: pathOf(request.url), authorization: request.headers.get("authorization") };
  return prove(context, asked, () => readAnnouncedBody(request));
}

/** Throws `bad_proof`, `stale_nonce`, `session_replaced`, `removed`, and what reading the body throws. */
export async function prove(context: Context, asked: AskedRequest, takeBody: () => Promise<Uint8Array>): Promise<Proven> {
  const { signer, shard } = context;
  if (asked.authorization === null || asked.authorization.length > PROOF_CHARS_MAX)
    throw refuse("this request needs a proof of the node's session", "missing");
  const jws = AUTHORIZATION.exec(asked.authorization)?.[1];
  if (jws === undefined) throw refuse(`the Authorization header must be "${PROOF_SCHEME} <jws>"`, "missing");
  const parts = splitCompact(jws);
  const [header, payload] = parts;
  const kid = KID.exec(readHeader(header, { alg: "HS256", typ: JOSE_TYPES.request }) ?? "");
  const node = NodeId.safeParse(kid?.[1]);
  const session = Number(kid?.[2]);
  if (!node.success || !Number.isSafeInteger(session)) throw refuse("the proof's kid must be <node id>.<session>", "kid");

  const known = shard.known(node.data);
  const key = known?.row.session === session ? await keyOf(context, known) : await signer.sessionKey(node.data, session);
  verifyMac(parts, key);
  const claims = readPayload(payload, RequestProof);
  if (claims.method !== asked.method || claims.path !== asked.path) throw refuse("the proof was made for another request", "request");
  if (!(await signer.nonceIsFresh(claims.serverNonce))) throw staleNonce("the nonce is over its time; use the one of this answer", "nonce");

  const body = await takeBody();
  if (claims.body !== base64url.encode(sha256(body))) throw refuse("the proof was made for another body", "body");

  const link = await currentLink(context, node.data, session);
  if (!link.replay.use(claims.seq)) throw staleNonce("this proof has been used; make a new one with the nonce of this answer", "replayed");
  shard.proved(link);
  return { link, session, body };
}

const staleNonce = (message: string, reason: string) => new BerthError("stale_nonce", message, { reason });

async function keyOf(context: Context, link: Link): Promise<Uint8Array> {
  const { session } = link.row;
  const key = link.sessionKey ?? (await context.signer.sessionKey(link.row.id, session));
  // A newer session may have come while the key was derived.
  if (link.row.session === session) link.sessionKey = key;
  return key;
}

async function currentLink(context: Context, node: NodeId, session: number): Promise<Link> {
  const link = await context.shard.link(node);
  if (link === null) throw removedError();
  if (session > link.row.session) await context.shard.reload(link);
  if (link.isRemoved) throw removedError();
  if (session !== link.row.session) throw replaced();
  if (link.row.status === "lost") throw outlived();
  return link;
}
