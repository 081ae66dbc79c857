/**
 * What a report changes, worked out without I/O.
 *
 * - A replica's terminal state is final: nothing said later moves it.
 * - Only replicas assigned to the reporting node are its to speak of.
 * - A replica that shall stop ends when its node says that it has stopped, or when the node has accepted a set without
 *   it and has, in this session, never had anything of it.
 * - Silence is no fact: only a complete report says that what it leaves out is not there, and only of replicas that
 *   the node has spoken of before. It may not have been told of the others yet.
 */
import { canonicalJson } from "../../shared/model/content.ts";
import { counted } from "../../shared/text/counted.ts";
import { IMAGE_REFUSALS, type ReplicaFact, type ReplicaState, type ReportRequest, TERMINAL_STATES } from "../../shared/wire/report.ts";
import { MARK, type NewEvent, type NewRow, NOW, type Row } from "./commit-types.ts";

export interface KnownReplica {
  readonly replica: Row<"replicas">;
  readonly observation: Row<"observations"> | null;
  readonly namespace: string;
  readonly app: string;
}

export interface ReportState {
  readonly nowMs: number;
  readonly node: Pick<Row<"nodes">, "id" | "name" | "session" | "facts">;
  readonly report: Row<"nodeReports"> | null;
  /** The node's, of both desires. */
  readonly replicas: readonly KnownReplica[];
  /** Unresolved ones that this node was asked to resolve. */
  readonly images: readonly {
    readonly appId: string;
    readonly namespace: string;
    readonly app: string;
    readonly revision: number;
    readonly reference: string;
  }[];
  /** A drop is answered by a node that has accepted a set which names it: of an older one "not there" may be from before. */
  readonly volumeDrops: readonly Pick<Row<"volumeDrops">, "engineName" | "rev">[];
}

/** A row as it is to be written: plain values, and the mark of its commit. */
export type ObservationRow = Omit<Row<"observations">, "mark"> & { readonly mark: typeof MARK };
export interface ReportDigest {
  readonly observations: readonly ObservationRow[];
  readonly ended: readonly Omit<NewRow<"endedReplicas">, "rev">[];
  readonly images: readonly {
    readonly appId: string;
    readonly revision: number;
    readonly reference: string;
    readonly digest: string | null;
    readonly imageId: string | null;
  }[];
  readonly droppedVolumes: readonly string[];
  /** Null: as stored. */
  readonly facts: Row<"nodes">["facts"] | null;
  /** Something of the node's own row of reports changed beside the sequence. */
  readonly isReportNews: boolean;
  readonly isComplete: boolean;
  readonly events: readonly NewEvent[];
  /** A plan made now could differ from one made before. */
  readonly dirty: boolean;
}

/** The same readiness told twice differs by the time that the reports took; a real break is longer or restarts. */
const READY_SINCE_TOLERANCE_MS = 10_000;

const isTerminal = (state: string): boolean => TERMINAL_STATES.has(state as ReplicaState);

export function digestReport(state: ReportState, report: ReportRequest): ReportDigest {
  const isSameSession = state.report?.session === report.session;
  const isComplete = report.complete || (isSameSession && state.report.complete);
  const facts = new Map(report.replicas.map((fact) => [fact.replica as string, fact]));
  const observations: ObservationRow[] = [];
  const ended: ReportDigest["ended"][number][] = [];
  const events: NewEvent[] = [];
  let dirty = false;
  for (const known of state.replicas) {
    const next = observe(known, facts.get(known.replica.id), { state, report });
    const seen = next ?? known.observation;
    if (known.replica.desired === "stop" && isOver(known.replica, seen, isComplete ? report.generation : 0)) {
      ended.push(endedRow(known.replica, seen));
      events.push(event(known, "stopped", "info", `stopped on ${state.node.name} (${known.replica.reason})`));
      dirty = true;
    } else if (next) {
      observations.push(next);
      events.push(...observedEvents(known, next, state.node.name));
      dirty ||= isDecisive(known.observation, next);
    }
  }
  const images = resolvedImages(state, report);
  const gone = (name: string) => report.volumes !== null && !report.volumes.some(({ engineName }) => engineName === name);
  const droppedVolumes = state.volumeDrops.filter(({ rev, engineName }) => report.generation >= rev && gone(engineName));
  const newFacts = report.facts !== null && canonicalJson(report.facts) !== canonicalJson(state.node.facts) ? report.facts : null;
  return {
    observations,
    ended,
    images,
    droppedVolumes: droppedVolumes.map(({ engineName }) => engineName),
    facts: newFacts,
    isReportNews:
      !isSameSession ||
      state.report.complete !== isComplete ||
      state.report.generation !== report.generation ||
      state.report.engineReachable !== report.engine.reachable ||
      state.report.engineMessage !== report.engine.message,
    isComplete,
    events,
    dirty:
      dirty ||
      images.length > 0 ||
      droppedVolumes.length > 0 ||
      newFacts !== null ||
      !isSameSession ||
      state.report.complete !== isComplete ||
      state.report.engineReachable !== report.engine.reachable,
  };
}

