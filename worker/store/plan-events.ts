/** What a plan tells people: a line for each replica while they are few, one for all of them when they are many. */
import type { Change, PlanReason } from "../../shared/plan/change.ts";
import type { NewEvent } from "./commit-types.ts";
import type { PlanIndex } from "./plan-index.ts";

/** Of one service and reason in one commit; past a screenful their number says more. */
const SINGLE_EVENTS_MAX = 10;

type ReplicaChange = Extract<Change, { kind: "assign" | "stop" | "end" }>;
interface Moved {
  readonly appId: string;
  readonly service: string;
  readonly slot: string;
  readonly change: ReplicaChange;
}

const TYPES = { assign: "assigned", stop: "stopping", end: "ended" } as const;
const WORDS = { assign: ["is assigned to", "are assigned to"], stop: ["stops on", "stop on"], end: ["ended on", "ended on"] } as const;
const WARNINGS: ReadonlySet<PlanReason> = new Set<PlanReason>(["nodeLost", "nodeRemoved", "replace", "failedUpdate"]);

export function planEvents(changes: readonly Change[], index: PlanIndex): NewEvent[] {
  const groups = new Map<string, Moved[]>();
  const events: NewEvent[] = [];
  for (const change of changes) {
    if (change.kind === "deployment") events.push(deploymentEvent(change, index, change.state));
    if (change.kind === "canaries")
      events.push(deploymentEvent(change, index, change.areHealthy ? "canariesHealthy" : "canariesUnhealthy"));
    if (change.kind === "removeApp") events.push(removedEvent(change.appId, index));
    if (change.kind !== "assign" && change.kind !== "stop" && change.kind !== "end") continue;
    const moved = { ...(change.kind === "assign" ? change : index.replica(change.replica)), change };
    const key = `${moved.appId} ${moved.service} ${change.kind} ${change.reason}`;
    const group = groups.get(key);
    if (group) group.push(moved);
    else groups.set(key, [moved]);
  }
  for (const group of groups.values())
    events.push(...(group.length <= SINGLE_EVENTS_MAX ? group.map((moved) => singleEvent(moved, index)) : [groupEvent(group, index)]));
  return events;
}

function singleEvent({ appId, service, slot, change }: Moved, index: PlanIndex): NewEvent {
  const node = change.nodeId === null ? "a removed node" : (index.nodes.get(change.nodeId)?.name ?? "a removed node");
  const name = /^[0-9]+$/.test(slot) ? `${service}.${slot}` : service;
  return {
    ...head(appId, change, index),
    objectKind: "replica",
    objectId: change.replica,
    message: `${name} ${WORDS[change.kind][0]} ${node} (${change.reason})`,
  };
}

function groupEvent(group: readonly Moved[], index: PlanIndex): NewEvent {
  const { appId, service, change } = group[0]!;
  const nodes = new Set(group.map((moved) => moved.change.nodeId)).size;
  const message = `${group.length} replicas of ${service} ${WORDS[change.kind][1]} ${nodes} ${nodes === 1 ? "node" : "nodes"} (${change.reason})`;
  return { ...head(appId, change, index), objectKind: "service", objectId: `${appId}/${service}`, message };
}

function head(appId: string, change: ReplicaChange, index: PlanIndex) {
  const app = index.apps.get(appId);
  return {
    namespace: app?.namespace ?? null,
    app: app?.name ?? null,
    type: TYPES[change.kind],
    level: WARNINGS.has(change.reason) ? "warning" : "info",
  } as const;
}

const LEVELS: Readonly<Record<string, NewEvent["level"]>> = { failed: "error", canariesUnhealthy: "warning" };

function deploymentEvent(change: Extract<Change, { kind: "deployment" | "canaries" }>, index: PlanIndex, type: string): NewEvent {
  const app = index.apps.get(change.appId);
  return {
    namespace: app?.namespace ?? null,
    app: app?.name ?? null,
    objectKind: "deployment",
    objectId: change.id,
    type,
    level: LEVELS[type] ?? "info",
    message: change.message,
  };
}

function removedEvent(appId: string, index: PlanIndex): NewEvent {
  const app = index.apps.get(appId);
  return {
    namespace: app?.namespace ?? null,
    app: app?.name ?? null,
    objectKind: "app",
    objectId: appId,
    type: "removed",
    level: "info",
    message: `${app?.name ?? appId} is removed: every replica has stopped`,
  };
}
