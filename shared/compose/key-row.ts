/** What berth does with one key of the Compose specification: the row type of the tables in `keys-*.ts`. */

export const KEY_STATUSES = ["applied", "approximated", "refused"] as const;
export type KeyStatus = (typeof KEY_STATUSES)[number];

/**
 * Forms a value may have, joined by `|`. `number` and `boolean` also take strings that say one, because interpolation
 * makes strings; `strings` is a list of strings, `scalars` one of strings and numbers, `keyed` a mapping of plain
 * values or a list of `KEY=value`.
 */
export const VALUE_FORMS = ["string", "number", "boolean", "null", "strings", "scalars", "keyed", "list", "mapping"] as const;
export type ValueForm = (typeof VALUE_FORMS)[number];

export type KeyRow = {
  /** Generic path: `*` for a name that users choose, `[]` for the items of a list. */
  readonly path: string;
  readonly status: KeyStatus;
  readonly takes: readonly ValueForm[];
  /** What happens; for `refused`, why. A sentence. */
  readonly note: string;
  /** For `refused`: what to do instead. */
  readonly mend: string;
  /** For `refused`: values that ask for nothing and so are let through. */
  readonly harmless: readonly (string | boolean | number)[];
  /** The keys below are the user's own words. */
  readonly isOpen: boolean;
};

type Options = { harmless?: readonly (string | boolean | number)[]; open?: boolean };

const forms = (takes: string): ValueForm[] =>
  takes.split("|").map((form) => {
    const known = VALUE_FORMS.find((candidate) => candidate === form);
    if (known === undefined) throw new Error(`no such form: ${form}`);
    return known;
  });

const row =
  (status: KeyStatus) =>
  (path: string, takes: string, note: string, options: Options & { mend?: string } = {}): KeyRow => ({
    path,
    status,
    takes: forms(takes),
    note,
    mend: options.mend ?? "",
    harmless: options.harmless ?? [],
    isOpen: options.open ?? takes.includes("keyed"),
  });

export const applied = row("applied");
export const approximated = row("approximated");
export const refused = (path: string, takes: string, texts: { why: string; mend: string }, options: Options = {}): KeyRow =>
  row("refused")(path, takes, texts.why, { ...options, mend: texts.mend });

/** The same words for several keys of one parent. */
export const each = (parent: string, keys: Readonly<Record<string, string>>, make: (path: string, takes: string) => KeyRow): KeyRow[] =>
  Object.entries(keys).map(([key, takes]) => make(`${parent}.${key}`, takes));
