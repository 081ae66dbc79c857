/** `GET /agent/v1/keys`: the root-signed key set. Unauthenticated; an agent checks it against the root thumbprint it pinned. */
import { z } from "zod";

export const Ed25519Jwk = z.object({ kty: z.literal("OKP"), crv: z.literal("Ed25519"), x: z.string().regex(/^[A-Za-z0-9_-]{43}$/) });
export const X25519Jwk = z.object({ kty: z.literal("OKP"), crv: z.literal("X25519"), x: z.string().regex(/^[A-Za-z0-9_-]{43}$/) });
export type Ed25519Jwk = z.infer<typeof Ed25519Jwk>;
export type X25519Jwk = z.infer<typeof X25519Jwk>;

export const Kid = z.string().regex(/^[A-Za-z0-9_-]{8,64}$/);

/** Payload of the key set: JWS, typ `keySet`, signed by the root key, whose public half is in the protected header's `jwk`. */
export const KeySet = z.object({
  iss: z.string().max(64),
  era: z.string().max(64),
  /** Rises with each rotation; an agent refuses a lower one. */
  version: z.number().int().min(1),
  keys: z
    .array(z.object({ kid: Kid, use: z.literal("lease"), jwk: Ed25519Jwk }))
    .min(1)
    .max(8),
});
export type KeySet = z.infer<typeof KeySet>;

export const KeysAnswer = z.object({ keySet: z.string().max(16_384), serverNonce: z.string().max(256) });
export type KeysAnswer = z.infer<typeof KeysAnswer>;
