/** The plan of a deployment as a tree: + made, ~ replaced, - removed, ! not placed. */
import type { DeployPlan, PlannedService } from "../../shared/api/resources.ts";
import type { PlannedReplica } from "../client/resources.ts";
import type { Style, StyleName } from "./style.ts";
import { type Branch, treeLines } from "./tree.ts";
import { visible } from "./visible.ts";

interface Mark {
  readonly sign: string;
  readonly style: StyleName;
}
const SERVICE_MARKS: Record<PlannedService["action"], Mark> = {
  create: { sign: "+", style: "add" },
  update: { sign: "~", style: "change" },
  scale: { sign: "~", style: "change" },
  remove: { sign: "-", style: "remove" },
  keep: { sign: "=", style: "quiet" },
};
const REPLICA_MARKS: Record<PlannedReplica["action"], Mark> = {
  create: { sign: "+", style: "add" },
  replace: { sign: "~", style: "change" },
  remove: { sign: "-", style: "remove" },
  keep: { sign: "=", style: "quiet" },
};
const UNPLACED: Mark = { sign: "!", style: "bad" };

/** A service of more replicas than this is shown by node: 1,000 lines are no plan that anybody reads. */
const REPLICAS_SHOWN_MAX = 12;

const isUnplaced = (replica: PlannedReplica): boolean =>
  replica.to === null && (replica.action === "create" || replica.action === "replace");

function replicaBranch(service: string, replica: PlannedReplica, style: Style): Branch {
  const mark = isUnplaced(replica) ? UNPLACED : REPLICA_MARKS[replica.action];
  const from = replica.from === null ? null : visible(replica.from);
  const to = replica.to === null ? null : visible(replica.to);
  const place =
    replica.action === "remove"
      ? `on ${from ?? "no node"}`
      : replica.action === "keep"
        ? `on ${to ?? from ?? "no node"}`
        : to === null
          ? "not placed"
          : from !== null && from !== to
            ? `${from} → ${to}`
            : from === null
              ? `→ ${to}`
              : `on ${to}`;
  const why = isUnplaced(replica) ? visible(replica.message) : replica.action === "keep" ? "" : visible(replica.reason);
  return {
    text: `${style[mark.style](`${mark.sign} ${visible(service)}/${visible(replica.slot)}`)} ${place}${why === "" ? "" : style.quiet(`  ${why}`)}`,
  };
}

/** "+ 40 on node-a" for each action and node. */
function nodeBranches(replicas: readonly PlannedReplica[], style: Style): Branch[] {
  const counts = new Map<string, { mark: Mark; place: string; count: number; message: string }>();
  for (const replica of replicas) {
    if (replica.action === "keep") continue;
    const unplaced = isUnplaced(replica);
    const mark = unplaced ? UNPLACED : REPLICA_MARKS[replica.action];
    const place = unplaced ? "not placed" : `on ${visible(replica.to ?? replica.from ?? "no node")}`;
    const key = `${mark.sign} ${place}`;
    const known = counts.get(key);
    counts.set(key, { mark, place, count: (known?.count ?? 0) + 1, message: known?.message ?? (unplaced ? visible(replica.message) : "") });
  }
  return [...counts.values()].map(({ mark, place, count, message }) => ({
    text: `${style[mark.style](`${mark.sign} ${count}`)} ${place}${message === "" ? "" : style.quiet(`  ${message}`)}`,
  }));
}

function countText({ create, replace, remove, keep, unplaced }: PlannedService["counts"]): string {
  const parts = [
    [create, "to make"],
    [replace, "to replace"],
    [remove, "to remove"],
    [keep, "kept"],
    [unplaced, "not placed"],
  ] as const;
  return (
    parts
      .filter(([count]) => count > 0)
      .map(([count, word]) => `${count} ${word}`)
      .join(", ") || "no replicas"
  );
}

function serviceBranch(service: PlannedService, style: Style): Branch {
  const mark = SERVICE_MARKS[service.action];
  const differences = service.differences.map((difference) => ({ text: style.quiet(visible(difference)) }));
  const order =
    service.counts.replace === 0
      ? []
      : [
          {
            text: style.quiet(
              `${service.order === "start-first" ? "new before old" : "old before new"}: ${visible(service.orderReason) || service.order}`,
            ),
          },
        ];
  const shown =
    service.replicas.length <= REPLICAS_SHOWN_MAX
      ? service.replicas.map((replica) => replicaBranch(service.service, replica, style))
      : nodeBranches(service.replicas, style);
  const isQuiet = service.action === "keep" && service.counts.unplaced === 0;
  return {
    text: `${style[mark.style](`${mark.sign} ${visible(service.service)}`)}  ${countText(service.counts)}`,
    children: isQuiet ? [] : [...differences, ...order, ...shown],
  };
}

/** How many changes: what `--plan` exits with. */
export const changesOf = (plan: DeployPlan): number =>
  plan.services.reduce((sum, { counts }) => sum + counts.create + counts.replace + counts.remove, 0);

/** Nothing can be placed and nothing else changes: the deployment does nothing but wait. */
export const onlyWaits = (plan: DeployPlan): boolean => changesOf(plan) === 0 && plan.services.some(({ counts }) => counts.unplaced > 0);

export function planLines(plan: DeployPlan, style: Style): string[] {
  const title = `${style.strong(visible(plan.app))} in ${visible(plan.namespace)}: ${plan.fromRevision === null ? "new" : `from revision ${plan.fromRevision}`}`;
  if (plan.unchanged)
    return [
      `${style.strong(visible(plan.app))} in ${visible(plan.namespace)}: nothing to do, revision ${plan.fromRevision ?? "-"} is what was asked for`,
      ...plan.notes.map((note) => style.quiet(visible(note))),
    ];
  const volumes = plan.volumes.map(({ name, action }): Branch => {
    const mark: Mark =
      action === "create"
        ? { sign: "+", style: "add" }
        : action === "orphan"
          ? { sign: "-", style: "warn" }
          : { sign: "=", style: "quiet" };
    return {
      text: `${style[mark.style](`${mark.sign} volume ${visible(name)}`)}${action === "orphan" ? "  no service uses it any more; its data stays" : ""}`,
    };
  });
  const notes = plan.notes.map((note): Branch => ({ text: style.quiet(visible(note)) }));
  return [title, ...treeLines([...plan.services.map((service) => serviceBranch(service, style)), ...volumes, ...notes])];
}
