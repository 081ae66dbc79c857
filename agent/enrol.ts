/**
 * From a join token to an identity. The keys are on disk before the first request, so that a machine that loses its
 * power at any moment of it enrolls with the same keys again and burns no second use of the token.
 */
import { EnrollGrant, type EnrollPayload, type JoinToken } from "../shared/wire/enroll.ts";
import { JOSE_TYPES } from "../shared/wire/jose.ts";
import type { NodeFacts } from "../shared/wire/report.ts";
import { SignedBody } from "../shared/wire/session.ts";
import { makeNodeKeys, publicHalf, signEnrolment, thumbprint, verifyLease } from "./crypto.ts";
import type { Identity, identityFile } from "./identity.ts";
import { fetchKeySet } from "./link/session.ts";
import { describeAnswer, parseAnswer, type Transport } from "./link/transport.ts";
import type { Clock } from "./ports.ts";

export interface EnrolInput {
  readonly token: JoinToken;
  readonly name: string | undefined;
  readonly file: ReturnType<typeof identityFile>;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly facts: NodeFacts;
}

export type Enrolment =
  | { readonly kind: "enrolled"; readonly identity: Identity }
  /** A sentence. `mayPass`: the same again may succeed later. */
  | { readonly kind: "failed"; readonly message: string; readonly mayPass: boolean };

const failed = (message: string, mayPass: boolean): Enrolment => ({ kind: "failed", message, mayPass });

/** The identity that belongs to this token, made and saved where there is none. Null: this machine belongs to another cluster. */
export async function prepareIdentity(token: JoinToken, file: EnrolInput["file"], clock: Clock): Promise<Identity | null> {
  const held = await file.read();
  const isOurs = held !== null && held.root === token.root;
  if (held !== null && held.enrolled !== null && !held.removed && !isOurs) return null;
  if (held !== null && isOurs && !held.removed) {
    // The same cluster at a new address, or with a new certificate.
    const identity: Identity = {
      ...held,
      url: token.url,
      spki: token.spki ?? null,
      tokenId: held.enrolled === null ? token.id : held.tokenId,
    };
    await file.write(identity);
    return identity;
  }
  const fresh: Identity = {
    version: 1,
    keys: await makeNodeKeys(),
    url: token.url,
    root: token.root,
    spki: token.spki ?? null,
    tokenId: token.id,
    enrolled: null,
    keySet: null,
    wallMs: clock.wallMs(),
    removed: false,
  };
  await file.write(fresh);
  return fresh;
}

/** One attempt. */
export async function enrol(identity: Identity, input: EnrolInput): Promise<Enrolment> {
  const { token, transport, file } = input;
  const keys = await fetchKeySet(transport, token.root, null);
  if (keys.kind === "untrusted")
    return failed(
      `${token.url} is not the cluster that this join token is for: ${keys.message}. Nothing was sent to it; ask for a new token, or find out what answers there`,
      false,
    );
  if (keys.kind === "answer") return failed(describeAnswer(keys.answer), keys.answer.kind !== "refused");

  const payload: EnrollPayload = {
    token: token.id,
    serverNonce: transport.nonce ?? keys.serverNonce,
    signKey: publicHalf(identity.keys.sign),
    sealKey: publicHalf(identity.keys.seal),
    ...(input.name === undefined ? {} : { name: input.name }),
    facts: input.facts,
  };
  const answer = await transport.exchange({
    method: "POST",
    path: "/agent/v1/enroll",
    body: { jws: await signEnrolment(token, identity.keys, payload) },
  });
  if (answer.kind === "refused")
    return failed(
      refusal(answer.code, answer.message),
      answer.code === "stale_nonce" || answer.status >= 500 || answer.code === "conflict" || answer.code === "rate_limited",
    );
  if (answer.kind !== "ok") return failed(describeAnswer(answer), true);
  const body = parseAnswer(answer.text, SignedBody);
  if (body === null) return failed("the answer to the enrolment is malformed", true);
  try {
    const grant = EnrollGrant.parse(await verifyLease(body.jws, JOSE_TYPES.enrolled, keys.keySet));
    if (grant.aud !== (await thumbprint(identity.keys.sign))) return failed("the answer to the enrolment is for another machine", true);
    if (grant.iss !== keys.keySet.iss) return failed("the answer to the enrolment is of another cluster", true);
    const enrolled: Identity = {
      ...identity,
      enrolled: { node: grant.node, name: grant.name, site: grant.site, cluster: grant.iss, admission: grant.admission },
      keySet: keys.jws,
      wallMs: Math.max(identity.wallMs, input.clock.wallMs()),
    };
    // Twice: then the previous version, which stands in for a torn one, is enrolled too.
    await file.write(enrolled);
    await file.write(enrolled);
    return { kind: "enrolled", identity: enrolled };
  } catch (error) {
    return failed(`the answer to the enrolment cannot be trusted: ${error instanceof Error ? error.message : String(error)}`, false);
  }
}

const refusal = (code: string, message: string): string =>
  code === "removed" ? `${message}; remove the data directory to join as a new node` : message;
