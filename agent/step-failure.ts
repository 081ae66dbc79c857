/** What a failed step says to people, and when it is tried again. */
import type { StepKind } from "../shared/converge/steps.ts";
import { EngineError } from "./engine/engine.ts";

const PORT_TAKEN = /port is already allocated|address already in use|Bind for .* failed/;

/** Something that a step needs is not there now and may come: tried again until it does. */
export class Unmet extends Error {
  override readonly name = "Unmet";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** The engine answers with it a body that is well, on a machine where a path is not. */
const BIND_MISSING = /bind source path does not exist/;
export const isBindMissing = (error: unknown): boolean =>
  error instanceof EngineError && error.code === "invalid" && BIND_MISSING.test(error.message);

/** Tries a second apart: a disk is mounted by then, and where it is not another node may have what is missing. */
const AWAITED_TRIES_MAX = 300;

/** It waits for something that a container needs and that may come. */
export const isAwaited = (error: unknown): boolean => error instanceof Unmet || isBindMissing(error);

/**
 * Refused for what it is, so that trying again would get the same answer for ever; or waited for long enough. `awaited`: how
 * many times in a row it has waited.
 */
export const isFinal = (kind: StepKind, error: unknown, awaited: number): boolean => {
  if (kind !== "create") return false;
  if (isAwaited(error)) return awaited >= AWAITED_TRIES_MAX;
  return error instanceof EngineError && error.code === "invalid";
};

export interface StepFailure {
  readonly reason: string;
  readonly message: string;
  /** It waits for something that may come at any moment: tried again each second. */
  readonly isAwaiting: boolean;
}

/** A registry that is asked while it restarts or while a tag is being pushed may refuse once: the third time it means it. */
const REFUSALS_MAX = 3;

/** `count`: how many times in a row the step has failed, this time too. */
export function describeStepFailure(kind: StepKind, error: unknown, count: number): StepFailure {
  const message = (error instanceof Error ? error.message : String(error)).slice(0, 1500);
  const code = error instanceof EngineError ? error.code : null;
  if (code === "unreachable" || code === "timeout" || code === "aborted") return { reason: "engineUnreachable", message, isAwaiting: true };
  if (code === "noSpace" || /ENOSPC/.test(message))
    return { reason: "diskFull", message: `the disk is full: ${message}`, isAwaiting: false };
  if (kind === "pull") {
    const refusal = code === "denied" ? "pullDenied" : code === "notFound" ? "imageNotFound" : "pullFailed";
    return { reason: count < REFUSALS_MAX ? "pullFailed" : refusal, message, isAwaiting: false };
  }
  // No longer pause for one of two that want the same device: they would meet at each try, and always the same one lose.
  if (error instanceof Unmet) return { reason: error.reason, message, isAwaiting: true };
  if (isBindMissing(error)) return { reason: "bindMissing", message, isAwaiting: true };
  if (kind === "start" && PORT_TAKEN.test(message)) return { reason: "portTaken", message, isAwaiting: false };
  return { reason: `${kind}Failed`, message, isAwaiting: false };
}

const RETRY_FIRST_MS = 1_000;
/** A tag that is pushed, a registry that returns, a port that is freed: found within half a minute, at two tries a minute. */
const RETRY_MAX_MS = 30_000;
/** Registries limit and count failed pulls. */
const RETRY_PULL_MAX_MS = 300_000;

export function retryDelayMs(kind: StepKind, { count, isAwaiting }: { readonly count: number; readonly isAwaiting: boolean }): number {
  if (isAwaiting) return RETRY_FIRST_MS;
  return Math.min(kind === "pull" ? RETRY_PULL_MAX_MS : RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(count - 1, 20));
}
