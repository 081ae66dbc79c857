/**
 * Text from a machine, made storable. Log lines and engine messages hold anything; a NUL would cut the stored text and a
 * lone surrogate would fail to be stored, and refusing the report would silence the node. So they are replaced.
 */

/** The same value with NULs as U+FFFD and lone surrogates repaired; the same object when there is nothing to repair. */
export function cleanText<Value>(value: Value): Value {
  return clean(value) as Value;
}

function clean(value: unknown): unknown {
  if (typeof value === "string")
    return value.includes("\0") || !value.isWellFormed() ? value.replaceAll("\0", "\uFFFD").toWellFormed() : value;
  if (Array.isArray(value)) {
    const cleaned = value.map(clean);
    return cleaned.some((item, i) => item !== value[i]) ? cleaned : value;
  }
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).map(([key, member]) => [clean(key), clean(member)] as const);
  const isSame = entries.every(([key, member]) => (value as Record<string, unknown>)[key as string] === member);
  return isSame ? value : Object.fromEntries(entries);
}
