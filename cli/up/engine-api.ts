/** The few calls of the container engine's HTTP API that `berth up` makes itself. What runs in containers is the agent's. */
import { request } from "node:http";
import type { Readable } from "node:stream";
import { CliError } from "../exit.ts";

/** The oldest API that every engine berth supports speaks (20.10). */
const API = "/v1.41";

export interface EngineAnswer {
  readonly status: number;
  readonly text: string;
}

export class EngineApi {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  /** One request; an answer of any status is returned. */
  request(
    method: "GET" | "POST" | "DELETE",
    path: string,
    body?: { readonly stream: Readable; readonly type: string },
  ): Promise<EngineAnswer> {
    return new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { "content-type": body.type };
      const sent = request({ socketPath: this.#socket, method, path: `${API}${path}`, agent: false, headers }, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, text }));
        answer.on("error", reject);
      });
      sent.on("error", reject);
      if (body === undefined) sent.end();
      else body.stream.on("error", reject).pipe(sent);
    });
  }

  /** Parsed answer; null for 404. */
  async get<T>(path: string): Promise<T | null> {
    const { status, text } = await this.request("GET", path);
    if (status === 404) return null;
    if (status >= 400) throw new CliError(`the container engine answered ${status} to ${path}: ${text.trim()}`);
    return JSON.parse(text) as T;
  }

  /** What is gone already is fine. */
  async remove(path: string): Promise<void> {
    const { status, text } = await this.request("DELETE", path);
    if (status >= 400 && status !== 404) throw new CliError(`the container engine answered ${status} to DELETE ${path}: ${text.trim()}`);
  }
}

export const filters = (value: Readonly<Record<string, readonly string[]>>): string =>
  `filters=${encodeURIComponent(JSON.stringify(value))}`;