type Told = { readonly state: ReportState; readonly report: ReportRequest };

/** The observation after this report, or null when it stays as it is. */
function observe({ replica, observation }: KnownReplica, fact: ReplicaFact | undefined, { state, report }: Told): ObservationRow | null {
  if (observation && isTerminal(observation.state)) return null;
  const place = { replica: replica.id, nodeId: replica.nodeId, session: report.session, seq: report.seq, mark: MARK } as const;
  if (fact) {
    const next = { ...place, ...factValues(fact, observation, { nowMs: state.nowMs, assignedMs: replica.assignedMs }) };
    return observation && isSame(observation, next) ? null : next;
  }
  if (!report.complete || !observation || isNothing(observation)) return null;
  return {
    ...place,
    state: "assigned",
    reason: "gone",
    message: "its container is no longer there",
    containerId: null,
    health: "none",
    readySinceMs: null,
    restarts: observation.restarts,
    exitCode: null,
    oomKilled: false,
    ports: [],
    pull: null,
    logTail: [],
    asOfMs: state.nowMs,
  };
}

function factValues(
  fact: ReplicaFact,
  before: Row<"observations"> | null,
  { nowMs, assignedMs }: { readonly nowMs: number; readonly assignedMs: number },
): Omit<ObservationRow, "replica" | "nodeId" | "session" | "seq" | "mark"> {
  const { state, reason, message, containerId, health, restarts, exitCode, oomKilled, ports, pull, logTail } = fact;
  // Nothing can be older than its assignment: an age beyond it is the node's clock, or a lie.
  const ago = (ms: number) => Math.max(Math.min(assignedMs, nowMs), nowMs - ms);
  let readySinceMs = fact.readyForMs === null ? null : ago(fact.ageMs + fact.readyForMs);
  const isSameRun = before && before.containerId === containerId && before.restarts === restarts && before.readySinceMs !== null;
  if (isSameRun && readySinceMs !== null && Math.abs(before.readySinceMs! - readySinceMs) <= READY_SINCE_TOLERANCE_MS)
    readySinceMs = before.readySinceMs;
  return {
    state,
    reason,
    message,
    containerId,
    health,
    readySinceMs,
    restarts,
    exitCode,
    oomKilled,
    ports,
    pull,
    logTail,
    asOfMs: ago(fact.ageMs),
  };
}

/** Everything but when and by which report it was seen. */
function isSame(before: Row<"observations">, after: ObservationRow): boolean {
  const plain = ["state", "reason", "message", "containerId", "health", "readySinceMs", "restarts", "exitCode", "oomKilled"] as const;
  if (plain.some((key) => before[key] !== after[key])) return false;
  return (["ports", "pull", "logTail"] as const).every((key) => canonicalJson(before[key]) === canonicalJson(after[key]));
}

const isNothing = (seen: { readonly state: string; readonly containerId?: string | null | undefined }): boolean =>
  seen.state === "assigned" && (seen.containerId ?? null) === null;

