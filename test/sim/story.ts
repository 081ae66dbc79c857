/**
 * A trace for people: of a history that broke something only what was done to the world, and what is said of the objects
 * that the violation names; long lines cut down to that.
 */
import { STATEMENT_END } from "./database.ts";
import { firstOf } from "./shrink.ts";
import type { Outcome } from "./history.ts";

const LINES_MAX = 120;
const WHAT_MAX = 200;
const WHO_WIDTH = 14;

interface Line {
  readonly at: string;
  readonly who: string;
  readonly what: string;
}

/** Of a history that was played with all of its trace kept. */
export function storyOf(outcome: Outcome): string[] {
  const broken = firstOf(outcome);
  const lines = outcome.trace.map(parse).filter(({ at }) => Number(at) <= broken.atMs);
  const names = namesIn(broken.message, lines);
  const told = lines.flatMap((line) => {
    const what = tell(line, names);
    return what === null ? [] : [{ ...line, what }];
  });
  const cut = Math.max(0, told.length - LINES_MAX);
  // What was done to the world is told also where the rest is left out.
  const shown = told.filter(({ who }, at) => at >= cut || isDone(who));
  return [
    `about ${names.length === 0 ? "the whole cluster" : names.join(" ")}${told.length > shown.length ? `; ${told.length - shown.length} earlier lines are left out` : ""}`,
    ...shown.map(({ at, who, what }) => `${`${(Number(at) / 1000).toFixed(3)} s`.padStart(11)}  ${who.padEnd(WHO_WIDTH)}  ${what}`),
  ];
}

const isDone = (who: string): boolean => who === "mischief" || who === "operator" || who === "checker";

function parse(line: string): Line {
  const afterTime = line.indexOf(" ");
  const afterWho = line.indexOf(": ", afterTime);
  return { at: line.slice(0, afterTime), who: line.slice(afterTime + 1, afterWho), what: line.slice(afterWho + 2) };
}

/** Ids, machines, apps and containers of a sentence, and what the trace calls them besides. */
function namesIn(message: string, lines: readonly Line[]): string[] {
  const names = new Set(
    message.match(/\b(?:[a-z]{1,2}_[a-z2-7]{16}|m\d+(?:-clone\d+)?|(?:app|again)-[a-z0-9]+|berth-[a-z0-9-]{8,}|[0-9a-f]{12,64})\b/g),
  );
  for (const name of names) {
    // A container has the beginning of its replica's id in its name, and an id of its own.
    if (name.startsWith("r_")) names.add(`-${name.slice(2, 10)}`);
    if (!name.startsWith("r_")) continue;
    const container = new RegExp(`"replica":"${name}"[^{}]*?"containerId":"([0-9a-f]{12})`);
    for (const { what } of lines) {
      const id = container.exec(what)?.[1];
      if (id !== undefined) names.add(id);
    }
  }
  return [...names];
}

/** Null: not of these objects. */
function tell({ who, what }: Line, names: readonly string[]): string | null {
  if (isDone(who)) return short(what);
  const isNamed = (text: string) => names.some((name) => text.includes(name));
  // Whoever starts and ends sets the stage for all.
  if (/^(?:is killed|starts|listening|boots|loses its power|ended|failed)/.test(what)) return short(what);
  if (who === "db") return tellBatch(what, isNamed);
  const open = /^([^{[]*)([{[].*)$/s.exec(what.replaceAll(/"eyJ[\w-]+\.([\w-]+)\.[\w-]+"/g, (_, payload: string) => payloadOf(payload)));
  if (open === null) return isNamed(what) ? short(what) : null;
  const [, before = "", json = ""] = open;
  if (!isNamed(json)) return isNamed(before) ? short(what) : null;
  return short(`${before}${pruned(json, isNamed)}`);
}

/** What a signed object says; what is no JSON stays closed. */
function payloadOf(payload: string): string {
  const text = Buffer.from(payload, "base64url").toString();
  return text.startsWith("{") ? text : '"…"';
}

/** Of a batch the rows of these objects: bulk statements take theirs as one JSON text. */
function tellBatch(what: string, isNamed: (text: string) => boolean): string | null {
  if (!isNamed(what)) return null;
  const parts = what.split(STATEMENT_END).flatMap((statement) => {
    const verb = /^(?:wrote )?\s*(insert into|update|delete from)\s+"?(\w+)/i.exec(statement);
    if (verb === null || !isNamed(statement)) return [];
    const columns = /^[^(]*\(([^)]*)\)/.exec(statement)?.[1]?.replaceAll(/["\s]/g, "").split(",") ?? [];
    const args = statement.slice(statement.lastIndexOf(" [") + 1);
    const rows = rowsIn(args).filter((row) => isNamed(JSON.stringify(row)));
    return rows.map((row) => `${verb[1]} ${verb[2]} ${brief(verb[1] === "insert into" ? named(columns, row) : row)}`);
  });
  return parts.length === 0 ? null : short(parts.join("; "));
}

function rowsIn(args: string): readonly unknown[] {
  try {
    const bound = JSON.parse(args) as unknown[];
    return bound.flatMap((value) => {
      const inner: unknown = typeof value === "string" && value.startsWith("[") ? JSON.parse(value) : null;
      return Array.isArray(inner) ? (inner as unknown[]) : [bound];
    });
  } catch {
    return [];
  }
}

const named = (columns: readonly string[], row: unknown): unknown =>
  Array.isArray(row) && columns.length > 0 ? Object.fromEntries(row.map((value: unknown, at) => [columns[at] ?? at, value])) : row;

/** Without what is empty; of a list only what is named, when some of it is. */
function pruned(json: string, isNamed: (text: string) => boolean): string {
  try {
    return brief(prune(JSON.parse(json), isNamed));
  } catch {
    return json;
  }
}

function prune(value: unknown, isNamed: (text: string) => boolean): unknown {
  if (Array.isArray(value)) {
    const some = value.filter((item) => isNamed(JSON.stringify(item)));
    return (some.length > 0 ? some : value.slice(0, 2)).map((item) => prune(item, isNamed));
  }
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, prune(item, isNamed)]));
}

/** As JSON without quotes where nobody misses them. */
function brief(value: unknown): string {
  const isEmpty = (item: unknown) =>
    item === null || item === "" || item === false || (typeof item === "object" && Object.keys(item).length === 0);
  return JSON.stringify(value, (_, item: unknown) =>
    item !== null && typeof item === "object" && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).filter(([, inner]) => !isEmpty(inner)))
      : item,
  ).replaceAll(/"([\w.:/@-]*)"/g, "$1");
}

const short = (text: string): string => {
  const line = text.replaceAll(/\s+/g, " ");
  return line.length <= WHAT_MAX ? line : `${line.slice(0, WHAT_MAX - 1)}…`;
};
