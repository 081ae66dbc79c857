/** What differs between two revisions of an app, service by service. */
import type { RevisionDiff } from "../shared/api/resources.ts";
import type { AppSpec } from "../shared/model/app.ts";
import { canonicalJson } from "../shared/model/content.ts";
import { differences } from "./differences.ts";

interface Of {
  readonly revision: number;
  readonly spec: AppSpec;
}

export function diffRevisions(from: Of, to: Of): RevisionDiff {
  const [before, after] = [from.spec.services, to.spec.services];
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  const services = names.flatMap((service): RevisionDiff["services"] => {
    const [old, now] = [before[service], after[service]];
    if (old === undefined) return [{ service, change: "added", differences: [] }];
    if (now === undefined) return [{ service, change: "removed", differences: [] }];
    return canonicalJson(old) === canonicalJson(now) ? [] : [{ service, change: "changed", differences: differences(old, now) }];
  });
  const others = [...ofKind("config", from.spec.configs, to.spec.configs), ...ofKind("volume", from.spec.volumes, to.spec.volumes)];
  return { from: from.revision, to: to.revision, services, others };
}

function ofKind(kind: string, before: Readonly<Record<string, unknown>>, after: Readonly<Record<string, unknown>>): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].sort().flatMap((name) => {
    const isIn = (side: Readonly<Record<string, unknown>>) => Object.hasOwn(side, name);
    if (!isIn(before)) return [`${kind} ${name} added`];
    if (!isIn(after)) return [`${kind} ${name} removed`];
    return canonicalJson(before[name]) === canonicalJson(after[name]) ? [] : [`${kind} ${name} changed`];
  });
}
