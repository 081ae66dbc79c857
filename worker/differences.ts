/** What differs between two versions of a service, in words. Names of variables, never their values: they hold secrets. */
import type { Mount, PortSpec, ServiceSpec } from "../shared/model/app.ts";
import { canonicalJson } from "../shared/model/content.ts";
import { phrase } from "../shared/model/constraint.ts";

const same = (a: unknown, b: unknown): boolean => canonicalJson(a ?? null) === canonicalJson(b ?? null);
const sameAsUnset = (value: unknown): boolean => value === undefined || same(value, []) || same(value, {});

/** Beyond this many of a kind the rest is counted: a plan is read by people. */
const NAMED_MAX = 8;

/** Empty when they are equal. */
export function differences(before: ServiceSpec, after: ServiceSpec): string[] {
  const [from, to] = [before.workload, after.workload];
  const words: string[] = [];
  if (from.image !== to.image) words.push(`image ${from.image} → ${to.image}`);
  if (before.mode !== after.mode) words.push(`mode ${before.mode} → ${after.mode}`);
  if (before.replicas !== after.replicas && after.mode === "replicated") words.push(`replicas ${before.replicas} → ${after.replicas}`);
  words.push(...keyed("env", from.env, to.env), ...keyed("label", from.labels, to.labels));
  words.push(...listed("port", from.ports.map(portText), to.ports.map(portText)));
  words.push(...listed("mount", from.mounts.map(mountText), to.mounts.map(mountText)));
  words.push(...listed("constraint", before.placement.constraints.map(phrase), after.placement.constraints.map(phrase)));
  words.push(...fields("", from, to, WORKLOAD_SAID));
  words.push(
    ...fields(
      "",
      { reservation: before.reservation, dependsOn: before.dependsOn },
      { reservation: after.reservation, dependsOn: after.dependsOn },
      NOTHING_SAID,
    ),
  );
  words.push(
    ...fields("placement.", before.placement, after.placement, PLACEMENT_SAID),
    ...fields("update.", before.update, after.update, NOTHING_SAID),
  );
  return words;
}

const WORKLOAD_SAID: ReadonlySet<string> = new Set(["image", "env", "labels", "ports", "mounts"]);
const PLACEMENT_SAID: ReadonlySet<string> = new Set(["constraints"]);
const NOTHING_SAID: ReadonlySet<string> = new Set();

/** Numbers and single words are shown; anything longer is only named. */
function fields(prefix: string, before: object, after: object, said: ReadonlySet<string>): string[] {
  const [from, to] = [before as Record<string, unknown>, after as Record<string, unknown>];
  return [...new Set([...Object.keys(from), ...Object.keys(to)])].sort().flatMap((key) => {
    if (said.has(key) || same(from[key], to[key])) return [];
    const name = `${prefix}${key}`;
    if (sameAsUnset(from[key])) return [`${name} set${shown(to[key])}`];
    if (sameAsUnset(to[key])) return [`${name} removed`];
    return isShort(from[key]) && isShort(to[key]) ? [`${name} ${String(from[key])} → ${String(to[key])}`] : [`${name} changed`];
  });
}

const isShort = (value: unknown): boolean =>
  typeof value === "number" || typeof value === "boolean" || (typeof value === "string" && value.length <= 64);
const shown = (value: unknown): string => (isShort(value) ? ` to ${String(value)}` : "");

function keyed(kind: string, before: Readonly<Record<string, string>>, after: Readonly<Record<string, string>>): string[] {
  const added = Object.keys(after).filter((key) => !Object.hasOwn(before, key));
  const removed = Object.keys(before).filter((key) => !Object.hasOwn(after, key));
  const changed = Object.keys(after).filter((key) => Object.hasOwn(before, key) && before[key] !== after[key]);
  return [...counted(kind, added, "added"), ...counted(kind, changed, "changed"), ...counted(kind, removed, "removed")];
}

function listed(kind: string, before: readonly string[], after: readonly string[]): string[] {
  const added = after.filter((item) => !before.includes(item));
  const removed = before.filter((item) => !after.includes(item));
  return [...counted(kind, added, "added"), ...counted(kind, removed, "removed")];
}

function counted(kind: string, names: readonly string[], verb: string): string[] {
  if (names.length === 0) return [];
  const named = [...names].sort().slice(0, NAMED_MAX).join(", ");
  return [`${kind} ${named}${names.length > NAMED_MAX ? ` and ${names.length - NAMED_MAX} more` : ""} ${verb}`];
}

function portText({ target, published, protocol, hostIp }: PortSpec): string {
  const outside = published === undefined ? "any" : String(published);
  return `${hostIp === undefined ? "" : `${hostIp}:`}${outside}→${target}/${protocol}`;
}

function mountText(mount: Mount): string {
  const source = {
    volume: () => (mount.kind === "volume" ? mount.volume : ""),
    bind: () => (mount.kind === "bind" ? mount.source : ""),
    config: () => (mount.kind === "config" ? `config ${mount.config}` : ""),
    tmpfs: () => "tmpfs",
  }[mount.kind]();
  return `${source}→${mount.target}${"readOnly" in mount && mount.readOnly ? " (read-only)" : ""}`;
}
