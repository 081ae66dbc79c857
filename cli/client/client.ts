/**
 * The operator API as the CLI uses it. Answers are typed by the schemas they are made from and not parsed a second time:
 * loading the parser would double the start-up time of every command, and would cut what a newer control plane adds out
 * of `-o json`.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ErrorBody } from "../../shared/api/resources.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import { visible } from "../render/visible.ts";
import type { Transport, TransportAnswer, TransportRequest } from "./transport.ts";

export interface List<Item> {
  readonly rev: number;
  /** For `?watch=`. */
  readonly watch: string;
  readonly items: readonly Item[];
  /** Of a list that comes in pages: where the next begins; null or absent: this is all of it. */
  readonly next?: string | null;
}
type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** A refusal by the control plane, with its stable code. */
export class ApiError extends CliError {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string;
  /** One word: of what is not found, what it would be. */
  readonly reason: string;
  readonly retryable: boolean;

  constructor(status: number, body: ErrorBody["error"], fields: { exitCode: ExitCode; next?: string }) {
    super(visible(body.message), {
      ...fields,
      details: body.details
        .slice(0, 20)
        .filter(({ message }) => message !== body.message)
        .map(({ path, message }) => visible(path === "" ? message : `${path}: ${message}`)),
    });
    this.status = status;
    this.code = body.code;
    this.reason = body.reason;
    this.retryable = body.retryable;
  }
}

/** A held watch answers within 30 s on every platform; twice that means that the link is dead. */
const TIMEOUT_MS = 60_000;
/** A mutation whose answer was lost is asked again under the same key, which the control plane answers as it did the first time. */
const TRIES_MAX = 3;
const BROKEN = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"]);

/** What shows the names that there are, by the reason of a not_found. */
const LISTS: Readonly<Record<string, string>> = {
  app: "berth ls",
  service: "berth ps",
  namespace: "berth namespace ls",
  node: "berth node ls",
  site: "berth site ls",
};

const codeOf = (error: unknown): string => (error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "");

export interface ClientOptions {
  readonly url: string;
  readonly token: string | null;
  readonly transport: Transport;
  /** What to run when nothing answers there. */
  readonly startHint: string;
}

export class Client {
  readonly url: string;
  readonly #options: ClientOptions;
  /** Server clock minus ours, from the last answer's Date. */
  #aheadMs = 0;

  constructor(options: ClientOptions) {
    this.url = options.url;
    this.#options = options;
  }

  /** The control plane's clock, to the second: ages are counted by it, because ours may be wrong. */
  nowMs(): number {
    return Date.now() + this.#aheadMs;
  }