/** `acceptedGeneration` of a node whose session has been complete; 0: not yet. */
function isOver(
  replica: Row<"replicas">,
  seen: { readonly state: string; readonly containerId?: string | null | undefined } | null,
  acceptedGeneration: number,
): boolean {
  if (seen && isTerminal(seen.state)) return true;
  return acceptedGeneration >= replica.rev && (seen === null || isNothing(seen));
}

function endedRow(replica: Row<"replicas">, seen: ObservationRow | Row<"observations"> | null): ReportDigest["ended"][number] {
  const { id, appId, service, slot, nodeId, revision, reason } = replica;
  return {
    id,
    appId,
    service,
    slot,
    nodeId,
    revision,
    state: seen && isTerminal(seen.state) ? seen.state : "stopped",
    reason,
    message: seen?.message ?? "",
    exitCode: seen?.exitCode ?? null,
    logTail: seen?.logTail ?? [],
    endedMs: NOW,
  };
}

/** Its image cannot be had, until somebody does something. */
const isStuck = (seen: { readonly state: string; readonly reason: string } | null): boolean =>
  seen?.state === "preparing" && (IMAGE_REFUSALS as readonly string[]).includes(seen.reason);

/** The planner reads states, readiness and restarts; progress of a pull is for people only. */
function isDecisive(before: Row<"observations"> | null, after: ObservationRow): boolean {
  if (before?.state !== after.state && (isTerminal(after.state) || after.state === "running" || after.reason === "gone")) return true;
  if (isStuck(before) !== isStuck(after)) return true;
  return (before?.readySinceMs ?? null) !== (after.readySinceMs ?? null) || (before?.restarts ?? 0) !== after.restarts;
}

function resolvedImages(state: ReportState, report: ReportRequest): ReportDigest["images"] {
  return state.images.flatMap(({ appId, namespace, app, revision, reference }) => {
    const fact = report.images.find(
      (it) => it.namespace === namespace && it.app === app && it.revision === revision && it.reference === reference,
    );
    if (!fact || (fact.digest === null && fact.imageId === null)) return [];
    return [{ appId, revision, reference, digest: fact.digest, imageId: fact.imageId }];
  });
}

function observedEvents(known: KnownReplica, after: ObservationRow, node: string): NewEvent[] {
  const before = known.observation;
  const why = after.message === "" ? "" : `: ${after.message}`;
  if (before?.state !== after.state) {
    if (after.state === "running") return [event(known, "running", "info", `runs on ${node}`)];
    if (after.state === "completed") return [event(known, "completed", "info", `completed on ${node}`)];
    if (after.state === "failed" || after.state === "rejected")
      return [event(known, after.state, "error", `${after.state} on ${node}${why}`)];
    if (after.reason === "gone") return [event(known, "gone", "warning", `is gone from ${node}${why}`)];
  }
  if (isStuck(after) && !isStuck(before)) return [event(known, after.reason, "error", `cannot start on ${node}${why}`)];
  if ((before?.restarts ?? 0) < after.restarts) {
    const code = after.exitCode === null || after.exitCode === undefined ? "" : `, exit code ${after.exitCode}`;
    return [
      event(
        known,
        "restarted",
        "warning",
        `restarted on ${node} (${counted(after.restarts, "time")}${code}${after.oomKilled ? ", out of memory" : ""})`,
      ),
    ];
  }
  if (before?.health !== after.health && after.health === "unhealthy")
    return [event(known, "unhealthy", "warning", `is unhealthy on ${node}${why}`)];
  if (before?.health === "unhealthy" && after.health === "healthy") return [event(known, "healthy", "info", `is healthy again on ${node}`)];
  return [];
}

function event({ replica, namespace, app }: KnownReplica, type: string, level: NewEvent["level"], what: string): NewEvent {
  // A global service has one replica a node, and the message names the node.
  const slot = /^[0-9]+$/.test(replica.slot) ? `.${replica.slot}` : "";
  return { namespace, objectKind: "replica", objectId: replica.id, app, type, level, message: `${replica.service}${slot} ${what}` };
}
