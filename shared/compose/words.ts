/**
 * A command line as one string → its words, as a POSIX shell splits them (and as Compose does): quotes and backslashes
 * count, nothing is expanded and no shell runs.
 */

/** The words, or undefined where a quote is not closed or a backslash ends the text. */
export function splitWords(text: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] as string;
    if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === "'") {
      const end = text.indexOf("'", at + 1);
      if (end < 0) return undefined;
      word = (word ?? "") + text.slice(at + 1, end);
      at = end;
    } else if (character === '"') {
      const quoted = doubleQuoted(text, at + 1);
      if (quoted === undefined) return undefined;
      word = (word ?? "") + quoted.text;
      at = quoted.end;
    } else if (character === "\\") {
      const next = text[at + 1];
      if (next === undefined) return undefined;
      word = (word ?? "") + (next === "\n" ? "" : next);
      at += 1;
    } else word = (word ?? "") + character;
  }
  if (word !== undefined) words.push(word);
  return words;
}

function doubleQuoted(text: string, from: number): { text: string; end: number } | undefined {
  const parts: string[] = [];
  for (let at = from; at < text.length; at += 1) {
    const character = text[at] as string;
    if (character === '"') return { text: parts.join(""), end: at };
    const next = text[at + 1];
    if (character === "\\" && next !== undefined && '"\\$`\n'.includes(next)) {
      if (next !== "\n") parts.push(next);
      at += 1;
    } else parts.push(character);
  }
  return undefined;
}
