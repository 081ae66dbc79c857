/**
 * The engine's log stream cut into lines. Without a terminal it is framed: 1 byte stream, 3 zero, 4 bytes length, then
 * the payload; with one it is the raw output. A line over LINE_MAX characters is cut and marked, and what follows of it
 * dropped, so that a line of 100 MB costs no more than a short one (B72).
 */
import type { LogLine } from "./engine.ts";

export const LINE_MAX = 16_000;
const HEADER_BYTES = 8;
/** RFC 3339 with nanoseconds, as the engine puts before a line. */
const STAMP = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) /;
type Stream = "stdout" | "stderr";

interface Options {
  readonly isTty: boolean;
  readonly hasTimestamps: boolean;
  readonly onLine: (line: LogLine) => Promise<void>;
}

class LineCutter {
  readonly #stream: Stream;
  readonly #options: Options;
  readonly #decoder = new TextDecoder("utf-8");
  #pending = "";
  #isCut = false;

  constructor(stream: Stream, options: Options) {
    this.#stream = stream;
    this.#options = options;
  }

  async take(bytes: Uint8Array): Promise<void> {
    const parts = this.#decoder.decode(bytes, { stream: true }).split("\n");
    const last = parts.pop() ?? "";
    for (const part of parts) {
      this.#append(part);
      await this.#emit();
    }
    this.#append(last);
  }

  async end(): Promise<void> {
    if (this.#pending !== "") await this.#emit();
  }

  #append(text: string): void {
    const room = LINE_MAX - this.#pending.length;
    if (text.length > room) this.#isCut = true;
    this.#pending += text.length > room ? text.slice(0, room) : text;
  }

  async #emit(): Promise<void> {
    const raw = this.#pending.replace(/\r$/, "");
    const stamp = this.#options.hasTimestamps ? STAMP.exec(raw) : null;
    const line: LogLine = {
      stream: this.#stream,
      at: stamp?.[1] ?? null,
      text: stamp === null ? raw : raw.slice(stamp[0].length),
      cut: this.#isCut,
    };
    this.#pending = "";
    this.#isCut = false;
    await this.#options.onLine(line);
  }
}

export async function splitLog(source: AsyncIterable<Uint8Array>, options: Options): Promise<void> {
  const cutters = { stdout: new LineCutter("stdout", options), stderr: new LineCutter("stderr", options) };
  if (options.isTty) {
    for await (const chunk of source) await cutters.stdout.take(chunk);
  } else {
    await readFrames(source, cutters);
  }
  await cutters.stdout.end();
  await cutters.stderr.end();
}

async function readFrames(source: AsyncIterable<Uint8Array>, cutters: Readonly<Record<Stream, LineCutter>>): Promise<void> {
  const header = new Uint8Array(HEADER_BYTES);
  let headerLength = 0;
  let left = 0;
  let cutter = cutters.stdout;
  for await (const chunk of source) {
    let at = 0;
    while (at < chunk.length) {
      if (left > 0) {
        const part = chunk.subarray(at, at + left);
        await cutter.take(part);
        at += part.length;
        left -= part.length;
        continue;
      }
      const part = chunk.subarray(at, at + HEADER_BYTES - headerLength);
      header.set(part, headerLength);
      headerLength += part.length;
      at += part.length;
      if (headerLength < HEADER_BYTES) continue;
      headerLength = 0;
      cutter = header[0] === 2 ? cutters.stderr : cutters.stdout;
      left = new DataView(header.buffer).getUint32(4);
    }
  }
}
