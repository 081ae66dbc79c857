/**
 * `typ` of every JOSE object on the wire. Each verifier accepts exactly one, so that a signature made for one purpose is
 * worth nothing for another. Signatures are Ed25519 (alg name `Ed25519`), request proofs HS256, sealed bodies
 * ECDH-ES on X25519 with A256GCM and no compression.
 */
export const JOSE_TYPES = {
  keySet: "berth-keys+jwt",
  enroll: "berth-enroll+jwt",
  enrolled: "berth-enrolled+jwt",
  session: "berth-session+jwt",
  sessionGrant: "berth-session-grant+jwt",
  removal: "berth-removal+jwt",
  request: "berth-request+jwt",
  manifest: "berth-manifest+jwt",
  auditHead: "berth-audit-head+jwt",
} as const;
export type JoseType = (typeof JOSE_TYPES)[keyof typeof JOSE_TYPES];
