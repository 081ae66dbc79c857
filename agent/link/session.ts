/** The key set and the session: the two answers on which everything else rests. Both are verified without a clock. */
import { JOSE_TYPES } from "../../shared/wire/jose.ts";
import { KeysAnswer, type KeySet } from "../../shared/wire/keys.ts";
import { Removal, RemovalAnswer, SessionGrant, type SessionPayload, SignedBody } from "../../shared/wire/session.ts";
import { PROTOCOL_VERSION } from "../../shared/wire/version.ts";
import { encode64, type NodeKeys, signSession, unseal, VerifyError, verifyKeySet, verifyLease } from "../crypto.ts";
import { type Answer, parseAnswer, type Session, type Transport } from "./transport.ts";

const SESSION_KEY_BYTES = 32;

export type NotOpened =
  | { readonly kind: "answer"; readonly answer: Exclude<Answer, { kind: "ok" }> }
  /** It answered, and what it said does not hold: another cluster, or someone in between. */
  | { readonly kind: "untrusted"; readonly message: string };
export type Opened<Value> = ({ readonly kind: "opened" } & Value) | NotOpened;

const untrusted = (message: string): { readonly kind: "untrusted"; readonly message: string } => ({ kind: "untrusted", message });

/** Fetches the key set and checks it against the pinned root. `held` is refused to go back behind, within its era. */
export async function fetchKeySet(
  transport: Transport,
  root: string,
  held: KeySet | null,
): Promise<Opened<{ readonly keySet: KeySet; readonly jws: string; readonly serverNonce: string }>> {
  const answer = await transport.exchange({ method: "GET", path: "/agent/v1/keys" });
  if (answer.kind !== "ok") return { kind: "answer", answer };
  const body = parseAnswer(answer.text, KeysAnswer);
  if (body === null) return untrusted("the key set that was sent is malformed");
  try {
    const keySet = await verifyKeySet(body.keySet, root);
    if (held !== null && keySet.era === held.era && keySet.version < held.version)
      return untrusted(`key set ${keySet.version} is older than ${held.version}, which is held`);
    return { kind: "opened", keySet, jws: body.keySet, serverNonce: body.serverNonce };
  } catch (error) {
    return untrusted(error instanceof Error ? error.message : String(error));
  }
}

export interface SessionInput {
  readonly transport: Transport;
  readonly keys: NodeKeys;
  readonly node: string;
  readonly cluster: string;
  readonly keySet: KeySet;
  readonly serverNonce: string;
  readonly bootId: string;
  readonly hardware: string;
  readonly instance: string;
  readonly agentVersion: string;
  readonly challenge: Uint8Array;
}

/** An operator has removed this node, and the control plane has signed that. */
export type Removed = { readonly kind: "removed" };

export async function openSession(input: SessionInput): Promise<Opened<{ readonly session: Session }> | Removed> {
  const { transport, keys, node } = input;
  const challenge = encode64(input.challenge);
  const payload: SessionPayload = {
    node: node as SessionPayload["node"],
    serverNonce: input.serverNonce,
    challenge,
    bootId: input.bootId,
    hardware: input.hardware,
    instance: input.instance,
    protocol: PROTOCOL_VERSION,
    agentVersion: input.agentVersion,
  };
  const answer = await transport.exchange({
    method: "POST",
    path: "/agent/v1/session",
    body: { jws: await signSession(keys, node, payload) },
  });
  if (answer.kind === "refused" && answer.code === "removed") return await readRemoval(answer.text, { ...input, challenge });
  if (answer.kind !== "ok") return { kind: "answer", answer };
  const body = parseAnswer(answer.text, SignedBody);
  if (body === null) return untrusted("the session grant that was sent is malformed");
  try {
    const grant = SessionGrant.parse(await verifyLease(body.jws, JOSE_TYPES.sessionGrant, input.keySet));
    if (grant.aud !== node) return untrusted("the session grant is for another node");
    if (grant.iss !== input.cluster) return untrusted("the session grant is of another cluster");
    if (grant.challenge !== challenge) return untrusted("the session grant answers another request");
    const key = await unseal(keys, grant.sealedKey);
    if (key.length !== SESSION_KEY_BYTES) return untrusted(`the session key has ${key.length} bytes`);
    return { kind: "opened", session: { node, number: grant.session, era: grant.era, key, seq: 0 } };
  } catch (error) {
    if (error instanceof VerifyError || error instanceof Error) return untrusted(error.message);
    throw error;
  }
}

/** Anybody on the way can answer that a node was removed; all that it runs is stopped for the signed word alone. */
async function readRemoval(
  text: string,
  expected: Pick<SessionInput, "node" | "cluster" | "keySet"> & { readonly challenge: string },
): Promise<NotOpened | Removed> {
  const unproved = (why: string) =>
    untrusted(`something answers that this node was removed from its cluster, and that is not believed: ${why}`);
  const body = parseAnswer(text, RemovalAnswer);
  if (body === null) return unproved("it is not signed");
  try {
    const { iss, aud, challenge } = Removal.parse(await verifyLease(body.jws, JOSE_TYPES.removal, expected.keySet));
    if (iss !== expected.cluster || aud !== expected.node) return unproved("it is of another cluster or node");
    return challenge === expected.challenge ? { kind: "removed" } : unproved("it answers another request");
  } catch (error) {
    return unproved(error instanceof Error ? error.message : String(error));
  }
}
