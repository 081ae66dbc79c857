/** Compose byte values (`512m`, `2gb`, `1.5G`, 1048576) → bytes. 1024-based in every spelling, as the engine's are. */
import type { ScalarValue } from "./tree.ts";

const UNIT: Readonly<Record<string, number>> = { "": 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4, p: 1024 ** 5 };

/** Whole bytes, rounded down; undefined where the value is no size. */
export function parseBytes(value: ScalarValue): number | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : undefined;
  if (typeof value !== "string" || value.length > 40) return undefined;
  const match = /^(-?[0-9]+(?:\.[0-9]+)?) ?([bkmgtp]?)(?:i?b)?$/i.exec(value);
  if (match === null) return undefined;
  const bytes = Math.floor(Number(match[1]) * (UNIT[(match[2] ?? "").toLowerCase()] ?? Number.NaN));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
