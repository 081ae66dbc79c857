/**
 * A broken history made short: faults and requests are left out, more and more of them, as long as the same invariant
 * still breaks (delta debugging, by A. Zeller). What is left is what it takes, or what there was time to find out.
 */
import type { HistoryOptions, Outcome } from "./history.ts";
import type { Players } from "./players.ts";

export interface Shrunk {
  readonly outcome: Outcome;
  readonly tries: number;
  /** Nothing more can be left out by itself. */
  readonly isMinimal: boolean;
}

/** Until nothing more can be left out, or time or tries are used up. */
export async function shrink(
  players: Players,
  broken: Outcome,
  { budgetMs, triesMax }: { readonly budgetMs: number; readonly triesMax: number },
): Promise<Shrunk> {
  const deadlineMs = performance.now() + budgetMs;
  const first = firstOf(broken);
  let best = broken;
  let tries = 0;
  const isOver = () => tries >= triesMax || performance.now() > deadlineMs;

  /** The first of these that breaks the same; as many at once as there are players. */
  const anyOf = async (candidates: readonly (readonly string[])[]): Promise<Outcome | null> => {
    for (let at = 0; at < candidates.length && !isOver(); at += players.count) {
      const some = candidates.slice(at, at + players.count);
      tries += some.length;
      const outcomes = await Promise.all(some.map((only) => players.play({ ...historyOf(broken), only })));
      const found = outcomes.find(({ violations }) => violations.some(({ invariant }) => invariant === first.invariant));
      if (found !== undefined) return found;
    }
    return null;
  };

  // What came after it has nothing to do with it.
  const before = broken.acts.filter(({ atMs }) => atMs <= first.atMs).map(({ id }) => id);
  best = (await anyOf([[], before])) ?? best;
  let parts = 2;
  while (best.acts.length > 0 && !isOver()) {
    const ids = best.acts.map(({ id }) => id);
    const size = Math.ceil(ids.length / parts);
    const without = Array.from({ length: Math.ceil(ids.length / size) }, (_, part) =>
      ids.filter((__, at) => Math.floor(at / size) !== part),
    );
    const found = await anyOf(without);
    if (found !== null) {
      best = found;
      parts = Math.max(2, parts - 1);
    } else if (size > 1) parts *= 2;
    else return { outcome: best, tries, isMinimal: !isOver() };
  }
  return { outcome: best, tries, isMinimal: best.acts.length === 0 };
}

/** How it is played again. */
export const historyOf = ({ seed, mix }: Outcome): HistoryOptions => ({ seed, ...(mix.length === 0 ? {} : { faults: mix }) });

export function firstOf({ violations }: Outcome): Outcome["violations"][number] {
  const [first] = violations;
  if (first === undefined) throw new Error("nothing broke");
  return first;
}
