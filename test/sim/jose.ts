/**
 * The part of jose that berth uses, made of synchronous calls: WebCrypto ends off-thread, in an order that no seed
 * controls. Signatures, headers and ciphertexts are the real ones' (Ed25519, HS256, ECDH-ES over X25519, A256GCM), so
 * all claim checks run against what they would run against. Chance comes from the world's seed.
 * What it makes the real one opens, and what that one refuses it refuses: test/contract/jose.ts.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hash,
  type KeyObject,
  sign as signBytes,
  timingSafeEqual,
  verify as verifyBytes,
} from "node:crypto";
import { Prng } from "./prng.ts";

let entropy = new Prng("jose");
/** Before each world: its keys and ciphertexts follow from its seed. */
export function seedJose(prng: Prng): void {
  entropy = prng;
}

export const drawBytes = (count: number): Uint8Array => entropy.bytes(count);

export type CryptoKey = KeyObject;
interface Jwk {
  readonly kty: string;
  readonly crv?: string;
  readonly x?: string;
  readonly d?: string;
}
type Key = KeyObject | Uint8Array;
type Header = Record<string, unknown>;

export const base64url = {
  encode: (input: Uint8Array | string): string =>
    Buffer.from(typeof input === "string" ? Buffer.from(input) : Buffer.from(input.buffer, input.byteOffset, input.byteLength)).toString(
      "base64url",
    ),
  decode: (input: Uint8Array | string): Uint8Array => {
    const text = typeof input === "string" ? input : new TextDecoder().decode(input);
    if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new TypeError("The input to be decoded is not correctly encoded.");
    return new Uint8Array(Buffer.from(text, "base64url"));
  },
};
const encodeHeader = (header: Header): string => base64url.encode(JSON.stringify(header));
const decodeHeader = (segment: string): Header => JSON.parse(new TextDecoder().decode(base64url.decode(segment))) as Header;

class JoseError extends Error {
  override readonly name = "JoseError";
}

/** Extensions that have to be understood (RFC 7515, section 4.1.11): none is, but for one that says what holds anyway. */
function checkCritical(header: Header, known: readonly string[]): void {
  if (header.crit === undefined) return;
  const { crit } = header;
  const isList = Array.isArray(crit) && crit.length > 0;
  if (!isList || crit.some((name: unknown) => typeof name !== "string" || !known.includes(name) || header[name] !== true))
    throw new JoseError("crit names what is not understood here");
}

/** The fixed beginnings of PKCS #8 private keys and SPKI public keys (RFC 8410). */
const PKCS8 = { Ed25519: "302e020100300506032b657004220420", X25519: "302e020100300506032b656e04220420" } as const;

function privateKeyOf(curve: "Ed25519" | "X25519", seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([Buffer.from(PKCS8[curve], "hex"), seed]), format: "der", type: "pkcs8" });
}

export async function generateKeyPair(
  alg: string,
  options: { crv?: string } = {},
): Promise<{ privateKey: KeyObject; publicKey: KeyObject }> {
  const curve = alg === "Ed25519" ? "Ed25519" : options.crv === "X25519" ? "X25519" : null;
  if (curve === null) throw new JoseError(`no keys of ${alg} are made here`);
  const privateKey = privateKeyOf(curve, entropy.bytes(32));
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

export async function exportJWK(key: KeyObject): Promise<Jwk> {
  return key.export({ format: "jwk" }) as Jwk;
}

const imported = new Map<string, KeyObject>();
export async function importJWK(jwk: Jwk, _alg?: string): Promise<KeyObject> {
  if (jwk.kty !== "OKP") throw new JoseError("only OKP keys are known here");
  const name = `${jwk.crv} ${jwk.x} ${jwk.d ?? ""}`;
  let key = imported.get(name);
  if (key === undefined) {
    key = jwk.d === undefined ? createPublicKey({ key: { ...jwk }, format: "jwk" }) : createPrivateKey({ key: { ...jwk }, format: "jwk" });
    imported.set(name, key);
  }
  return key;
}

export async function importPKCS8(pem: string, _alg: string): Promise<KeyObject> {
  return createPrivateKey(pem);
}

export async function calculateJwkThumbprint(jwk: Jwk, _digest: string): Promise<string> {
  return createHash("sha256")
    .update(JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x }))
    .digest("base64url");
}

const HMAC_BLOCK = 64;

