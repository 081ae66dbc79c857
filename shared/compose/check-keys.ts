/**
 * Holds a merged project against the key table: unknown keys, wrong forms and refused keys become errors, every other
 * key a report line. After it, the converters may take the form of a value for granted.
 */
import { childPath, itemPath } from "./key-path.ts";
import type { KeyRow, ValueForm } from "./key-row.ts";
import { keysBelow, rowOf } from "./keys.ts";
import { parseBoolean, parseNumber } from "./plain.ts";
import type { Problems } from "./problem.ts";
import type { Report } from "./report.ts";
import { type Entry, type Mapping, scalarText, type Tree } from "./tree.ts";

export type KeyCheck = {
  problems: Problems;
  report: Report;
  allowBuild: boolean;
  /** Services that profiles leave out are checked for form, but what they use is neither refused nor reported. */
  isActive: (service: string) => boolean;
};

type Place = { generic: string; actual: string; active: boolean };

export function checkKeys(project: Mapping, check: KeyCheck): void {
  checkMapping(project, { generic: "", actual: "", active: true }, check);
}

function checkMapping(tree: Mapping, parent: Place, check: KeyCheck): void {
  for (const [key, entry] of tree.entries) {
    const generic = childPath(parent.generic, key);
    const place: Place = {
      generic,
      actual: parent.actual === "" ? key : `${parent.actual}.${key}`,
      active: parent.active && (parent.generic !== "services" || check.isActive(key)),
    };
    const row = rowOf(generic);
    if (key === "__proto__") reservedKey(entry, place, check);
    else if (row !== undefined) checkValue(row, entry, { place, check, key });
    else if (key.startsWith("x-")) {
      if (key !== "x-berth" && place.active)
        check.report.say("applied", entry.at, {
          path: place.actual,
          note: "Kept for anchors and aliases; otherwise ignored, as the specification says.",
        });
    } else unknownKey(key, entry, { parent, place, check });
  }
}

function checkValue(row: KeyRow, entry: Entry, at: { place: Place; check: KeyCheck; key: string }): void {
  const { place, check, key } = at;
  const { value } = entry;
  if (!row.takes.some((form) => hasForm(value, form))) {
    check.problems.add({
      code: "wrong_type",
      at: value.at,
      path: place.actual,
      message: `${place.actual} takes ${wordsFor(row.takes)}, not ${kindOf(value)}`,
      mend: mendFor(row, value),
    });
    return;
  }
  const isBuild = row.path === "services.*.build";
  // build.ts refuses it, naming the service's own image and context.
  if (isBuild && !check.allowBuild) return;
  if (row.status === "refused" && !isBuild && !isDefaultNetwork(row, key)) {
    if (place.active && !isHarmless(row, value)) {
      check.report.say("refused", entry.at, { path: place.actual, note: row.note });
      check.problems.add({
        code: "refused",
        at: entry.at,
        path: place.actual,
        message: `${place.actual} is refused: ${row.note}`,
        mend: row.mend,
      });
    }
    return;
  }
  if (place.active && isTold(row, value))
    check.report.say(row.status === "refused" ? "applied" : row.status, entry.at, {
      path: place.actual,
      note: isBuild ? "Built and pushed before deploying." : row.note,
    });
  const reserved = value.kind === "mapping" && row.isOpen ? value.entries.get("__proto__") : undefined;
  if (reserved !== undefined) reservedKey(reserved, { ...place, actual: `${place.actual}.__proto__` }, check);
  if (value.kind === "mapping" && !row.isOpen) checkMapping(value, place, check);
  if (value.kind === "sequence") checkItems(value.items, place, check);
}

function checkItems(items: readonly Tree[], place: Place, check: KeyCheck): void {
  const generic = itemPath(place.generic);
  const row = rowOf(generic);
  for (const [index, item] of items.entries()) {
    const actual = `${place.actual}[${index}]`;
    if (row !== undefined && !row.takes.some((form) => hasForm(item, form))) {
      check.problems.add({
        code: "wrong_type",
        at: item.at,
        path: actual,
        message: `${actual} takes ${wordsFor(row.takes)}, not ${kindOf(item)}`,
        mend: mendFor(row, item),
      });
    } else if (item.kind === "mapping") checkMapping(item, { generic, actual, active: place.active }, check);
  }
}

/** Every app has the network default, so naming it is no custom network. */
const isDefaultNetwork = (row: KeyRow, key: string): boolean => row.path === "networks.*" && key === "default";

