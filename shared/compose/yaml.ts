/**
 * YAML text → positioned trees. The yaml package only parses; typing scalars, merge keys, aliases, duplicate keys and
 * every limit are decided here, because Compose's rules (go-yaml's) are neither YAML 1.1's nor 1.2's, and because a
 * 1 kB file of nested aliases must not become 1 GB of values.
 */
import { type Alias, Composer, isAlias, isMap, isPair, isScalar, isSeq, LineCounter, Parser, type ParsedNode, type CST } from "yaml";
import { printable, type Problems } from "./problem.ts";
import { type Entry, type Mark, type MergeTag, scalar, type Scalar, type ScalarValue, type Tree } from "./tree.ts";

/** The API's own limit on a body; the largest public Compose files are under 100 kB. */
export const FILE_CHARS_MAX = 1_000_000;
/** The schema nests 9 deep; `x-` fragments have room. The parser recurses, so this also bounds its stack. */
export const DEPTH_MAX = 32;
/** Values in one file once aliases are expanded: 500 services of 100 values each, twice over. */
export const VALUES_MAX = 100_000;

const TAG_PREFIX = "tag:yaml.org,2002:";

export type YamlSource = { file: string; base: string; text: string };

/** Every document of the text as a tree; an empty document is left out. Problems are added, never thrown. */
export function parseYaml(source: YamlSource, problems: Problems): Tree[] {
  const { file, base } = source;
  const start: Mark = { file, base, line: 1, column: 1 };
  const text = source.text.startsWith("\uFEFF") ? source.text.slice(1) : source.text;
  if (text.length > FILE_CHARS_MAX) {
    problems.add({
      code: "yaml_limit",
      at: start,
      path: "",
      message: `the file has ${text.length} characters; at most ${FILE_CHARS_MAX} are read`,
      mend: "split the project into several files with include:",
    });
    return [];
  }
  const nul = text.search(/\0/);
  if (nul >= 0 || !text.isWellFormed()) {
    const line = nul >= 0 ? text.slice(0, nul).split("\n").length : 1;
    problems.add({
      code: "yaml_syntax",
      at: { ...start, line },
      path: "",
      message: "the file is not UTF-8 text",
      mend: "save it as UTF-8",
    });
    return [];
  }
  const lines = new LineCounter();
  const markAt = (offset: number): Mark => {
    const { line, col } = lines.linePos(offset);
    return { file, base, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const tokens = [...new Parser(lines.addNewLine).parse(text)];
  const tooDeep = firstTooDeep(tokens);
  if (tooDeep !== undefined) {
    problems.add({
      code: "yaml_limit",
      at: markAt(tooDeep),
      path: "",
      message: `values are nested more than ${DEPTH_MAX} deep`,
      mend: "flatten the file",
    });
    return [];
  }
  const trees: Tree[] = [];
  // uniqueKeys off: the package compares every pair of keys, which is minutes for 100,000 of them.
  const composer = new Composer({ schema: "failsafe", uniqueKeys: false, prettyErrors: false, lineCounter: lines, logLevel: "silent" });
  let values = 0;
  for (const document of composer.compose(tokens)) {
    for (const error of document.errors) {
      problems.add({
        code: "yaml_syntax",
        at: markAt(error.pos[0]),
        path: "",
        message: `not valid YAML: ${sentence(error.message)}`,
        mend: yamlMend(error.message, text),
      });
    }
    if (document.errors.length > 0 || document.contents === null) continue;
    const walk = new Walk({ markAt, problems, values });
    const tree = walk.tree(document.contents as ParsedNode, 0);
    values = walk.values;
    if (tree !== undefined && !(tree.kind === "scalar" && tree.value === null)) trees.push(tree);
  }
  return trees;
}

const sentence = (message: string): string => printable(message.split("\n")[0] ?? message).replace(/^./, (letter) => letter.toLowerCase());

function yamlMend(message: string, text: string): string {
  if (/tab/i.test(message) || /^\t/m.test(text)) return "indent with spaces; YAML does not allow tabs there";
  if (/alias/i.test(message)) return "define the anchor (&name) before using it (*name), in the same file";
  return "check indentation, quotes and colons at this place";
}

/** Offset of the first token nested too deep. A loop, not recursion: the input decides how deep it goes. */
function firstTooDeep(tokens: readonly CST.Token[]): number | undefined {
  const pending: { token: CST.Token; depth: number }[] = tokens.map((token) => ({ token, depth: 0 }));
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { token, depth } = next;
    if (depth > DEPTH_MAX) return "offset" in token ? token.offset : 0;
    if (token.type === "document" && token.value !== undefined) pending.push({ token: token.value, depth });
    if (!("items" in token)) continue;
    for (const item of token.items) {
      if (item.key) pending.push({ token: item.key, depth: depth + 1 });
      if (item.value) pending.push({ token: item.value, depth: depth + 1 });
    }
  }
  return undefined;
}

class Walk {
  /** The package's own look-up walks the whole document for every alias; this map makes 50,000 of them cheap. */
  readonly #anchors = new Map<string, ParsedNode>();
  readonly #anchored = new Set<ParsedNode>();
  readonly #markAt: (offset: number) => Mark;
  readonly #problems: Problems;
  /** Anchors being expanded now: an alias to one of these is a loop. */
  readonly #open = new Set<unknown>();
  #stopped = false;
  values: number;

  constructor(at: { markAt: (offset: number) => Mark; problems: Problems; values: number }) {
    this.#markAt = at.markAt;
    this.#problems = at.problems;
    this.values = at.values;
  }

  tree(node: ParsedNode | null, depth: number): Tree | undefined {
    if (this.#stopped) return undefined;
    const at = this.#markAt(node?.range?.[0] ?? 0);
    // An alias is not a value itself; what it stands for is counted each time.
    this.values += node !== null && isAlias(node) ? 0 : 1;
    if (this.values > VALUES_MAX || depth > DEPTH_MAX) {
      this.#stopped = true;
      const what =
        depth > DEPTH_MAX ? `values are nested more than ${DEPTH_MAX} deep` : `the file expands to more than ${VALUES_MAX} values`;
      this.#problems.add({ code: "yaml_limit", at, path: "", message: what, mend: "use fewer or smaller aliases" });
      return undefined;
    }
    if (node === null) return scalar(null, at);
    if (isAlias(node)) return this.#alias(node, at, depth);
    this.#remember(node);
    this.#open.add(node);
    const tree = this.#plain(node, at, depth);
    this.#open.delete(node);
    return tree;
  }

  /** An anchor may be defined again further down: the last one before the alias counts, so each is noted once, in order. */
  #remember(node: ParsedNode): void {
    if (isAlias(node) || node.anchor === undefined || this.#anchored.has(node)) return;
    this.#anchored.add(node);
    this.#anchors.set(node.anchor, node);
  }

  #alias(node: Alias.Parsed, at: Mark, depth: number): Tree | undefined {
    const target = this.#anchors.get(node.source);
    if (target === undefined || this.#open.has(target)) {
      const message =
        target === undefined ? `the alias *${node.source} names no anchor before it` : `the alias *${node.source} contains itself`;
      this.#problems.add({
        code: "yaml_syntax",
        at,
        path: "",
        message,
        mend: "define the anchor (&name) before using it (*name), in the same file",
      });
      return undefined;
    }
    return this.tree(target, depth + 1);
  }

  #plain(node: Exclude<ParsedNode, Alias.Parsed>, at: Mark, depth: number): Tree | undefined {
    const tag: MergeTag = node.tag === "!reset" ? "reset" : node.tag === "!override" ? "override" : "merge";
    if (isScalar(node)) return { ...this.#scalar(node, at), tag };
    if (isSeq(node)) {
      const items = node.items.map((item) => this.tree(item as ParsedNode, depth + 1));
      return { kind: "sequence", items: items.filter((item) => item !== undefined), at, tag };
    }
    if (!isMap(node)) return undefined;
    const entries = new Map<string, Entry>();
    const inherited: Tree[] = [];
    for (const pair of node.items) {
      if (!isPair(pair)) continue;
      const key = this.#key(pair.key as ParsedNode | null);
      if (key === undefined) continue;
      const value = this.tree(pair.value as ParsedNode | null, depth + 1) ?? scalar(null, key.at);
      // An empty value has no place of its own in some layouts; its key's place says as much.
      const placed = isNothing(pair.value) ? { ...value, at: key.at } : value;
      if (key.isMerge) inherited.push(...(placed.kind === "sequence" ? placed.items : [placed]));
      else if (entries.has(key.text)) this.#duplicate(key, entries.get(key.text) as Entry);
      else entries.set(key.text, { at: key.at, value: placed });
    }
    for (const source of inherited) {
      if (source.kind !== "mapping") {
        this.#problems.add({
          code: "yaml_syntax",
          at: source.at,
          path: "",
          message: "the merge key << takes a mapping or a list of mappings",
          mend: "point it at an anchored mapping: <<: *name",
        });
        continue;
      }
      for (const [key, entry] of source.entries) if (!entries.has(key)) entries.set(key, entry);
    }
    return { kind: "mapping", entries, at, tag };
  }

  #duplicate(key: { text: string; at: Mark }, first: Entry): void {
    this.#problems.add({
      code: "yaml_duplicate_key",
      at: key.at,
      path: key.text,
      message: `the key "${key.text}" is already given in line ${first.at.line}`,
      mend: "keep one of the two",
    });
  }

  #key(node: ParsedNode | null): { text: string; at: Mark; isMerge: boolean } | undefined {
    const at = this.#markAt(node?.range?.[0] ?? 0);
    const resolved = node !== null && isAlias(node) ? this.#anchors.get(node.source) : node;
    if (resolved !== null && resolved !== undefined) this.#remember(resolved);
    if (resolved === null || resolved === undefined || !isScalar(resolved)) {
      this.#problems.add({
        code: "yaml_syntax",
        at,
        path: "",
        message: "a key must be a plain word",
        mend: "quote the key if it contains : { } [ ] or similar",
      });
      return undefined;
    }
    const text = String(resolved.value ?? "");
    if (text.includes("\0") || !text.isWellFormed()) {
      this.#problems.add({ code: "yaml_syntax", at, path: "", message: "a key contains NUL or half a character", mend: "remove it" });
      return undefined;
    }
    return { text, at, isMerge: text === "<<" && resolved.type === "PLAIN" };
  }

  #scalar(node: { value: unknown; type?: string | undefined; tag?: string | undefined }, at: Mark): Scalar {
    const text = String(node.value ?? "");
    if (text.includes("\0") || !text.isWellFormed()) {
      this.#problems.add({
        code: "yaml_syntax",
        at,
        path: "",
        message: "a value contains NUL or half a character",
        mend: "remove the \\0 or \\ud… escape",
      });
      return scalar(null, at);
    }
    const tag = node.tag?.startsWith(TAG_PREFIX) ? node.tag.slice(TAG_PREFIX.length) : node.tag;
    if (tag === "str" || tag === "!") return scalar(text, at);
    if (tag !== undefined && !["int", "float", "bool", "null", "!reset", "!override"].includes(tag)) {
      this.#problems.add({
        code: "yaml_syntax",
        at,
        path: "",
        message: `the tag ${node.tag} is not known to Compose`,
        mend: "remove the tag; Compose knows !reset and !override",
      });
    }
    return scalar(node.type === "PLAIN" || (tag !== undefined && !tag.startsWith("!")) ? plainValue(text) : text, at);
  }
}

