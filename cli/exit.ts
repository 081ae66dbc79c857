/**
 * How `berth` ends. Scripts may rely on these numbers; `docs/cli.md` lists them.
 *
 * `deploy --plan` alone answers differently, as other planning tools do: 0 nothing to do, 1 changes, 255 error.
 */
export const EXIT = {
  ok: 0,
  /** The control plane refused, or what was asked for failed. */
  failed: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The control plane cannot be reached or does not know the token. */
  unreachable: 3,
  /** `--wait` ran out before the deployment ended. */
  timedOut: 4,
  planError: 255,
  interrupted: 130,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A failure that is told to the person at the terminal: one sentence, what stands behind it, and what to run next. */
export class CliError extends Error {
  override readonly name: string = "CliError";
  readonly exitCode: ExitCode;
  /** Further lines, shown under the sentence. */
  readonly details: readonly string[];
  /** A command that can be pasted; null where there is none to offer. */
  readonly next: string | null;

  constructor(message: string, fields: { exitCode?: ExitCode; details?: readonly string[]; next?: string; cause?: unknown } = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.exitCode = fields.exitCode ?? EXIT.failed;
    this.details = fields.details ?? [];
    this.next = fields.next ?? null;
  }
}
