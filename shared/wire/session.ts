/**
 * `POST /agent/v1/session` {jws}: compact, typ `session`, signed by the node's key (kid = node id), payload below.
 * Answer {jws}: compact, typ `sessionGrant`, signed by the lease key, `aud` the node id. To a node that an operator has
 * removed: 410 with {error, jws}: compact, typ `removal`, signed by the lease key. An agent stops its work for nothing less.
 */
import { z } from "zod";
import { NodeId } from "../model/name.ts";

export const SessionPayload = z.object({
  node: NodeId,
  serverNonce: z.string().max(256),
  /** 128 random bits, base64url, made for this attempt and echoed in the grant. */
  challenge: z.string().regex(/^[A-Za-z0-9_-]{22}$/),
  bootId: z.string().max(64),
  /** Hash over stable hardware ids (machine id, product uuid, first MAC): another value under one key is a clone. */
  hardware: z.string().max(64),
  /** Random for each start of the agent process. */
  instance: z.string().regex(/^[A-Za-z0-9_-]{22}$/),
  protocol: z.number().int().min(1),
  agentVersion: z.string().max(64),
});
export type SessionPayload = z.infer<typeof SessionPayload>;

export const SessionGrant = z.object({
  iss: z.string(),
  aud: z.string(),
  era: z.string(),
  challenge: z.string(),
  /** The rev of the commit that made the session. */
  session: z.number().int().min(1),
  /** 32-byte session key as compact JWE to the node's seal key. */
  sealedKey: z.string().max(2048),
});
export type SessionGrant = z.infer<typeof SessionGrant>;

export const Removal = z.object({
  iss: z.string(),
  aud: z.string(),
  /** Of the request that it answers. */
  challenge: z.string(),
});
export type Removal = z.infer<typeof Removal>;
export const RemovalAnswer = z.object({ jws: z.string().max(4_096) });

/** Body of the two signed requests, session and enrolment answers alike. */
export const SignedBody = z.object({ jws: z.string().max(65_536) });
export type SignedBody = z.infer<typeof SignedBody>;
