/**
 * Bodies of requests: bounded before they are read, checked before they are parsed. `JSON.parse` takes a depth of a
 * million and keeps the last of two equal keys, so both are looked for first, in one pass over the bytes.
 */
import { BerthError } from "./errors.ts";

/** Bounds the memory one request can take. An agent keeps its reports below it: REPORT_BYTES_MAX in agent/link/report-size.ts. */
export const BODY_BYTES_MAX = 1_000_000;
/** The deepest message of ours nests 7 levels. */
export const DEPTH_MAX = 32;

const NOTHING = new Uint8Array(0);
const tooLarge = (maxBytes: number) => new BerthError("too_large", `the body is over ${maxBytes} bytes`);

/** The whole body. Throws `unsupported_encoding`, or `too_large` as soon as more than `maxBytes` are announced or have come. */
export async function readBody(request: Request, maxBytes = BODY_BYTES_MAX): Promise<Uint8Array> {
  refuseEncoding(request);
  const announced = request.headers.get("content-length");
  if (announced !== null && Number(announced) > maxBytes) throw tooLarge(maxBytes);
  if (request.body === null) return NOTHING;

  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = request.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.byteLength;
    if (length > maxBytes) {
      // The sender may be gone by now; what is answered is the same.
      await reader.cancel().catch(() => {});
      throw tooLarge(maxBytes);
    }
    chunks.push(value);
  }
  const only = chunks[0];
  if (only !== undefined && chunks.length === 1) return only;
  const body = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return body;
}

/**
 * The same for a request of the agent protocol, taken whole: an HTTP server passes on no more than was announced. On Node
 * that is the path that makes no stream, measured 10 KiB less for each poll that is held.
 */
export async function readAnnouncedBody(request: Request, maxBytes = BODY_BYTES_MAX): Promise<Uint8Array> {
  const announced = request.headers.get("content-length");
  if (announced === null) return readBody(request, maxBytes);
  refuseEncoding(request);
  if (!/^[0-9]{1,15}$/.test(announced)) throw new BerthError("invalid", "the Content-Length is not a number", { reason: "length" });
  if (Number(announced) > maxBytes) throw tooLarge(maxBytes);
  const body = new Uint8Array(await request.arrayBuffer());
  if (body.byteLength > maxBytes) throw tooLarge(maxBytes);
  return body;
}

function refuseEncoding(request: Request): void {
  const encoding = request.headers.get("content-encoding");
  if (encoding !== null && encoding.trim().toLowerCase() !== "identity")
    throw new BerthError("unsupported_encoding", `content-encoding ${encoding.slice(0, 64)} is not accepted; send the body as it is`);
}

const invalid = (message: string, reason: string) => new BerthError("invalid", message, { reason });

/** JSON value of `body`. Throws `invalid` for anything that is not UTF-8, not JSON, too deep or has a key twice in one object. */
export function parseJson(body: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch (cause) {
    throw new BerthError("invalid", "the body is not UTF-8", { reason: "encoding", cause });
  }
  return parseJsonText(text);
}

export function parseJsonText(text: string): unknown {
  checkShape(text);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new BerthError("invalid", "the body is not JSON", { reason: "json", cause });
  }
}

/** One object of ours has at most a few hundred keys (labels, env, services); the bound keeps the check below linear and small. */
const KEYS_MAX = 4096;

/** Depth and duplicate keys. What it does not understand it leaves to JSON.parse. */
function checkShape(text: string): void {
  /** Keys of each open object; null for an array. */
  const open: (Set<string> | null)[] = [];
  let expectsKey = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22 /* " */) {
      const end = endOfString(text, at);
      if (expectsKey) addKey(open.at(-1) ?? null, text.slice(at, end + 1));
      expectsKey = false;
      at = end;
    } else if (code === 0x7b /* { */ || code === 0x5b /* [ */) {
      if (open.length === DEPTH_MAX) throw invalid(`the body nests deeper than ${DEPTH_MAX} levels`, "depth");
      expectsKey = code === 0x7b;
      open.push(expectsKey ? new Set() : null);
    } else if (code === 0x7d /* } */ || code === 0x5d /* ] */) {
      open.pop();
      expectsKey = false;
    } else if (code === 0x2c /* , */) {
      expectsKey = open.at(-1) instanceof Set;
    }
  }
}

function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (end !== -1) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c /* \ */) slashes++;
    if (slashes % 2 === 0) return end;
    end = text.indexOf('"', end + 1);
  }
  return text.length;
}

/** Two spellings of one key (`"a"`, `"\u0061"`) are one key: escapes are resolved where there are any. */
function addKey(keys: Set<string> | null, quoted: string): void {
  if (keys === null) return;
  let key = quoted;
  if (quoted.includes("\\")) {
    try {
      key = JSON.stringify(JSON.parse(quoted));
    } catch {
      return; // JSON.parse will say so of the whole
    }
  }
  if (keys.has(key)) throw invalid(`the key ${key.slice(0, 64)} stands twice in one object`, "duplicate");
  if (keys.size === KEYS_MAX) throw invalid(`an object has more than ${KEYS_MAX} keys`, "keys");
  keys.add(key);
}
