/**
 * `POST /agent/v1/enroll` {jws}: a JWS in general serialisation over one payload with two signatures, the join token's
 * key first and the node's new key second (both typ `enroll`). No secret crosses the wire.
 * Answer: {jws}, compact, typ `enrolled`, signed by the lease key, `aud` the node's key thumbprint.
 */
import { z } from "zod";
import { JoinTokenId, Labels, Name, NodeId } from "../model/name.ts";
import { Ed25519Jwk, X25519Jwk } from "./keys.ts";
import { NodeFacts } from "./report.ts";

export const EnrollPayload = z.object({
  token: JoinTokenId,
  /** Echoed from the key set's answer: an old enrolment cannot be replayed. */
  serverNonce: z.string().max(256),
  signKey: Ed25519Jwk,
  sealKey: X25519Jwk,
  /** Wanted name; absent: the host name, made unique with a suffix. */
  name: Name.optional(),
  facts: NodeFacts,
});
export type EnrollPayload = z.infer<typeof EnrollPayload>;

export const EnrollRequest = z.object({
  jws: z.object({
    payload: z.string().max(65_536),
    signatures: z.array(z.object({ protected: z.string().max(2048), signature: z.string().max(256) })).length(2),
  }),
});
export type EnrollRequest = z.infer<typeof EnrollRequest>;

export const EnrollGrant = z.object({
  iss: z.string(),
  aud: z.string(),
  era: z.string(),
  node: NodeId,
  name: Name,
  site: Name,
  labels: Labels,
  /** `pending`: an operator must approve it first (`berth node approve`). */
  admission: z.enum(["admitted", "pending"]),
});
export type EnrollGrant = z.infer<typeof EnrollGrant>;

/** What the pasted join token carries, base64url JSON behind `berth_join_`. */
export const JoinToken = z.strictObject({
  v: z.literal(1),
  id: JoinTokenId,
  /** Ed25519 seed, base64url; the control plane keeps only the public half. */
  seed: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  /** Address of the control plane, `https://host:port`. */
  url: z.url().max(512),
  /** RFC 7638 thumbprint (SHA-256, base64url) of the cluster's root key. */
  root: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  /** SHA-256 of the TLS certificate's SubjectPublicKeyInfo, base64url; absent behind a proxy or with a public certificate. */
  spki: z
    .string()
    .regex(/^[A-Za-z0-9_-]{43}$/)
    .optional(),
});
export type JoinToken = z.infer<typeof JoinToken>;
export const JOIN_TOKEN_PREFIX = "berth_join_";
