/**
 * How a later file, or a service that extends another, changes what came before (13-merge): mappings merge key by
 * key, lists are appended, the rest is replaced; the exceptions are in RULES. `!reset` takes a key away, `!override`
 * replaces it whole.
 *
 * Both sides are first made canonical (short forms that merge by key become mappings), so a list of `KEY=value` in
 * one file merges with a mapping in another. Invariants: merging is associative for trees without tags, and a tree
 * merged with itself is itself.
 */
import { childPath, itemPath } from "./key-path.ts";
import { type Entry, isNull, type Mapping, mapping, scalar, scalarText, type Sequence, sequence, toData, type Tree } from "./tree.ts";

type Rule =
  /** The later value stands alone: a command line is one thing. */
  | { kind: "replace" }
  /** A list of `KEY=value` or a mapping; merged by key. `separators` in order of preference. */
  | { kind: "keyed"; separators: string }
  /** A list of names or a mapping; `fill` is what a bare name means. */
  | { kind: "named"; fill: "condition" | "null" }
  /** A list (or one string) without repeats; an item with the same identity is replaced where it stands. */
  | { kind: "unique"; identity: (item: Tree) => string }
  /** A string that stands for a mapping with this one key. */
  | { kind: "short"; key: string }
  /** Options belong to their driver: another driver starts afresh. */
  | { kind: "driver" };

const same = (item: Tree): string => (item.kind === "scalar" ? scalarText(item) : JSON.stringify(toData(item)));
const keyed: Rule = { kind: "keyed", separators: "=" };
const unique: Rule = { kind: "unique", identity: same };

const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ["services.*.command", { kind: "replace" }],
  ["services.*.entrypoint", { kind: "replace" }],
  ["services.*.healthcheck.test", { kind: "replace" }],
  ["services.*.environment", keyed],
  ["services.*.labels", keyed],
  ["services.*.annotations", keyed],
  ["services.*.sysctls", keyed],
  ["services.*.deploy.labels", keyed],
  ["services.*.build.args", keyed],
  ["services.*.build.labels", keyed],
  ["services.*.build.additional_contexts", keyed],
  ["volumes.*.labels", keyed],
  ["networks.*.labels", keyed],
  ["configs.*.labels", keyed],
  ["secrets.*.labels", keyed],
  ["services.*.extra_hosts", { kind: "keyed", separators: "=:" }],
  ["services.*.depends_on", { kind: "named", fill: "condition" }],
  ["services.*.networks", { kind: "named", fill: "null" }],
  ["services.*.models", { kind: "named", fill: "null" }],
  ["services.*.build", { kind: "short", key: "context" }],
  ["services.*.extends", { kind: "short", key: "service" }],
  ["services.*.logging", { kind: "driver" }],
  ["services.*.cap_add", unique],
  ["services.*.cap_drop", unique],
  ["services.*.dns", unique],
  ["services.*.dns_opt", unique],
  ["services.*.dns_search", unique],
  ["services.*.expose", unique],
  ["services.*.group_add", unique],
  ["services.*.label_file", unique],
  ["services.*.links", unique],
  ["services.*.profiles", unique],
  ["services.*.security_opt", unique],
  ["services.*.tmpfs", unique],
  ["services.*.volumes_from", unique],
  ["services.*.networks.*.aliases", unique],
  ["services.*.deploy.placement.constraints", unique],
  ["services.*.env_file", { kind: "unique", identity: (item) => textAt(item, "path") ?? same(item) }],
  ["services.*.ports", { kind: "unique", identity: portIdentity }],
  ["services.*.volumes", { kind: "unique", identity: mountIdentity }],
  ["services.*.devices", { kind: "unique", identity: mountIdentity }],
  ["services.*.configs", { kind: "unique", identity: grantIdentity }],
  ["services.*.secrets", { kind: "unique", identity: grantIdentity }],
]);

/** `base` changed by `over`. Without a base, `over` made canonical. */
export function mergeTrees(base: Tree | undefined, over: Tree, path = ""): Tree | undefined {
  if (over.tag === "reset") return undefined;
  const later = canonical(over, path);
  if (base === undefined || over.tag === "override") return tidy(later, path);
  const earlier = canonical(base, path);
  // An empty value says nothing, so it takes nothing away; `!reset` does.
  if (isNull(later)) return tidy(earlier, path);
  const rule = RULES.get(path);
  if (earlier.kind === "mapping" && later.kind === "mapping") {
    if (rule?.kind === "driver" && isOtherDriver(earlier, later)) return tidy(later, path);
    return mergeMappings(earlier, later, path);
  }
  if (earlier.kind === "sequence" && later.kind === "sequence" && rule?.kind !== "replace") {
    return tidy({ ...later, items: [...earlier.items, ...later.items] }, path);
  }
  return tidy(later, path);
}

/** A whole file or service with no earlier one: canonical, without what `!reset` removes. */
export function mergeFirst(tree: Mapping, path = ""): Mapping {
  const merged = mergeTrees(undefined, tree, path);
  return merged?.kind === "mapping" ? merged : mapping([], tree.at);
}

