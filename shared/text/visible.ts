/**
 * Text that came from a server or a container, made harmless for a terminal. Whoever can name a node or write a log line
 * could otherwise move the cursor, rewrite what was printed before, or answer for the person at the keyboard.
 */

/** C0 and C1 controls, DEL, line and paragraph separators, and the marks that reorder text. */
const UNSAFE = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

const escaped = (character: string): string => {
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
};

/** What JSON.stringify leaves as it is. */
const UNSAFE_QUOTED = /[\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** The same for text in which every string that holds such a character is quoted, as in JSON: it still says the same. */
export const visibleQuoted = (text: string): string =>
  text.replace(UNSAFE_QUOTED, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** More than lines of text: printed plainly it would do something else than show itself. */
export const isUnsafe = (text: string): boolean => text.replace(/[\n\t]/g, "").search(UNSAFE) !== -1;

/** One line: every control character becomes `\xNN`. */
export const visible = (text: string): string => text.replace(UNSAFE, escaped);