  get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
    return this.#json("GET", path, { query, ...(signal === undefined ? {} : { signal }) });
  }
  /** All of it, page by page. Its `watch` is the first page's: what changed meanwhile is newer than that. */
  async list<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<List<T>> {
    const first = await this.get<List<T>>(path, query, signal);
    if ((first.next ?? null) === null) return first;
    const { watch: _, ...rest } = query;
    const items = [...first.items];
    for (let cursor = first.next ?? null; cursor !== null; ) {
      const page: List<T> = await this.get<List<T>>(path, { ...rest, cursor }, signal);
      for (const item of page.items) items.push(item);
      cursor = page.next ?? null;
    }
    return { ...first, items, next: null };
  }
  post<T>(path: string, body: unknown, query: Query = {}): Promise<T> {
    return this.#json("POST", path, { query, body });
  }
  put<T>(path: string, body: unknown, query: Query = {}): Promise<T> {
    return this.#json("PUT", path, { query, body });
  }
  patch<T>(path: string, body: unknown, query: Query = {}): Promise<T> {
    return this.#json("PATCH", path, { query, body });
  }
  delete<T>(path: string, query: Query = {}): Promise<T> {
    return this.#json("DELETE", path, { query });
  }

  /** The list now and after each change, until the signal ends it. A watch that fell behind loads the list again. */
  async *watch<T>(path: string, query: Query = {}, signal?: AbortSignal): AsyncGenerator<List<T>> {
    let list = await this.list<T>(path, query, signal);
    while (true) {
      yield list;
      try {
        list = await this.list<T>(path, { ...query, watch: list.watch }, signal);
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== "gone") throw error;
        list = await this.list<T>(path, query, signal);
      }
    }
  }

  /** A stream of newline-delimited JSON. */
  async *lines<T>(path: string, query: Query = {}, signal?: AbortSignal): AsyncGenerator<T> {
    const answer = await this.#send({
      method: "GET",
      path: withQuery(path, query),
      headers: this.#headers({ accept: "application/x-ndjson" }),
      ...(signal === undefined ? {} : { signal }),
    });
    if (answer.status >= 400) throw await this.#refusal(answer);
    try {
      for await (const line of answer.lines()) if (line !== "") yield JSON.parse(line) as T;
    } catch (error) {
      if (signal?.aborted === true) throw error;
      throw new CliError(`${this.url} broke off in the middle of its answer: ${error instanceof Error ? error.message : String(error)}`, {
        exitCode: EXIT.unreachable,
        cause: error,
        next: this.#options.startHint,
      });
    }
  }

  async #json<T>(
    method: TransportRequest["method"],
    path: string,
    ask: { query: Query; body?: unknown; signal?: AbortSignal },
  ): Promise<T> {
    const mutates = method !== "GET";
    const headers = this.#headers({
      accept: "application/json",
      ...(ask.body === undefined ? {} : { "content-type": "application/json" }),
      ...(mutates ? { "idempotency-key": `${Date.now()}-${randomBytes(12).toString("hex")}` } : {}),
    });
    const request: TransportRequest = {
      method,
      path: withQuery(path, ask.query),
      headers,
      timeoutMs: TIMEOUT_MS,
      ...(ask.body === undefined ? {} : { body: JSON.stringify(ask.body) }),
      ...(ask.signal === undefined ? {} : { signal: ask.signal }),
    };
    const answer = await this.#sendAgain(request);
    if (answer.status >= 400) throw await this.#refusal(answer);
    const text = await answer.text();
    if (text === "") return undefined as T;
    if (!(answer.header("content-type") ?? "").includes("json")) throw this.#notBerth(answer.status);
    return JSON.parse(text) as T;
  }

  async #sendAgain(request: TransportRequest): Promise<TransportAnswer> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#send(request);
      } catch (error) {
        const cause = error instanceof CliError ? error.cause : error;
        if (tries >= TRIES_MAX || !BROKEN.has(codeOf(cause)) || request.signal?.aborted === true) throw error;
        await sleep(100 * tries);
      }
    }
  }

  async #send(request: TransportRequest): Promise<TransportAnswer> {
    try {
      const answer = await this.#options.transport(request);
      const date = Date.parse(answer.header("date") ?? "");
      if (Number.isFinite(date)) this.#aheadMs = Math.abs(date - Date.now()) < 2_000 ? 0 : date - Date.now();
      return answer;
    } catch (error) {
      if (error instanceof CliError || request.signal?.aborted === true) throw error;
      throw this.#unreachable(error);
    }
  }

  #headers(more: Readonly<Record<string, string>>): Record<string, string> {
    return this.#options.token === null ? { ...more } : { ...more, authorization: `Bearer ${this.#options.token}` };
  }

  #unreachable(error: unknown): CliError {
    const code = codeOf(error);
    const text = error instanceof Error ? error.message : String(error);
    const fields = { exitCode: EXIT.unreachable, cause: error } as const;
    if (code === "ECONNREFUSED" || code === "ENOENT")
      return new CliError(`nothing answers at ${this.url}`, { ...fields, next: this.#options.startHint });
    if (code === "ENOTFOUND" || code === "EAI_AGAIN")
      return new CliError(`the name in ${this.url} is not known to this machine's name service`, { ...fields, next: "berth context ls" });
    if (/CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(code)) {
      return new CliError(`the certificate of ${this.url} is not one that this machine trusts (${code})`, {
        ...fields,
        details: ["A control plane that makes its own certificate is known by its root key: add the context with --root."],
        next: "berth cluster info   (on the control plane's machine, prints the line to paste)",
      });
    }
    if (code === "EPROTO" || /wrong version number|packet length too long/i.test(text))
      return new CliError(`${this.url} does not speak TLS`, { ...fields, next: "berth context ls" });
    return new CliError(`${this.url} cannot be reached: ${visible(text)}`, { ...fields, next: "berth context ls" });
  }

  #notBerth(status: number): CliError {
    return new CliError(
      `${this.url} answered ${status} with something that is not from berth: a proxy's page, or another service at that address`,
      { exitCode: EXIT.unreachable, next: "berth context ls" },
    );
  }

  async #refusal(answer: TransportAnswer): Promise<CliError> {
    const text = await answer.text();
    let body: Partial<ErrorBody> | null = null;
    try {
      body = JSON.parse(text) as Partial<ErrorBody>;
    } catch {
      return this.#notBerth(answer.status);
    }
    const error = body?.error;
    if (typeof error?.message !== "string" || typeof error.code !== "string") return this.#notBerth(answer.status);
    const whole = {
      code: error.code,
      message: error.message,
      reason: error.reason ?? error.code,
      details: error.details ?? [],
      retryable: error.retryable ?? false,
    };
    if (error.code === "unauthenticated")
      return new ApiError(answer.status, whole, { exitCode: EXIT.unreachable, next: "berth context ls" });
    const next = error.code === "not_found" ? LISTS[whole.reason] : undefined;
    return new ApiError(answer.status, whole, { exitCode: EXIT.failed, ...(next === undefined ? {} : { next }) });
  }
}

export function withQuery(path: string, query: Query): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined);
  return pairs.length === 0
    ? path
    : `${path}?${pairs.map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(String(value))}`).join("&")}`;
}

/** One path segment. An empty one would make it the path of something else. */
export function segment(text: string): string {
  if (text === "") throw new CliError("a name is empty: say which thing is meant", { exitCode: EXIT.usage });
  return encodeURIComponent(text);
}