/** HMAC (RFC 2104) of two hashes: Node's own makes a key object of the bytes first, which takes several times as long. */
function hmac(key: Uint8Array, input: string): Buffer {
  const block = key.length > HMAC_BLOCK ? hash("sha256", key, "buffer") : key;
  const inner = Buffer.alloc(HMAC_BLOCK + Buffer.byteLength(input), 0x36);
  const outer = Buffer.alloc(HMAC_BLOCK + 32, 0x5c);
  for (let at = 0; at < block.length; at++) {
    inner[at] = block[at]! ^ 0x36;
    outer[at] = block[at]! ^ 0x5c;
  }
  inner.write(input, HMAC_BLOCK);
  hash("sha256", inner, "buffer").copy(outer, HMAC_BLOCK);
  return hash("sha256", outer, "buffer");
}

/** What was signed here, by its signature: to check a signature again that was made in this process takes as long as making it. */
const signed = new Map<string, { readonly key: string; readonly input: string }>();
const SIGNED_MAX = 4_096;
const names = new WeakMap<object, string>();

/** The same for a private key and its public one, or for the bytes of a shared one. */
function nameOf(key: Key): string {
  if (key instanceof Uint8Array) return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
  let name = names.get(key);
  if (name === undefined) {
    name = String(key.export({ format: "jwk" }).x);
    names.set(key, name);
  }
  return name;
}

function signInput(alg: unknown, key: Key, input: string): string {
  const signature = signatureOf(alg, key, input);
  if (signed.size >= SIGNED_MAX) signed.clear();
  signed.set(signature, { key: nameOf(key), input });
  return signature;
}

function signatureOf(alg: unknown, key: Key, input: string): string {
  if (alg === "HS256" && key instanceof Uint8Array) return hmac(key, input).toString("base64url");
  if (alg === "Ed25519" && !(key instanceof Uint8Array)) return signBytes(null, Buffer.from(input), key).toString("base64url");
  throw new JoseError(`${String(alg)} does not go with this key`);
}

function checkInput(alg: unknown, key: Key, input: string, signature: string): void {
  const known = signed.get(signature);
  const isFitting = key instanceof Uint8Array ? alg === "HS256" : alg === "Ed25519";
  if (isFitting && known?.input === input && known.key === nameOf(key)) return;
  const bytes = Buffer.from(base64url.decode(signature));
  let good = false;
  if (alg === "HS256" && key instanceof Uint8Array) {
    const wanted = hmac(key, input);
    good = bytes.length === wanted.length && timingSafeEqual(bytes, wanted);
  } else if (alg === "Ed25519" && !(key instanceof Uint8Array)) {
    good = verifyBytes(null, Buffer.from(input), key.type === "private" ? createPublicKey(key) : key, bytes);
  }
  if (!good) throw new JoseError("signature verification failed");
}

export class CompactSign {
  readonly #payload: string;
  #header: Header = {};
  constructor(payload: Uint8Array) {
    this.#payload = base64url.encode(payload);
  }
  setProtectedHeader(header: Header): this {
    this.#header = header;
    return this;
  }
  async sign(key: Key): Promise<string> {
    checkCritical(this.#header, ["b64"]);
    const input = `${encodeHeader(this.#header)}.${this.#payload}`;
    return `${input}.${signInput(this.#header.alg, key, input)}`;
  }
}

export class GeneralSign {
  readonly #payload: string;
  readonly #signatures: { key: Key; header: Header }[] = [];
  constructor(payload: Uint8Array) {
    this.#payload = base64url.encode(payload);
  }
  addSignature(key: Key) {
    const signature = { key, header: {} as Header };
    this.#signatures.push(signature);
    const builder = {
      setProtectedHeader: (header: Header) => {
        signature.header = header;
        return builder;
      },
      addSignature: (next: Key) => this.addSignature(next),
      done: () => this,
      sign: () => this.sign(),
    };
    return builder;
  }
  async sign(): Promise<{ payload: string; signatures: { protected: string; signature: string }[] }> {
    return {
      payload: this.#payload,
      signatures: this.#signatures.map(({ key, header }) => {
        const encoded = encodeHeader(header);
        return { protected: encoded, signature: signInput(header.alg, key, `${encoded}.${this.#payload}`) };
      }),
    };
  }
}