function mergeMappings(earlier: Mapping, later: Mapping, path: string): Mapping {
  const entries = new Map<string, Entry>();
  for (const [key, entry] of earlier.entries) {
    const value = tidy(canonical(entry.value, childPath(path, key)), childPath(path, key));
    if (value !== undefined) entries.set(key, { ...entry, value });
  }
  for (const [key, entry] of later.entries) {
    const merged = mergeTrees(entries.get(key)?.value, entry.value, childPath(path, key));
    if (merged === undefined) entries.delete(key);
    else entries.set(key, { at: entry.at, value: merged });
  }
  return { ...later, entries, tag: "merge" };
}

/** Children made canonical, `!reset` ones dropped, repeats in unique lists settled; the tag is spent. */
function tidy(tree: Tree, path: string): Tree | undefined {
  if (tree.kind === "scalar") return tree.tag === "merge" ? tree : { ...tree, tag: "merge" };
  if (tree.kind === "mapping") return mergeMappings(mapping([], tree.at), tree, path);
  const items = tree.items.flatMap((item) => {
    const kept = mergeTrees(undefined, item, itemPath(path));
    return kept === undefined ? [] : [kept];
  });
  const rule = RULES.get(path);
  return { ...tree, items: rule?.kind === "unique" ? settle(items, rule.identity) : items, tag: "merge" };
}

function settle(items: readonly Tree[], identity: (item: Tree) => string): Tree[] {
  const byIdentity = new Map<string, Tree>();
  for (const item of items) byIdentity.set(identity(item), item);
  return [...byIdentity.values()];
}

function canonical(tree: Tree, path: string): Tree {
  const rule = RULES.get(path);
  if (rule === undefined || isNull(tree)) return tree;
  if (rule.kind === "keyed" && tree.kind === "sequence") return keyedMapping(tree, rule.separators) ?? tree;
  if (rule.kind === "named" && tree.kind === "sequence") return namedMapping(tree, rule.fill) ?? tree;
  if (rule.kind === "short" && tree.kind === "scalar")
    return { ...mapping([[rule.key, { at: tree.at, value: { ...tree, tag: "merge" } }]], tree.at), tag: tree.tag };
  if (rule.kind === "unique" && tree.kind === "scalar") return { ...sequence([{ ...tree, tag: "merge" }], tree.at), tag: tree.tag };
  return tree;
}

/** `["A=1", "B"]` → `{A: "1", B: null}`; undefined where an item is no string, which the key check then reports. */
function keyedMapping(tree: Sequence, separators: string): Mapping | undefined {
  const entries = new Map<string, Entry>();
  for (const item of tree.items) {
    if (item.kind !== "scalar") return undefined;
    const text = scalarText(item);
    const cut = [...separators].map((separator) => text.indexOf(separator)).find((index) => index > 0) ?? -1;
    const key = cut < 0 ? text : text.slice(0, cut);
    const value = scalar(cut < 0 ? null : text.slice(cut + 1), item.at);
    const repeated = separators.length > 1 ? entries.get(key)?.value : undefined;
    entries.set(key, {
      at: item.at,
      value: repeated === undefined ? value : sequence([...(repeated.kind === "sequence" ? repeated.items : [repeated]), value], item.at),
    });
  }
  return { ...mapping(entries, tree.at), tag: tree.tag };
}

function namedMapping(tree: Sequence, fill: "condition" | "null"): Mapping | undefined {
  const entries = new Map<string, Entry>();
  for (const item of tree.items) {
    if (item.kind !== "scalar" || item.value === null) return undefined;
    const filled =
      fill === "null"
        ? scalar(null, item.at)
        : mapping([["condition", { at: item.at, value: scalar("service_started", item.at) }]], item.at);
    entries.set(scalarText(item), { at: item.at, value: filled });
  }
  return { ...mapping(entries, tree.at), tag: tree.tag };
}

function textAt(item: Tree, key: string): string | undefined {
  const value = item.kind === "mapping" ? item.entries.get(key)?.value : undefined;
  return value?.kind === "scalar" && value.value !== null ? scalarText(value) : undefined;
}

function isOtherDriver(earlier: Mapping, later: Mapping): boolean {
  const [before, after] = [textAt(earlier, "driver"), textAt(later, "driver")];
  return before !== undefined && after !== undefined && before !== after;
}

/** Address, host port, container port and protocol; a short form is identified by what it says. */
function portIdentity(item: Tree): string {
  if (item.kind !== "mapping") {
    const text = same(item);
    const [ports = "", protocol = "tcp"] = text.split("/");
    const parts = ports.split(":");
    const target = parts.pop() ?? "";
    const published = parts.pop() ?? "";
    return `${parts.join(":")}|${published}|${target}|${protocol}`;
  }
  return `${textAt(item, "host_ip") ?? ""}|${textAt(item, "published") ?? ""}|${textAt(item, "target") ?? ""}|${textAt(item, "protocol") ?? "tcp"}`;
}

/** Where in the container it stands: two mounts cannot share one place. */
function mountIdentity(item: Tree): string {
  const target = textAt(item, "target");
  if (item.kind === "mapping") return target ?? textAt(item, "source") ?? same(item);
  const parts = same(item).split(":");
  return (parts.length > 1 ? parts[1] : parts[0]) ?? "";
}

function grantIdentity(item: Tree): string {
  return textAt(item, "target") ?? textAt(item, "source") ?? same(item);
}
