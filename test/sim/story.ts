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
  const beginsMs = outcome.acts[0]?.atMs ?? 0;
  const told = lines.flatMap((line) => {
    const what = line.who === "operator" && Number(line.at) < beginsMs ? null : tell(line, names);
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

/** What a sentence can name, the most particular first: where it names a replica, its app and machine are only where that is. */
const NAMES = [
  /\br_[a-z2-7]{16}\b/g,
  /\b(?:berth-[a-z0-9-]{8,}|[0-9a-f]{12,64})\b/g,
  /\b(?:dep|d|app|n)_[a-z2-7]{16}\b/g,
  /\b(?:app|again)-[a-z0-9]+\b/g,
  /\bm\d+\b/g,
];

/** Of what the sentence is about, and what the trace calls it besides. */
function namesIn(message: string, lines: readonly Line[]): string[] {
  const names = NAMES.map((pattern) => message.match(pattern) ?? []).find((found) => found.length > 0) ?? [];
  return [...new Set(names.flatMap((name) => (name.startsWith("r_") ? [name, ...containersOf(name, lines)] : [name])))];
}

/** A container has the beginning of its replica's id in its name, and an id of its own. */
function containersOf(replica: string, lines: readonly Line[]): string[] {
  const reported = new RegExp(`"replica":"${replica}"[^{}]*?"containerId":"([0-9a-f]{12})`);
  const ids = lines.flatMap(({ what }) => reported.exec(what)?.[1] ?? []);
  return [`-${replica.slice(2, 10)}`, ...ids];
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

/** What is written for whoever asks again, and says nothing of what is so. */
const ASIDE: ReadonlySet<string | undefined> = new Set(["ops", "explanations", "tombstones"]);

/** Of a batch the rows of these objects: bulk statements take theirs as one JSON text. */
function tellBatch(what: string, isNamed: (text: string) => boolean): string | null {
  if (!isNamed(what)) return null;
  const parts = what.split(STATEMENT_END).flatMap((statement) => {
    const [, verb, table] = /^(?:wrote )?\s*(insert into|update|delete from)\s+"?(\w+)/i.exec(statement) ?? [];
    if (ASIDE.has(table) || (table === "events" && verb !== "insert into")) return [];
    const rows = rowsIn(statement.slice(statement.lastIndexOf(" [") + 1)).filter((row) => isNamed(JSON.stringify(row)));
    return rows.map((row) => `${verb} ${table} ${brief(verb === "insert into" ? named(statement, row) : row)}`);
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

/** A row of `insert into t (a, b) select value->>0, … from json_each(?)` by its columns; others stay as they are. */
function named(statement: string, row: unknown): unknown {
  const [, columns, values] = /\(([^)]*)\)\s*select (.*?) from json_each/s.exec(statement) ?? [];
  if (columns === undefined || values === undefined || !Array.isArray(row)) return row;
  const places = values.split(/,(?![^(]*\))/).map((value) => /^\s*value->>(\d+)/.exec(value)?.[1]);
  const names = columns.replaceAll(/["\s]/g, "").split(",");
  return Object.fromEntries(names.flatMap((name, at) => (places[at] === undefined ? [] : [[name, row[Number(places[at])] as unknown]])));
}

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
  const line = text.replaceAll(/\s+/g, " ").replaceAll(/\b([0-9a-f]{12})[0-9a-f]+\b/g, "$1…");
  return line.length <= WHAT_MAX ? line : `${line.slice(0, WHAT_MAX - 1)}…`;
};
