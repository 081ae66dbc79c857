/** Patching labels: null removes, anything else sets. */
import { BerthError } from "../../errors.ts";

type LabelMap = Readonly<Record<string, string>>;
/** As many as the Labels schema takes. */
const LABELS_MAX = 64;

/** `words` says what changed; empty: nothing. Throws `refused` when there would be too many. */
export function patchLabels(
  before: LabelMap,
  patch: Readonly<Record<string, string | null>>,
): { labels: Record<string, string>; words: string[] } {
  const labels = new Map(Object.entries(before));
  const words: string[] = [];
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) {
      if (labels.delete(key)) words.push(`label ${key} removed`);
    } else if (labels.get(key) !== value) {
      labels.set(key, value);
      words.push(`label ${key}=${value}`);
    }
  }
  if (labels.size > LABELS_MAX)
    throw new BerthError("refused", `that would be ${labels.size} labels; at most ${LABELS_MAX} are kept`, { reason: "labels" });
  return { labels: Object.fromEntries(labels), words };
}
