/**
 * Every other agent request carries `Authorization: Berth <jws>`: compact JWS, HS256 under the session key, typ
 * `request`, kid `<node id>.<session>`, over the claims below.
 */
import { z } from "zod";

export const RequestProof = z.object({
  method: z.string().max(8),
  /** Path with query exactly as sent. */
  path: z.string().max(2048),
  /** SHA-256 of the body bytes, base64url; of nothing when there is no body. */
  body: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  /** Rises by one with each request of a session. Good once; requests may overtake one another by up to 63. */
  seq: z.number().int().min(1),
  /** The nonce of the last answer: freshness without the node's clock. */
  serverNonce: z.string().max(256),
});
export type RequestProof = z.infer<typeof RequestProof>;
export const PROOF_SCHEME = "Berth";
