/**
 * A stream goes on long after its request was let in: it ends when the token that opened it is deleted or expires.
 *
 * While any is open, the tokens of all of them are read in one query at each commit and when the next of them expires.
 * Nothing has to say which commit it was: a token can go with its namespace too.
 */
import { errorText } from "./error-text.ts";
import type { Context } from "./context.ts";
import { BerthError } from "./errors.ts";
import { readGoodTokens } from "./store/read-tokens.ts";

/** A timer cannot wait for a year, and looking once an hour costs nothing. */
const LOOK_EVERY_MS = 3_600_000;
const RETRY_MS = 1_000;

export class Revocation {
  readonly #context: Context;
  /** Ends the wait for the next look; null: no stream is open. */
  #wake: AbortController | null = null;

  constructor(context: Context) {
    this.#context = context;
  }

  /** A stream was opened. Its token is read at once: it may have gone since the request was let in. */
  opened(): void {
    if (this.#wake === null) void this.#lookWhileOpen();
    else this.#wake.abort();
  }

  async #lookWhileOpen(): Promise<void> {
    const { shard, channels } = this.#context;
    while (!shard.isStopped && channels.tokens().length > 0) {
      // Both before the look: what comes while it reads is looked at again.
      this.#wake = new AbortController();
      const { rev } = shard;
      const waitMs = await this.#look();
      await shard.waitForNews({ rev, observed: Number.POSITIVE_INFINITY }, waitMs, this.#wake.signal);
    }
    this.#wake = null;
  }

  /** Ends the streams whose token is gone; says after how many ms the next one expires. */
  async #look(): Promise<number> {
    const { store, channels, log } = this.#context;
    try {
      const open = channels.tokens();
      const { marks, tokens } = await readGoodTokens(store, open);
      const good = new Set(tokens.map(({ id }) => id));
      for (const token of open)
        if (!good.has(token))
          channels.revoke(
            token,
            new BerthError("unauthenticated", "the token of this stream was deleted or has expired", { reason: "token" }),
          );
      return Math.min(LOOK_EVERY_MS, ...tokens.map(({ expiresMs }) => (expiresMs ?? Number.POSITIVE_INFINITY) - marks.nowMs));
    } catch (error) {
      log.warn({ error: errorText(error) }, "reading the tokens of open streams failed; trying again");
      return RETRY_MS;
    }
  }
}
