/**
 * The agent's keys and what is done with them. The only file of the agent that imports jose.
 *
 * Verification needs no clock: freshness comes from challenges, never from `exp` or `iat`. Before jose sees a JWS its
 * protected header must be exactly the algorithm and typ that are expected, and hold no key or URL (save the key set,
 * whose root key is pinned by thumbprint).
 */
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import {
  base64url,
  CompactSign,
  type CryptoKey,
  calculateJwkThumbprint,
  compactDecrypt,
  compactVerify,
  exportJWK,
  GeneralSign,
  generateKeyPair,
  importJWK,
  importPKCS8,
} from "jose";
import { z } from "zod";
import type { JoinToken } from "../shared/wire/enroll.ts";
import { JOSE_TYPES, type JoseType } from "../shared/wire/jose.ts";
import { Ed25519Jwk, KeySet, X25519Jwk } from "../shared/wire/keys.ts";

const Secret = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
export const NodeKeys = z.object({ sign: Ed25519Jwk.extend({ d: Secret }), seal: X25519Jwk.extend({ d: Secret }) });
export type NodeKeys = z.infer<typeof NodeKeys>;

export const VERIFY_FAILURES = ["malformed", "header", "unknownKey", "signature", "thumbprint", "sealed"] as const;
export class VerifyError extends Error {
  override readonly name = "VerifyError";
  readonly code: (typeof VERIFY_FAILURES)[number];
  constructor(code: (typeof VERIFY_FAILURES)[number], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

export async function makeNodeKeys(): Promise<NodeKeys> {
  const sign = await generateKeyPair("Ed25519", { extractable: true });
  const seal = await generateKeyPair("ECDH-ES", { crv: "X25519", extractable: true });
  return NodeKeys.parse({ sign: await exportJWK(sign.privateKey), seal: await exportJWK(seal.privateKey) });
}

export const publicHalf = <Jwk extends Ed25519Jwk | X25519Jwk>({ kty, crv, x }: Jwk): { kty: Jwk["kty"]; crv: Jwk["crv"]; x: string } => ({
  kty,
  crv,
  x,
});
export const thumbprint = (jwk: Ed25519Jwk): Promise<string> => calculateJwkThumbprint({ kty: jwk.kty, crv: jwk.crv, x: jwk.x }, "sha256");
export const encode64 = (bytes: Uint8Array): string => base64url.encode(bytes);
export const digest64 = (text: string): string => base64url.encode(sha256(utf8ToBytes(text)));
export const digestHex = (content: string | Uint8Array): string =>
  bytesToHex(sha256(typeof content === "string" ? utf8ToBytes(content) : content));

const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

export async function signSession(keys: NodeKeys, node: string, payload: object): Promise<string> {
  return new CompactSign(encode(payload))
    .setProtectedHeader({ alg: "Ed25519", typ: JOSE_TYPES.session, kid: node })
    .sign(await importJWK(keys.sign, "Ed25519"));
}

/** Signed by the join token's key first, by the node's second. */
export async function signEnrolment(
  token: JoinToken,
  keys: NodeKeys,
  payload: object,
): Promise<{ payload: string; signatures: { protected: string; signature: string }[] }> {
  const header = { alg: "Ed25519", typ: JOSE_TYPES.enroll };
  const jws = await new GeneralSign(encode(payload))
    .addSignature(await importSeed(token.seed))
    .setProtectedHeader(header)
    .done()
    .addSignature(await importJWK(keys.sign, "Ed25519"))
    .setProtectedHeader(header)
    .sign();
  return {
    payload: jws.payload,
    signatures: jws.signatures.map((part) => ({ protected: part.protected ?? "", signature: part.signature })),
  };
}

/** The fixed beginning of a PKCS #8 Ed25519 private key (RFC 8410): the seed follows it. */
const PKCS8_ED25519 = Uint8Array.from([0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20]);
async function importSeed(seed: string): Promise<CryptoKey> {
  const der = new Uint8Array(PKCS8_ED25519.length + 32);
  der.set(PKCS8_ED25519);
  der.set(base64url.decode(seed), PKCS8_ED25519.length);
  return importPKCS8(`-----BEGIN PRIVATE KEY-----\n${btoa(String.fromCharCode(...der))}\n-----END PRIVATE KEY-----`, "Ed25519");
}

/** HS256 under a session's key. */
export const signRequest = (key: Uint8Array, kid: string, claims: object): Promise<string> =>
  new CompactSign(encode(claims)).setProtectedHeader({ alg: "HS256", typ: JOSE_TYPES.request, kid }).sign(key);

/**
 * Opens a key set: the key in its header must have the pinned thumbprint and have signed it.
 * Throws VerifyError `thumbprint` when another cluster answers.
 */
export async function verifyKeySet(jws: string, rootThumbprint: string): Promise<KeySet> {
  const header = readHeader(jws, "Ed25519", JOSE_TYPES.keySet, ["alg", "typ", "jwk"]);
  const root = Ed25519Jwk.safeParse(header.jwk);
  if (!root.success) throw new VerifyError("header", "the key set names no root key");
  const found = await thumbprint(root.data);
  if (found !== rootThumbprint)
    throw new VerifyError("thumbprint", `the control plane's root key has the thumbprint ${found}, expected was ${rootThumbprint}`);
  return KeySet.parse(await open(jws, await importJWK(root.data, "Ed25519")));
}

/** Checks a JWS of the control plane under the lease keys of the key set and gives its payload, not yet parsed. */
export async function verifyLease(jws: string, typ: JoseType, keySet: KeySet): Promise<unknown> {
  const header = readHeader(jws, "Ed25519", typ, ["alg", "typ", "kid"]);
  const key = keySet.keys.find(({ kid }) => kid === header.kid);
  if (key === undefined)
    throw new VerifyError("unknownKey", `signed with key ${String(header.kid).slice(0, 64)}, which is not in key set ${keySet.version}`);
  return open(jws, await importJWK(key.jwk, "Ed25519"));
}

async function open(jws: string, key: CryptoKey | Uint8Array): Promise<unknown> {
  try {
    const { payload } = await compactVerify(jws, key, { algorithms: ["Ed25519"] });
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch (cause) {
    throw new VerifyError("signature", "the signature does not verify", cause);
  }
}

function readHeader(jws: string, alg: string, typ: string, names: readonly string[]): Record<string, unknown> {
  const segment = jws.slice(0, jws.indexOf("."));
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(base64url.decode(segment)));
  } catch (cause) {
    throw new VerifyError("malformed", "not a signed object", cause);
  }
  if (header === null || typeof header !== "object" || Array.isArray(header)) throw new VerifyError("malformed", "not a signed object");
  const fields = header as Record<string, unknown>;
  const foreign = Object.keys(fields).find((name) => !names.includes(name));
  if (foreign !== undefined) throw new VerifyError("header", `the signature's header holds ${foreign.slice(0, 32)}`);
  if (fields.alg !== alg) throw new VerifyError("header", `the signature's algorithm is not ${alg}`);
  if (fields.typ !== typ) throw new VerifyError("header", `the signature's typ is not ${typ}`);
  return fields;
}

/** Opens what was sealed to this node. No compression: a bomb has nowhere to hide. */
export async function unseal(keys: NodeKeys, jwe: string): Promise<Uint8Array> {
  try {
    const key = await importJWK(keys.seal, "ECDH-ES");
    const { plaintext } = await compactDecrypt(jwe, key, {
      keyManagementAlgorithms: ["ECDH-ES"],
      contentEncryptionAlgorithms: ["A256GCM"],
      maxDecompressedLength: 0,
    });
    return plaintext;
  } catch (cause) {
    throw new VerifyError("sealed", "this node's key does not open it", cause);
  }
}

/** What a container of ours carries: only this node's key makes it. */
export function containerProof(keys: NodeKeys, replica: string, spec: string): string {
  const key = sha256(utf8ToBytes(`berth container proof ${keys.sign.d}`));
  return bytesToHex(hmac(sha256, key, utf8ToBytes(`${replica} ${spec}`))).slice(0, 32);
}
