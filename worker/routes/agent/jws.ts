/**
 * What every JOSE object from an agent must look like before jose sees it: exactly one algorithm, exactly one typ, and
 * no header but alg, typ and kid. So `jwk`, `jku`, `x5u`, `crit`, `b64` and `zip` are refused whatever they say, and a
 * key is never chosen by the one who signs.
 */
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { base64url, compactVerify, type CryptoKey, flattenedVerify, importJWK } from "jose";
import type { z } from "zod";
import type { JoseType } from "../../../shared/wire/jose.ts";
import type { Ed25519Jwk } from "../../../shared/wire/keys.ts";
import { parseJson } from "../../body.ts";
import { equalInConstantTime } from "../../equal-in-constant-time.ts";
import { BerthError } from "../../errors.ts";
import { parseRequest } from "../../parse-request.ts";

const HEADER_NAMES: ReadonlySet<string> = new Set(["alg", "typ", "kid"]);
/** A header of ours is under 150 characters. */
const HEADER_CHARS_MAX = 512;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

const refuse = (message: string, reason: string, cause?: unknown) => new BerthError("bad_proof", message, { reason, cause });

/** Checks a protected header and gives its kid. Throws `bad_proof`. */
export function readHeader(segment: string, expected: { readonly alg: "Ed25519" | "HS256"; readonly typ: JoseType }): string | null {
  if (segment.length > HEADER_CHARS_MAX || !BASE64URL.test(segment)) throw refuse("the signature's header is malformed", "header");
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(base64url.decode(segment)));
  } catch (cause) {
    throw refuse("the signature's header is malformed", "header", cause);
  }
  if (header === null || typeof header !== "object" || Array.isArray(header)) throw refuse("the signature's header is malformed", "header");
  const fields = header as Record<string, unknown>;
  const foreign = Object.keys(fields).find((name) => !HEADER_NAMES.has(name));
  if (foreign !== undefined) throw refuse(`the signature's header may hold alg, typ and kid, not ${foreign.slice(0, 32)}`, "header");
  if (fields.alg !== expected.alg) throw refuse(`the signature's algorithm must be ${expected.alg}`, "alg");
  if (fields.typ !== expected.typ) throw refuse(`the signature's typ must be ${expected.typ}`, "typ");
  if (fields.kid === undefined) return null;
  if (typeof fields.kid !== "string") throw refuse("the signature's kid must be text", "kid");
  return fields.kid;
}

/** The three parts of a compact JWS. Throws `bad_proof`. */
export function splitCompact(jws: string): readonly [header: string, payload: string, signature: string] {
  const [header, payload, signature, rest] = jws.split(".", 4);
  if (header === undefined || payload === undefined || signature === undefined || rest !== undefined)
    throw refuse("not a compact JWS", "form");
  return [header, payload, signature];
}

/** Parses a payload before or after its signature was checked; the caller says which by its order. */
export function readPayload<Schema extends z.ZodType>(segment: string, schema: Schema): z.infer<Schema> {
  if (!BASE64URL.test(segment)) throw refuse("the signed payload is malformed", "payload");
  return parseRequest(schema, parseJson(base64url.decode(segment)));
}

export const importEd25519 = (jwk: Ed25519Jwk): Promise<CryptoKey> =>
  importJWK(jwk, "Ed25519").then(
    (key) => key as CryptoKey,
    (cause: unknown) => {
      throw refuse("the key is not a point of Ed25519", "key", cause);
    },
  );

/** Throws `bad_proof` unless `key` signed. */
export async function verifyCompact(jws: string, key: CryptoKey): Promise<void> {
  try {
    await compactVerify(jws, key, { algorithms: ["Ed25519"] });
  } catch (cause) {
    throw refuse("the signature does not verify", "signature", cause);
  }
}

/**
 * HS256 (RFC 7518 §3.2) of a compact JWS whose header was read already. Every request of every agent is checked so, and
 * WebCrypto imports the key anew and takes a turn of the thread pool for each: see docs/adr/0005.
 */
export function verifyMac(parts: readonly [header: string, payload: string, signature: string], key: Uint8Array): void {
  const [header, payload, signature] = parts;
  const mac = hmac(sha256, key, utf8ToBytes(`${header}.${payload}`));
  if (!equalInConstantTime(signature, base64url.encode(mac))) throw refuse("the signature does not verify", "signature");
}

export async function verifySignature(
  payload: string,
  part: { readonly protected: string; readonly signature: string },
  jwk: Ed25519Jwk,
): Promise<void> {
  const key = await importEd25519(jwk);
  try {
    await flattenedVerify({ payload, protected: part.protected, signature: part.signature }, key, { algorithms: ["Ed25519"] });
  } catch (cause) {
    throw refuse("the signature does not verify", "signature", cause);
  }
}
