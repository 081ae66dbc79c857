/** What differs from run to run in what berth prints, by pattern, on both sides alike: words, columns and order do not. */

const RULES: readonly (readonly [RegExp, string])[] = [
  // Secrets and keys.
  [/berth_join_[A-Za-z0-9_…-]+/g, "<join token>"],
  [/sha256\/\/[A-Za-z0-9+/…]+=*/g, "<pin>"],
  [/--root [A-Za-z0-9_…-]+/g, "--root <root>"],
  // Which steps of a start took long enough to be shown, with their times.
  [/(?:(?:waiting for the node|preparing|pulling|starting|checking health) \d+(?:\.\d+)? s {2})+/g, ""],
  // Ids: a kind's letter or two, and eight characters or sixteen.
  [/\b(?:app|jt|[dnrt])_[a-z2-7]{8,16}\b/g, "<id>"],
  // Times and ages; "0s" to "59s", "3m20s", "0.4 s".
  [/\b\d+\.\d s\b/g, "<time>"],
  [/(?<![\w.-])(?:\d+[dhms]){1,2}(?![\w-])/g, "<age>"],
  [/\b\d\d:\d\d:\d\d\b/g, "<clock>"],
  // The counter stands where the commits of the planner have brought it.
  [/\brevision \d+/g, "revision <rev>"],
  // What the machine is, and how loaded.
  [/\bload 0(?:\.\d+)?/g, "load <part>"],
  [/\b\d+\.\d\/\d+(?:\.\d)?/g, "<used>/<there>"],
  [/\b20\.\d\d\.\d+(?:\+dfsg1)?|\b2[0-9]\.\d\.\d\b/g, "<engine>"],
  // Addresses other than this machine's own, and ports that the engine chose.
  [/(?<![\d.])(?!127\.0\.0\.1|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])/g, "<address>"],
  [/:(?:3[2-9]|[45]\d|6[0-5])\d{3}\b/g, ":<port>"],
  [/\bpid \d+/g, "pid <pid>"],
  // Which of two equally good machines it is: ties are broken by ids.
  [/\b(?:office|till1)\b/g, "<machine>"],
  // Columns are as wide as what stands in them.
  [/ {2,}/g, "  "],
  [/[─-]{4,}/g, "----"],
];

export const normal = (line: string): string => RULES.reduce((text, [pattern, word]) => text.replace(pattern, word), line).trimEnd();
