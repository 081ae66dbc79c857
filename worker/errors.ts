/**
 * Refusals that callers see. Every error that leaves the control plane is one of these codes; the map below is the only
 * place that turns a code into an HTTP status, and it is exhaustive by type. Anything else that is thrown is a defect and
 * becomes `internal` with nothing of its text in the answer.
 */
import type { Context as Request } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { errorText } from "./error-text.ts";
import type { ErrorBody } from "../shared/api/resources.ts";
import type { Log } from "./ports.ts";

/** `retryable`: the same request may succeed later with nothing changed by the caller but a nonce, a session or time. */
export const ERROR_CODES = {
  // asked wrongly
  invalid: { status: 400, retryable: false },
  too_large: { status: 413, retryable: false },
  unsupported_encoding: { status: 415, retryable: false },
  unsupported_protocol: { status: 426, retryable: false },
  // who is asking
  unauthenticated: { status: 401, retryable: false },
  forbidden: { status: 403, retryable: false },
  stale_nonce: { status: 401, retryable: true },
  bad_proof: { status: 401, retryable: false },
  /** A newer session of this node exists, or this one is not known: open a new session. */
  session_replaced: { status: 401, retryable: false },
  pending_approval: { status: 403, retryable: true },
  quarantined: { status: 403, retryable: true },
  /** This node was removed by an operator; its key is worth nothing any more. */
  removed: { status: 410, retryable: false },
  enroll_refused: { status: 403, retryable: false },
  // what was asked for
  not_found: { status: 404, retryable: false },
  method_not_allowed: { status: 405, retryable: false },
  conflict: { status: 409, retryable: true },
  /** The request is well formed and contradicts what is there (a name that is taken, an app that is being deleted). */
  refused: { status: 422, retryable: false },
  /** A watch from a rev whose changes are no longer kept: load the list again. */
  gone: { status: 410, retryable: false },
  // us
  rate_limited: { status: 429, retryable: true },
  unreachable: { status: 504, retryable: true },
  unavailable: { status: 503, retryable: true },
  internal: { status: 500, retryable: false },
} as const satisfies Record<string, { status: ContentfulStatusCode; retryable: boolean }>;
export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorFields {
  /** One word; default: the code. */
  readonly reason?: string;
  readonly details?: readonly { readonly path: string; readonly message: string }[];
  /** Sent as `Retry-After`. */
  readonly retryAfterS?: number;
  readonly cause?: unknown;
}

export class BerthError extends Error {
  override readonly name = "BerthError";
  readonly code: ErrorCode;
  readonly reason: string;
  readonly details: readonly { readonly path: string; readonly message: string }[];
  readonly retryable: boolean;
  readonly status: ContentfulStatusCode;
  readonly retryAfterS: number | null;

  constructor(code: ErrorCode, message: string, fields: ErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = code;
    this.reason = fields.reason ?? code;
    this.details = fields.details ?? [];
    this.retryable = ERROR_CODES[code].retryable;
    this.status = ERROR_CODES[code].status;
    this.retryAfterS = fields.retryAfterS ?? null;
  }

  toBody(): ErrorBody {
    return {
      error: { code: this.code, message: this.message, reason: this.reason, details: [...this.details], retryable: this.retryable },
    };
  }
}

/** Any thrown value as a BerthError; what is not a refusal becomes `internal` and keeps its text to itself. */
export function asBerthError(error: unknown): BerthError {
  if (error instanceof BerthError) return error;
  if (error instanceof HTTPException) {
    const code = (Object.keys(ERROR_CODES) as ErrorCode[]).find((name) => ERROR_CODES[name].status === error.status) ?? "invalid";
    return new BerthError(code, error.message, { cause: error });
  }
  return new BerthError("internal", "something went wrong in the control plane; its log has the details", { cause: error });
}

/** The one `onError` handler: `app.onError(toResponse(log))`. */
export const toResponse =
  (log: Log) =>
  (thrown: Error, c: Request): Response => {
    const error = asBerthError(thrown);
    if (error.code === "internal") log.error({ method: c.req.method, path: c.req.path, error: errorText(thrown) }, "request failed");
    if (error.retryAfterS !== null) c.header("Retry-After", String(error.retryAfterS));
    return c.json(error.toBody(), error.status);
  };
