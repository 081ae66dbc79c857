/**
 * One exchange with the control plane. Keeps the server's last nonce, signs requests under the session's key, and tells
 * a control plane's answer from anything else that can come back over HTTP: a proxy's login page with status 200 (F27)
 * is no answer, whatever its status says.
 */
import { z } from "zod";
import { PROOF_SCHEME, type RequestProof } from "../../shared/wire/request.ts";
import { ERA_HEADER, NONCE_HEADER, PROTOCOL_HEADER, PROTOCOL_VERSION } from "../../shared/wire/version.ts";
import { digest64, signRequest } from "../crypto.ts";
import { type Http, HttpError } from "../ports.ts";

/** What a signed request needs; the number of requests in it rises with each. */
export interface Session {
  readonly node: string;
  readonly number: number;
  readonly era: string;
  readonly key: Uint8Array;
  seq: number;
}

export type Answer =
  | { readonly kind: "ok"; readonly status: number; readonly text: string; readonly era: string | null }
  /** The control plane said no, in its own words; `text` is the whole answer. */
  | { readonly kind: "refused"; readonly code: string; readonly message: string; readonly status: number; readonly text: string }
  /** Whatever answered, it was not the control plane. */
  | { readonly kind: "foreign"; readonly message: string }
  | { readonly kind: "failed"; readonly error: HttpError };

export interface Exchange {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: unknown;
  readonly session?: Session;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The rest of a refusal is for people who read logs. */
const Refusal = z.object({ error: z.object({ code: z.string().max(64), message: z.string().max(2048) }) });
const TIMEOUT_MS = 20_000;

export class Transport {
  readonly #http: Http;
  readonly #url: string;
  readonly #userAgent: string;
  #nonce: string | null = null;

  constructor(input: { readonly http: Http; readonly url: string; readonly agentVersion: string }) {
    this.#http = input.http;
    this.#url = input.url.replace(/\/+$/, "");
    this.#userAgent = `berth-agent/${input.agentVersion}`;
  }

  get nonce(): string | null {
    return this.#nonce;
  }
  get url(): string {
    return this.#url;
  }

  async exchange(exchange: Exchange): Promise<Answer> {
    const answer = await this.#once(exchange);
    // Our nonce had grown old while nothing was asked; the refusal brought a fresh one.
    return answer.kind === "refused" && answer.code === "stale_nonce" && exchange.session !== undefined ? this.#once(exchange) : answer;
  }

  /** `Authorization` of a request, for those that do not go through here (WebSockets). */
  async authorization(
    session: Session,
    request: { readonly method: string; readonly path: string; readonly body: string },
  ): Promise<string> {
    const proof: RequestProof = {
      method: request.method,
      path: request.path,
      body: digest64(request.body),
      seq: ++session.seq,
      serverNonce: this.#nonce ?? "",
    };
    return `${PROOF_SCHEME} ${await signRequest(session.key, `${session.node}.${session.number}`, proof)}`;
  }

  async #once({ method, path, body, session, timeoutMs = TIMEOUT_MS, signal }: Exchange): Promise<Answer> {
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers: Record<string, string> = {
      [PROTOCOL_HEADER]: String(PROTOCOL_VERSION),
      "user-agent": this.#userAgent,
      accept: "application/json",
    };
    if (body !== undefined) headers["content-type"] = "application/json";
    if (session !== undefined) headers.authorization = await this.authorization(session, { method, path, body: text });
    try {
      const answer = await this.#http.request({
        method,
        url: `${this.#url}${path}`,
        headers,
        timeoutMs,
        ...(body === undefined ? {} : { body: text }),
        ...(signal === undefined ? {} : { signal }),
      });
      if (answer.header(PROTOCOL_HEADER) === null) {
        return {
          kind: "foreign",
          message: `${this.#url} answered with status ${answer.status} and is no berth control plane: a proxy or a login page may stand in between`,
        };
      }
      this.#nonce = answer.header(NONCE_HEADER) ?? this.#nonce;
      if (answer.status >= 200 && answer.status < 300)
        return { kind: "ok", status: answer.status, text: answer.body, era: answer.header(ERA_HEADER) };
      return refusalOf(answer.status, answer.body);
    } catch (error) {
      if (error instanceof HttpError) return { kind: "failed", error };
      throw error;
    }
  }
}

function refusalOf(status: number, text: string): Answer {
  try {
    const { error } = Refusal.parse(JSON.parse(text));
    return { kind: "refused", code: error.code, message: error.message, status, text };
  } catch {
    return { kind: "foreign", message: `answered with status ${status} and no reason` };
  }
}

/** The body of an answer by its schema; null: it is not of that form. */
export function parseAnswer<Schema extends z.ZodType>(text: string, schema: Schema): z.infer<Schema> | null {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** What went wrong, for people. */
export const describeAnswer = (answer: Exclude<Answer, { kind: "ok" }>): string =>
  answer.kind === "failed" ? answer.error.message : answer.message;