export async function flattenedVerify(
  jws: { payload: string; protected: string; signature: string },
  key: Key,
  options: { algorithms: readonly string[] },
): Promise<{ payload: Uint8Array; protectedHeader: Header }> {
  const header = decodeHeader(jws.protected);
  checkCritical(header, ["b64"]);
  if (!options.algorithms.includes(String(header.alg))) throw new JoseError("alg is not allowed");
  checkInput(header.alg, key, `${jws.protected}.${jws.payload}`, jws.signature);
  return { payload: base64url.decode(jws.payload), protectedHeader: header };
}

export async function compactVerify(
  jws: string,
  key: Key,
  options: { algorithms: readonly string[] },
): Promise<{ payload: Uint8Array; protectedHeader: Header }> {
  const [protectedHeader = "", payload = "", signature = "", rest] = jws.split(".");
  if (rest !== undefined) throw new JoseError("not a compact JWS");
  return flattenedVerify({ protected: protectedHeader, payload, signature }, key, options);
}

/** One round of the Concat KDF (NIST SP 800-56A, RFC 7518 §4.6.2) is 256 bits. */
function agreedKey(mine: KeyObject, theirs: KeyObject, enc: string): Buffer {
  const secret = diffieHellman({ privateKey: mine, publicKey: theirs });
  const sized = (bytes: Uint8Array): Buffer => {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(bytes.length);
    return Buffer.concat([size, bytes]);
  };
  const bits = Buffer.alloc(4);
  bits.writeUInt32BE(256);
  const round = Buffer.from([0, 0, 0, 1]);
  const none = sized(new Uint8Array(0));
  return createHash("sha256")
    .update(Buffer.concat([round, secret, sized(Buffer.from(enc)), none, none, bits]))
    .digest();
}

export class CompactEncrypt {
  readonly #plaintext: Uint8Array;
  #header: Header = {};
  constructor(plaintext: Uint8Array) {
    this.#plaintext = plaintext;
  }
  setProtectedHeader(header: Header): this {
    this.#header = header;
    return this;
  }
  async encrypt(key: Key): Promise<string> {
    let header = this.#header;
    let contentKey: Uint8Array;
    if (header.alg === "dir" && key instanceof Uint8Array) contentKey = key;
    else if (header.alg === "ECDH-ES" && !(key instanceof Uint8Array)) {
      const ephemeral = privateKeyOf("X25519", entropy.bytes(32));
      const { kty, crv, x } = createPublicKey(ephemeral).export({ format: "jwk" });
      header = { ...header, epk: { x, crv, kty } };
      contentKey = agreedKey(ephemeral, key, String(header.enc));
    } else throw new JoseError("this key does not encrypt");
    const encoded = encodeHeader(header);
    const iv = entropy.bytes(12);
    const cipher = createCipheriv("aes-256-gcm", contentKey, iv);
    cipher.setAAD(Buffer.from(encoded));
    const ciphertext = Buffer.concat([cipher.update(this.#plaintext), cipher.final()]);
    return [encoded, "", base64url.encode(iv), ciphertext.toString("base64url"), cipher.getAuthTag().toString("base64url")].join(".");
  }
}

export async function compactDecrypt(
  jwe: string,
  key: Key,
  options: { keyManagementAlgorithms: readonly string[]; contentEncryptionAlgorithms: readonly string[] },
): Promise<{ plaintext: Uint8Array; protectedHeader: Header }> {
  const [encoded = "", encryptedKey, iv = "", ciphertext = "", tag = "", rest] = jwe.split(".");
  if (rest !== undefined) throw new JoseError("not a compact JWE");
  const header = decodeHeader(encoded);
  checkCritical(header, []);
  if (!options.keyManagementAlgorithms.includes(String(header.alg)) || !options.contentEncryptionAlgorithms.includes(String(header.enc)))
    throw new JoseError("alg or enc is not allowed");
  if (encryptedKey !== "" || header.zip !== undefined) throw new JoseError("not of a form that is opened here");
  const contentKey =
    key instanceof Uint8Array ? key : agreedKey(key, (await importJWK(header.epk as Jwk)) as KeyObject, String(header.enc));
  const decipher = createDecipheriv("aes-256-gcm", contentKey, base64url.decode(iv), { authTagLength: 16 });
  decipher.setAAD(Buffer.from(encoded));
  decipher.setAuthTag(base64url.decode(tag));
  return {
    plaintext: new Uint8Array(Buffer.concat([decipher.update(base64url.decode(ciphertext)), decipher.final()])),
    protectedHeader: header,
  };
}
