/** Compose durations (`1m30s`, `500ms`, `2h`) ↔ milliseconds. Units as the specification: us, ms, s, m, h; and d. */

const UNIT_MS: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds, rounded; undefined where the text is no duration. */
export function parseDurationMs(text: string): number | undefined {
  if (text === "0") return 0;
  if (text.length > 64) return undefined;
  const parts = [...text.matchAll(/([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text) return undefined;
  const sum = parts.reduce((total, [, amount = "0", unit = ""]) => total + Number(amount) * (UNIT_MS[unit] ?? Number.NaN), 0);
  return Number.isFinite(sum) ? Math.round(sum) : undefined;
}
