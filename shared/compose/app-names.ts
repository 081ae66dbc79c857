/**
 * Names inside an app. Compose lets volumes and configs be called almost anything; berth's are lower-case, since they
 * become part of paths and labels. Each kind keeps its own book, in which no two keys share a name.
 */
import { RESERVED_NAMES } from "../model/name.ts";
import { NAME_PATTERN } from "../model/name-pattern.ts";

const NAME_CHARS_MAX = 63;

/** The nearest valid name, or undefined where nothing of the text can stand in one. */
export function nameFrom(text: string): string | undefined {
  const name = text
    .toLowerCase()
    .replace(/[^a-z0-9_.-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, NAME_CHARS_MAX)
    .replace(/[^a-z0-9]+$/, "");
  return NAME_PATTERN.test(name) && !RESERVED_NAMES.has(name) ? name : undefined;
}

export class NameBook {
  readonly #keys = new Map<string, string>();
  readonly #names = new Map<string, string>();

  nameOf(key: string): string | undefined {
    return this.#names.get(key);
  }

  /** Gives `key` the name; false where another key has it. */
  claim(key: string, name: string): boolean {
    const holder = this.#keys.get(name);
    if (holder !== undefined && holder !== key) return false;
    this.#keys.set(name, key);
    this.#names.set(key, name);
    return true;
  }

  /** A name near `wish` that nobody has: numbered where it must be. */
  claimNear(key: string, wish: string): string {
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    const base = (nameFrom(wish) ?? "file").slice(0, NAME_CHARS_MAX - 6);
    for (let count = 1; ; count += 1) {
      const name = nameFrom(count === 1 ? base : `${base}-${count}`) ?? `file-${count}`;
      if (this.claim(key, name)) return name;
    }
  }
}
