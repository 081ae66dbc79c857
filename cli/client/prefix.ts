/** Names and ids as people type them: the whole name, the whole id, or as much of the id as tells it from the others. */
import { CliError } from "../exit.ts";
import { visible } from "../render/visible.ts";

export interface Identified {
  readonly id: string;
  readonly name?: string;
}

const matchesId = (id: string, typed: string): boolean => id.startsWith(typed) || id.slice(id.indexOf("_") + 1).startsWith(typed);

/** At most this many candidates are named: more do not help to choose. */
const CANDIDATES_MAX = 5;

/** The one item that `typed` means. An exact name wins over any prefix. */
export function resolveOne<Item extends Identified>(items: readonly Item[], typed: string, words: { noun: string; list: string }): Item {
  const exact = items.find((item) => item.id === typed) ?? items.find((item) => item.name === typed);
  if (exact !== undefined) return exact;
  const candidates = typed === "" ? [] : items.filter((item) => matchesId(item.id, typed));
  const [only, ...others] = candidates;
  if (only === undefined) throw new CliError(`there is no ${words.noun} "${visible(typed)}"`, { next: words.list });
  if (others.length === 0) return only;
  const named = candidates
    .slice(0, CANDIDATES_MAX)
    .map((item) => (item.name === undefined ? item.id : `${item.id} (${visible(item.name)})`));
  const more = candidates.length > CANDIDATES_MAX ? `and ${candidates.length - CANDIDATES_MAX} more` : "";
  throw new CliError(`"${visible(typed)}" begins ${candidates.length} ids`, {
    details: [...named, more].filter((text) => text !== ""),
    next: words.list,
  });
}

/** Shown in tables: prefix and 8 characters tell 100,000 ids apart but for one chance in two hundred; any longer prefix works too. */
const SHOWN = 8;
/** As `shared/model/name.ts` has them. */
const ID = /^(?:app|d|jt|n|r|t)_[a-z2-7]{16}$/;
/** Of a name, which may hold an underscore too, nothing is left out. */
export const shortIdOrName = (text: string): string => (ID.test(text) ? shortId(text) : text);
export const shortId = (id: string): string => id.slice(0, id.indexOf("_") + 1 + SHOWN);
