/**
 * `?watch=`: a list that is asked for with the mark of an earlier answer is held until something is newer. The mark is
 * (rev, observed): rows move rev, observations of agents move the other counter.
 *
 * The shard ends a hold: whatever commits in this process tells it, and no other process writes this database. While
 * nothing changes a hold reads nothing.
 *
 * The token is looked at again before what is newer is read: the news may be that it is gone.
 *
 * A hold ends after 25 s at most, which every proxy allows, and is bounded in number for each share.
 */
import { WATCH_PATTERN } from "../shared/api/resources.ts";
import type { Authenticator, Principal } from "./auth.ts";
import type { Context } from "./context.ts";
import { BerthError } from "./errors.ts";
import type { Place } from "./flights.ts";
import { isNewer, type Mark } from "./shard/watches.ts";
import { shareOf } from "./share.ts";
import { readFeedFloor } from "./store/read-cluster.ts";
import type { Marks } from "./store/store.ts";

const HOLD_MS = 25_000;
/** A console and a few `--watch` commands of one person are under ten. */
const WATCHES_A_SHARE_MAX = 64;

export class Watchers {
  readonly #context: Context;
  readonly #authenticator: Authenticator;
  readonly #held = new Map<string, number>();

  constructor(context: Context, authenticator: Authenticator) {
    this.#context = context;
    this.#authenticator = authenticator;
  }

  /** True when something is newer than `since`; false when the caller's `marks` still stand after the hold. Throws `gone`, and `unauthenticated`. */
  async wait(
    since: string,
    asked: { readonly marks: Marks; readonly principal: Principal; readonly request: Request; readonly place: Place },
  ): Promise<boolean> {
    const [, rev, observed] = WATCH_PATTERN.exec(since) ?? [];
    const mark = { rev: Number(rev), observed: observed === undefined ? asked.marks.observed : Number(observed) };
    const floor = await readFeedFloor(this.#context.store);
    if (mark.rev < floor)
      throw new BerthError("gone", `changes since rev ${mark.rev} are no longer kept (from ${floor} on they are); load the list again`);
    if (mark.rev > asked.marks.rev || mark.observed > asked.marks.observed)
      throw new BerthError("gone", `rev ${mark.rev} is not of this cluster's history; load the list again`);
    if (isNewer(asked.marks, mark)) return false;
    const { key, name } = shareOf(asked.principal);
    const held = this.#held.get(key) ?? 0;
    if (held >= WATCHES_A_SHARE_MAX)
      throw new BerthError("rate_limited", `${WATCHES_A_SHARE_MAX} watches of ${name} are held; close some`, { retryAfterS: 5 });
    this.#held.set(key, held + 1);
    try {
      const isNews = await asked.place.aside(() => this.#hold(mark, asked.request.signal));
      if (isNews) await this.#authenticator.authenticate(asked.request.headers);
      return isNews;
    } finally {
      const left = (this.#held.get(key) ?? 1) - 1;
      if (left === 0) this.#held.delete(key);
      else this.#held.set(key, left);
    }
  }

  /** Whatever ended the wait, the database says whether anything is newer. */
  async #hold(mark: Mark, signal: AbortSignal): Promise<boolean> {
    const { shard, store } = this.#context;
    await shard.waitForNews(mark, HOLD_MS, signal);
    return !signal.aborted && isNewer(await store.marks(), mark);
  }
}
