/**
 * What JSON allows and we do not, anywhere in a request: NUL (SQLite cuts the string there), lone surrogates (all become
 * one replacement character when stored, so two names would be one), the key `__proto__`, and keys that have an equal
 * twin in another Unicode form. Values may be in any form: a file's content is data.
 */
import { BerthError } from "./errors.ts";

/** Throws `invalid`. */
export function checkText(value: unknown): void {
  const problem = problemIn(value);
  if (problem === null) return;
  const { message, reason, path } = problem;
  throw new BerthError("invalid", message, { reason, details: [{ path: path.reverse().join(".").slice(0, 256), message }] });
}

/** `path` from the inside out: it is put together only where there is a problem. */
interface Problem {
  readonly message: string;
  readonly reason: string;
  readonly path: string[];
}

function problemIn(value: unknown): Problem | null {
  if (typeof value === "string") return problemOfText(value);
  if (value === null || typeof value !== "object") return null;
  for (const key of Object.keys(value)) {
    const problem = problemOfKey(key) ?? problemIn((value as Record<string, unknown>)[key]);
    if (problem === null) continue;
    problem.path.push(key.slice(0, 64));
    return problem;
  }
  return null;
}

function problemOfText(text: string): Problem | null {
  if (text.includes("\0")) return { message: "NUL characters are not accepted", reason: "unicode", path: [] };
  if (!text.isWellFormed()) return { message: "a lone surrogate (half a character) is not accepted", reason: "unicode", path: [] };
  return null;
}

function problemOfKey(key: string): Problem | null {
  if (key === "__proto__") return { message: "the key __proto__ is not accepted", reason: "key", path: [] };
  if (!isAscii(key) && key !== key.normalize("NFC"))
    return { message: "a key is not in Unicode's composed form (NFC)", reason: "unicode", path: [] };
  return problemOfText(key);
}

const isAscii = (text: string): boolean => /^[ -~]*$/.test(text);