const isNothing = (node: unknown): boolean => node === null || (isScalar(node) && node.source === "");

/**
 * What an unquoted word is, by go-yaml's rules for untyped values: YAML 1.2's, and octal both as 0o17 and 017; `yes`,
 * `no`, `on` and `off` are strings.
 */
export function plainValue(text: string): ScalarValue {
  if (text === "" || /^(?:~|null|Null|NULL)$/.test(text)) return null;
  if (/^(?:true|True|TRUE)$/.test(text)) return true;
  if (/^(?:false|False|FALSE)$/.test(text)) return false;
  if (/^[-+]?0o?[0-7]+$/.test(text)) return safeNumber(text, signed(text, 8));
  if (/^[-+]?0x[0-9a-fA-F]+$/.test(text)) return safeNumber(text, signed(text, 16));
  if (/^[-+]?0b[01]+$/.test(text)) return safeNumber(text, signed(text, 2));
  if (/^[-+]?[0-9]+$/.test(text)) return safeNumber(text, Number(text));
  // Written so that no two parts can match the same digits: linear on any input.
  if (/^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$/.test(text)) {
    const value = Number(text);
    return Number.isFinite(value) ? value : text;
  }
  return text;
}

function signed(text: string, radix: number): number {
  const magnitude = Number.parseInt(text.replace(/^[-+]?0[oxb]?/, "") || "0", radix);
  return text.startsWith("-") ? -magnitude : magnitude;
}

/** An integer that JavaScript cannot hold stays text: an id must not lose its last digits. */
const safeNumber = (text: string, value: number): number | string => (Number.isSafeInteger(value) ? value : text);
