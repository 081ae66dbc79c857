/** Times and sizes as people read them. */
const UNITS = [
  { ms: 86_400_000, letter: "d" },
  { ms: 3_600_000, letter: "h" },
  { ms: 60_000, letter: "m" },
  { ms: 1_000, letter: "s" },
] as const;

/** "8s", "4m", "3m20s" under ten minutes, "2h", "5d": at most two units, and two only where the second still matters. */
export function duration(ms: number): string {
  if (ms < 1_000) return "0s";
  const at = UNITS.findIndex((unit) => ms >= unit.ms);
  const unit = UNITS[at];
  if (unit === undefined) return "0s";
  const count = Math.floor(ms / unit.ms);
  const next = UNITS[at + 1];
  if (count >= 10 || next === undefined) return `${count}${unit.letter}`;
  const rest = Math.floor((ms - count * unit.ms) / next.ms);
  return rest === 0 ? `${count}${unit.letter}` : `${count}${unit.letter}${rest}${next.letter}`;
}

/** Age of an ISO time as of `nowMs` (the server's clock); "-" for null. A clock a little behind gives 0s, never a minus. */
export const age = (time: string | null, nowMs: number): string => (time === null ? "-" : duration(Math.max(0, nowMs - Date.parse(time))));

/** "0.4 s", "12.3 s", "2m5s": how long a step took. */
export const seconds = (ms: number): string => (ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms));

/** Decimal units, as registries and disks count. */
export function bytes(count: number): string {
  for (const [unit, size] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ] as const)
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  return `${count} B`;
}

/** "30m", "24h", "7d" → milliseconds; null when it is none. */
export function parseDuration(text: string): number | null {
  const match = /^([0-9]{1,9})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return null;
  const unit = match[2] === "ms" ? 1 : (UNITS.find(({ letter }) => letter === match[2])?.ms ?? 1);
  return Number(match[1]) * unit;
}

/** `████░░░░ 31.2/120.0 MB` over `width` columns of bar; an unknown total shows the bytes alone. */
export function bar(current: number, total: number, width: number): string {
  if (total <= 0) return bytes(current);
  const filled = Math.min(width, Math.round((Math.min(current, total) / total) * width));
  return `${"█".repeat(filled)}${"░".repeat(width - filled)} ${bytes(current)} of ${bytes(total)}`;
}
