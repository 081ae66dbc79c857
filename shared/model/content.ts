/**
 * Content addressing. A body's hash is the SHA-256 of its canonical JSON: keys in code-unit order, no white space,
 * members that are undefined left out. Two specs that mean the same have the same text and so the same hash.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { ContentHash } from "./name.ts";

/** Throws on what JSON cannot carry (functions, NaN, infinities, bigint): a hash of a silent null would be a lie. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new TypeError(`canonical JSON cannot carry ${value}`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item === undefined ? null : item)).join(",")}]`;
  if (typeof value !== "object") throw new TypeError(`canonical JSON cannot carry a ${typeof value}`);
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
  return `{${members.join(",")}}`;
}

/** SHA-256 of the text's UTF-8, lower-case hex. */
export function hashText(text: string): ContentHash {
  return bytesToHex(sha256(utf8ToBytes(text)));
}

export function contentHash(value: unknown): ContentHash {
  return hashText(canonicalJson(value));
}
