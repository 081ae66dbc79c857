/**
 * The cluster's keys and what is done with them: the Signer port over jose and WebCrypto.
 *
 * - root (Ed25519): signs key sets, and the certificate of a server that makes its own (worker/tls.ts). May be taken off the
 *   machine after the first start; it is needed again when that certificate has to be made anew.
 * - lease (Ed25519): signs enrolments, session grants and manifests. The first of the ring signs; all are in the key set.
 * - secret (32 bytes): session keys and the nonce key are derived from it by HKDF-SHA-256, so checking a request reads nothing.
 * - sealing (A256GCM): credentials at rest. The first seals; the others still open.
 */
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import {
  base64url,
  CompactEncrypt,
  CompactSign,
  calculateJwkThumbprint,
  compactDecrypt,
  exportJWK,
  generateKeyPair,
  importJWK,
} from "jose";
import { z } from "zod";
import { JOSE_TYPES } from "../shared/wire/jose.ts";
import { Ed25519Jwk, Kid, type KeySet, type X25519Jwk } from "../shared/wire/keys.ts";
import { equalInConstantTime } from "./equal-in-constant-time.ts";
import type { Random, Signer } from "./ports.ts";

const Secret = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
export const PrivateEd25519 = Ed25519Jwk.extend({ d: Secret });
export type PrivateEd25519 = z.infer<typeof PrivateEd25519>;

/** The runtime keys as they are stored; the root key is stored apart. */
export const KeyRing = z.object({
  lease: z
    .array(z.object({ kid: Kid, jwk: PrivateEd25519 }))
    .min(1)
    .max(8),
  secret: Secret,
  sealing: z
    .array(z.object({ kid: Kid, key: Secret }))
    .min(1)
    .max(8),
});
export type KeyRing = z.infer<typeof KeyRing>;

export const thumbprint = (jwk: Ed25519Jwk): Promise<string> => calculateJwkThumbprint({ kty: jwk.kty, crv: jwk.crv, x: jwk.x }, "sha256");

export async function newEd25519(): Promise<{ kid: string; jwk: PrivateEd25519 }> {
  const { privateKey } = await generateKeyPair("Ed25519", { extractable: true });
  const jwk = PrivateEd25519.parse(await exportJWK(privateKey));
  return { kid: await thumbprint(jwk), jwk };
}

export async function newKeyRing(random: Random): Promise<KeyRing> {
  const secretBytes = () => base64url.encode(random.bytes(32));
  return {
    lease: [await newEd25519()],
    secret: secretBytes(),
    sealing: [{ kid: base64url.encode(random.bytes(12)), key: secretBytes() }],
  };
}

export const publicHalf = (jwk: PrivateEd25519): Ed25519Jwk => ({ kty: jwk.kty, crv: jwk.crv, x: jwk.x });

/** Key set signed by the root, whose public half stands in the header: an agent checks it against the thumbprint it pinned. */
export async function signKeySet(root: PrivateEd25519, set: KeySet): Promise<string> {
  const key = await importJWK(root, "Ed25519");
  return new CompactSign(encode(set)).setProtectedHeader({ alg: "Ed25519", typ: JOSE_TYPES.keySet, jwk: publicHalf(root) }).sign(key);
}

const encode = (value: unknown): Uint8Array<ArrayBuffer> => new TextEncoder().encode(JSON.stringify(value));
const plain = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(bytes);

/** A nonce names its minute. An agent polls every few seconds and so always holds a young one; ten minutes bridge a long pull of a slow link. */
const SLICE_MS = 60_000;
const SLICES_FRESH = 10;
/** 128 bits of the HMAC are kept: forging one online is out of reach, and the header stays short. */
const NONCE_MAC_BYTES = 16;
const NONCE_PATTERN = /^([0-9a-z]{1,9})\.([A-Za-z0-9_-]{22})$/;

/**
 * `nowMs` is the wall clock: a nonce must not become fresh again after a restart, as it would by a monotonic clock.
 *
 * Which proofs were used is remembered in memory (ReplayWindow), so a signer takes no nonce from before it was made, or
 * what was recorded then could be sent again to it: its slices begin with the one after the minute that it is made in, and
 * do not go back with the clock. Several processes take each other's nonces; an agent whose nonce is refused has the fresh
 * one in that answer and asks again. Left is what a process recorded that was itself made in that same minute.
 */
export async function makeSigner(ring: KeyRing, nowMs: () => number = Date.now): Promise<Signer> {
  const current = ring.lease[0];
  const sealing = ring.sealing[0];
  if (current === undefined || sealing === undefined) throw new Error("the key ring is empty");
  const signingKey = await importJWK(current.jwk, "Ed25519");
  const secret = base64url.decode(ring.secret);
  const derive = (info: string) => hkdf(sha256, secret, undefined, utf8ToBytes(info), 32);
  const nonceKey = derive("berth nonce");
  const sealingKeys = new Map(ring.sealing.map(({ kid, key }) => [kid, base64url.decode(key)]));
  const nonces = new Map<number, string>();

  const nonceOf = (slice: number): string => {
    const known = nonces.get(slice);
    if (known !== undefined) return known;
    const mac = hmac(sha256, nonceKey, utf8ToBytes(`${slice}`));
    const nonce = `${slice.toString(36)}.${base64url.encode(mac.subarray(0, NONCE_MAC_BYTES))}`;
    for (const old of nonces.keys()) if (old < slice - SLICES_FRESH - 1) nonces.delete(old);
    nonces.set(slice, nonce);
    return nonce;
  };
  const wallSlice = () => Math.floor(nowMs() / SLICE_MS);
  const firstSlice = wallSlice() + 1;
  const sliceNow = () => Math.max(firstSlice, wallSlice());

  return {
    sign: (typ, payload) => new CompactSign(encode(payload)).setProtectedHeader({ alg: "Ed25519", typ, kid: current.kid }).sign(signingKey),
    sessionKey: async (node, session) => derive(`berth session ${node} ${session}`),
    seal: async (jwk: X25519Jwk, plaintext) =>
      new CompactEncrypt(plain(plaintext)).setProtectedHeader({ alg: "ECDH-ES", enc: "A256GCM" }).encrypt(await importJWK(jwk, "ECDH-ES")),
    sealAtRest: async (plaintext) => ({
      kid: sealing.kid,
      sealed: await new CompactEncrypt(plain(plaintext))
        .setProtectedHeader({ alg: "dir", enc: "A256GCM", kid: sealing.kid })
        .encrypt(base64url.decode(sealing.key)),
    }),
    openAtRest: async (kid, sealed) => {
      const key = sealingKeys.get(kid);
      if (key === undefined) throw new Error(`sealing key ${kid} is not in this machine's key ring`);
      const opened = await compactDecrypt(sealed, key, {
        keyManagementAlgorithms: ["dir"],
        contentEncryptionAlgorithms: ["A256GCM"],
        maxDecompressedLength: 0,
      });
      return opened.plaintext;
    },
    nonce: async () => nonceOf(sliceNow()),
    nonceIsFresh: async (nonce) => {
      const slice = Number.parseInt(NONCE_PATTERN.exec(nonce)?.[1] ?? "", 36);
      const age = sliceNow() - slice;
      // One slice ahead: another process of this control plane may be a little early.
      if (!(slice >= firstSlice && age >= -1 && age <= SLICES_FRESH)) return false;
      return equalInConstantTime(nonce, nonceOf(slice));
    },
  };
}