function isHarmless(row: KeyRow, value: Tree): boolean {
  if (value.kind === "sequence") return value.items.length === 0;
  if (value.kind === "mapping") return value.entries.size === 0 && row.path !== "networks.*";
  if (value.value === null) return row.path !== "networks.*";
  const flag = parseBoolean(value.value);
  return row.harmless.some((harmless) => harmless === value.value || (typeof harmless === "boolean" && harmless === flag));
}

/** A mapping with rows below it is told of by those rows. */
const isTold = (row: KeyRow, value: Tree): boolean => value.kind !== "mapping" || row.isOpen || value.entries.size === 0;

function hasForm(value: Tree, form: ValueForm): boolean {
  switch (form) {
    case "null":
      return value.kind === "scalar" && value.value === null;
    case "string":
      return value.kind === "scalar" && typeof value.value === "string";
    case "number":
      return value.kind === "scalar" && value.value !== null && typeof value.value !== "boolean" && parseNumber(value.value) !== undefined;
    case "boolean":
      return value.kind === "scalar" && value.value !== null && parseBoolean(value.value) !== undefined;
    case "strings":
      return value.kind === "sequence" && value.items.every((item) => item.kind === "scalar" && typeof item.value === "string");
    case "scalars":
      return (
        value.kind === "sequence" &&
        value.items.every((item) => item.kind === "scalar" && (typeof item.value === "string" || typeof item.value === "number"))
      );
    case "keyed":
      return value.kind === "mapping"
        ? [...value.entries.values()].every((entry) => entry.value.kind === "scalar")
        : value.kind === "sequence" && value.items.every((item) => item.kind === "scalar" && typeof item.value === "string");
    case "list":
      return value.kind === "sequence";
    case "mapping":
      return value.kind === "mapping";
  }
}

const FORM_WORDS: Readonly<Record<ValueForm, string>> = {
  null: "nothing",
  string: "a string",
  number: "a number",
  boolean: "true or false",
  strings: "a list of strings",
  scalars: "a list of strings and numbers",
  keyed: "a mapping of plain values or a list of KEY=value",
  list: "a list",
  mapping: "a mapping",
};

const wordsFor = (takes: readonly ValueForm[]): string => takes.map((form) => FORM_WORDS[form]).join(" or ");

function kindOf(value: Tree): string {
  if (value.kind === "mapping") return "a mapping";
  if (value.kind === "sequence")
    return value.items.some((item) => item.kind !== "scalar") ? "a list with mappings or lists in it" : "a list with other values in it";
  if (value.value === null) return "nothing";
  return typeof value.value === "string" ? `the string "${value.value.slice(0, 60)}"` : `the ${typeof value.value} ${scalarText(value)}`;
}

function mendFor(row: KeyRow, value: Tree): string {
  const wantsText = row.takes.includes("string") || row.takes.includes("strings");
  const plain =
    value.kind === "scalar"
      ? value
      : value.kind === "sequence"
        ? value.items.find((item) => item.kind === "scalar" && typeof item.value !== "string")
        : undefined;
  if (wantsText && plain?.kind === "scalar" && plain.value !== null && typeof plain.value !== "string")
    return `put quotes around it: "${scalarText(plain)}"`;
  if (value.kind === "scalar" && value.value === null) return "give a value or remove the key";
  return `write ${wordsFor(row.takes)}`;
}

/** Plain objects cannot carry this key, and dropping it in silence would lose what the user wrote. */
function reservedKey(entry: Entry, place: Place, check: KeyCheck): void {
  check.problems.add({
    code: "wrong_value",
    at: entry.at,
    path: place.actual,
    message: `${place.actual}: the name __proto__ is reserved`,
    mend: "choose another name",
  });
}

function unknownKey(key: string, entry: Entry, at: { parent: Place; place: Place; check: KeyCheck }): void {
  const near = nearest(key, keysBelow(at.parent.generic));
  const where = at.parent.actual === "" ? "a Compose file" : at.parent.actual;
  at.check.problems.add({
    code: "unknown_key",
    at: entry.at,
    path: at.place.actual,
    message: `${where} has no key "${key}"`,
    mend: near === undefined ? "remove it; keys of your own begin with x-" : `did you mean ${near}?`,
  });
}

/** The known key at most two edits away. Keys longer than 40 are no typing mistakes of ours. */
function nearest(key: string, known: readonly string[]): string | undefined {
  if (key.length > 40) return undefined;
  const scored = known.map((candidate) => ({ candidate, edits: editsBetween(key, candidate) })).toSorted((a, b) => a.edits - b.edits);
  const best = scored[0];
  return best !== undefined && best.edits <= 2 ? best.candidate : undefined;
}

function editsBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
