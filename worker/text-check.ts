/**
 * What JSON allows and we do not, anywhere in a request: NUL (SQLite cuts the string there), lone surrogates (all become
 * one replacement character when stored, so two names would be one), the key `__proto__`, and keys that have an equal
 * twin in another Unicode form. Values may be in any form: a file's content is data.
 */
import { BerthError } from "./errors.ts";

const refuse = (message: string, path: readonly string[], reason: string) =>
  new BerthError("invalid", message, { reason, details: [{ path: path.join(".").slice(0, 256), message }] });

/** Throws `invalid`. */
export function checkText(value: unknown, path: readonly string[] = []): void {
  if (typeof value === "string") return checkString(value, path);
  if (value === null || typeof value !== "object") return;
  if (Array.isArray(value)) {
    value.forEach((item, index) => checkText(item, [...path, String(index)]));
    return;
  }
  for (const [key, member] of Object.entries(value)) {
    checkString(key, path);
    if (key === "__proto__") throw refuse("the key __proto__ is not accepted", path, "key");
    if (!isAscii(key) && key !== key.normalize("NFC")) throw refuse("a key is not in Unicode's composed form (NFC)", path, "unicode");
    checkText(member, [...path, key.slice(0, 64)]);
  }
}

function checkString(text: string, path: readonly string[]): void {
  if (text.includes("\0")) throw refuse("NUL characters are not accepted", path, "unicode");
  if (!text.isWellFormed()) throw refuse("a lone surrogate (half a character) is not accepted", path, "unicode");
}

const isAscii = (text: string): boolean => /^[ -~]*$/.test(text);
