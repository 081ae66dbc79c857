/**
 * Checks what the control plane signed, from the root key that a context pins: the key set names its root key and is
 * signed by it, and everything else is signed by a key of the set. Node's own crypto: nothing to load for it.
 */
import { createHash, createPublicKey, verify } from "node:crypto";
import { JOSE_TYPES, type JoseType } from "../../shared/wire/jose.ts";
import type { Ed25519Jwk, KeySet } from "../../shared/wire/keys.ts";
import { CliError } from "../exit.ts";

export interface TrustedKeys {
  /** RFC 7638 thumbprint of the root key that signed the set. */
  readonly root: string;
  readonly set: KeySet;
}

const refused = (what: string, why: string): CliError => new CliError(`${what} is not what this cluster signed: ${why}`);

/** RFC 7638 for Ed25519 (RFC 8037): members in lexical order, no white space. */
const thumbprintOf = ({ x }: Ed25519Jwk): string =>
  createHash("sha256").update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest("base64url");

/** Opens a key set. `pinned`: the root thumbprint it must have; null: whatever root signed it is answered. Throws CliError. */
export function openKeySet(jws: string, pinned: string | null): TrustedKeys {
  const what = "the key set";
  const { header, payload, signedBy } = readJws(jws, JOSE_TYPES.keySet, what);
  const jwk = header["jwk"] as Ed25519Jwk | undefined;
  if (typeof jwk?.x !== "string" || jwk.kty !== "OKP" || jwk.crv !== "Ed25519") throw refused(what, "it names no root key");
  const root = thumbprintOf(jwk);
  if (pinned !== null && root !== pinned) throw refused(what, `its root key has the thumbprint ${root}, and the context pins ${pinned}`);
  if (!signedBy(jwk)) throw refused(what, "the signature does not verify");
  return { root, set: payload as KeySet };
}

/** Opens what a key of the set signed. Throws CliError. */
export function openSigned(jws: string, typ: JoseType, asked: { readonly keys: TrustedKeys; readonly what: string }): unknown {
  const { keys, what } = asked;
  const { header, payload, signedBy } = readJws(jws, typ, what);
  const key = keys.set.keys.find(({ kid }) => kid === header["kid"]);
  if (key === undefined) throw refused(what, `its key is not in key set ${keys.set.version}`);
  if (!signedBy(key.jwk)) throw refused(what, "the signature does not verify");
  return payload;
}

interface Jws {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: unknown;
  readonly signedBy: (jwk: Ed25519Jwk) => boolean;
}

function readJws(jws: string, typ: JoseType, what: string): Jws {
  const [head = "", body = "", signature = "", ...more] = jws.split(".");
  const json = (part: string): unknown => JSON.parse(Buffer.from(part, "base64url").toString("utf8")) as unknown;
  let header: Readonly<Record<string, unknown>>;
  let payload: unknown;
  try {
    header = json(head) as typeof header;
    payload = json(body);
  } catch (cause) {
    throw new CliError(`${what} is not a signed object`, { cause });
  }
  if (more.length > 0 || header?.["alg"] !== "Ed25519" || header["typ"] !== typ || "crit" in header)
    throw refused(what, "it was signed for another purpose");
  return {
    header,
    payload,
    signedBy: (jwk) =>
      verify(
        null,
        Buffer.from(`${head}.${body}`),
        createPublicKey({ key: { kty: jwk.kty, crv: jwk.crv, x: jwk.x }, format: "jwk" }),
        Buffer.from(signature, "base64url"),
      ),
  };
}
