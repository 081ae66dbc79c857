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

/** One line: every control character becomes `\xNN`. */
export const visible = (text: string): string => text.replace(UNSAFE, escaped);
