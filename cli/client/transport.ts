/** One request and its answer, over node:http: fetch would load undici, which costs more than most commands take. */
import { type IncomingMessage, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { agentFor, type Pins } from "./pin.ts";

export interface TransportRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path with query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
  /** Longest silence before the request is given up; absent: none (streams). */
  readonly timeoutMs?: number;
}
export interface TransportAnswer {
  readonly status: number;
  readonly header: (name: string) => string | null;
  readonly text: () => Promise<string>;
  readonly lines: () => AsyncIterable<string>;
}
/** Rejects with the socket's error when nothing answers. */
export type Transport = (request: TransportRequest) => Promise<TransportAnswer>;

/** An answer is at most a list of 100,000 replicas, some 60 MB; more is a fault or an attack. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

async function textOf(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > ANSWER_BYTES_MAX) throw new Error(`the answer is larger than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Of an answer that may break off at any moment: then it throws, where node:readline would end the process. */
async function* linesOf(message: IncomingMessage): AsyncGenerator<string> {
  message.setEncoding("utf8");
  let rest = "";
  for await (const chunk of message as AsyncIterable<string>) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield line.replace(/\r$/, "");
  }
  if (rest !== "") yield rest;
}

export function httpTransport(base: string, pins: Pins, env: NodeJS.ProcessEnv): Transport {
  const root = new URL(base);
  const agent = agentFor(root, pins, env);
  const send = root.protocol === "http:" ? httpRequest : httpsRequest;
  const prefix = root.pathname.replace(/\/$/, "");
  return (request) =>
    new Promise((resolve, reject) => {
      const headers =
        request.body === undefined ? request.headers : { ...request.headers, "content-length": String(Buffer.byteLength(request.body)) };
      const sent = send(
        new URL(root.origin + prefix + request.path),
        { method: request.method, headers, agent, ...(request.signal === undefined ? {} : { signal: request.signal }) },
        (message) =>
          resolve({
            status: message.statusCode ?? 0,
            header: (name) => {
              const value = message.headers[name.toLowerCase()];
              return Array.isArray(value) ? (value[0] ?? null) : (value ?? null);
            },
            text: () => textOf(message),
            lines: () => linesOf(message),
          }),
      );
      if (request.timeoutMs !== undefined)
        sent.setTimeout(request.timeoutMs, () =>
          sent.destroy(Object.assign(new Error(`no answer in ${request.timeoutMs} ms`), { code: "ETIMEDOUT" })),
        );
      sent.on("error", reject);
      sent.end(request.body);
    });
}
