/** What a deploy will do before it does it: the rows it would write, rehearsed with the planner, and put in words. */
import type { DeployPlan, PlannedService } from "../shared/api/resources.ts";
import type { AppSpec } from "../shared/model/app.ts";
import { canonicalJson } from "../shared/model/content.ts";
import { colocatedServices } from "../shared/model/desire.ts";
import type { AppId, DeploymentId, NodeId } from "../shared/model/name.ts";
import type { ClusterSnapshot, ServiceState } from "../shared/plan/snapshot.ts";
import { updateOrder } from "../shared/rollout/order.ts";
import type { Context } from "./context.ts";
import { differences } from "./differences.ts";
import { type Proposal, Rehearsal, type Rehearsed, type SlotPlace } from "./rehearsal.ts";
import type { Images } from "./resolve-images.ts";
import { type DeployKind, imagesOf, imageText, type Revised, type ServiceChange } from "./revise.ts";
import type { Row } from "./store/commit-types.ts";
import type { DeployView } from "./store/read-apps.ts";

export interface PreviewAsk {
  readonly namespace: string;
  readonly view: DeployView;
  readonly revised: Revised;
  readonly kind: DeployKind;
  readonly spec: AppSpec;
  readonly images: Images;
}

type PlannedReplica = PlannedService["replicas"][number];
/** As many as the schema carries; the counts are of all. */
const REPLICAS_SHOWN_MAX = 1_000;
/** Of the revision that the commit would make: later than any that exists. */
const NEXT_REVISION = Number.MAX_SAFE_INTEGER;

export async function previewDeploy(context: Context, ask: PreviewAsk): Promise<DeployPlan> {
  const { namespace, view, revised, spec } = ask;
  const begin = () => context.snapshots.use(({ snapshot, nowMs }) => new Rehearsal(snapshot, nowMs, proposalOf(snapshot, nowMs, ask)));
  const { rehearsed } = await context.rehearsals.run(namespace, begin);
  const planned = revised.services.map((change) => planService(change, ask, rehearsed));
  const removed = revised.gone.map((row) => planRemoval(row, rehearsed));
  return {
    namespace,
    app: spec.name,
    fromRevision: view.app?.revision ?? null,
    unchanged: revised.isUnchanged,
    services: [...planned, ...removed].sort((a, b) => (a.service < b.service ? -1 : 1)),
    volumes: volumesOf(view, spec),
    notes: notesOf(ask, rehearsed),
  };
}

function proposalOf(snapshot: ClusterSnapshot, nowMs: number, { namespace, view, revised, kind, spec }: PreviewAsk): Proposal {
  const id = revised.appId as AppId;
  const known = snapshot.services.filter(({ appId }) => appId === id);
  const services = revised.services.map(({ desired, image, before, isReplaced }): ServiceState => {
    const { name, mode, replicas, spec: hash, reservation, planning } = desired;
    const shown = known.find((service) => service.name === name);
    const kept = isReplaced || before === null ? null : before;
    return {
      appId: id,
      name,
      mode,
      replicas,
      spec: hash,
      revision: kept?.revision ?? NEXT_REVISION,
      image: kept === null ? image : (shown?.image ?? ""),
      resolver: (shown?.resolver ?? null) as NodeId | null,
      reservation,
      planning,
      removed: false,
      rev: snapshot.rev,
    };
  });
  const leaving = known
    .filter(({ name }) => !services.some((service) => service.name === name))
    .map((service) => ({ ...service, removed: true }));
  return {
    app: {
      id,
      namespace,
      name: spec.name,
      revision: revised.isUnchanged ? (view.app?.revision ?? 0) : NEXT_REVISION,
      deleting: false,
      rev: snapshot.rev,
    },
    services: [...services, ...leaving],
    deployment: {
      id: "d_aaaaaaaaaaaaaaaa" as DeploymentId,
      appId: id,
      revision: NEXT_REVISION,
      fromRevision: view.app?.revision ?? null,
      kind,
      startedMs: nowMs,
      paused: false,
      resumedMs: 0,
      canariesHealthy: false,
      // What comes of it once its canaries have been promoted.
      promoted: true,
      rev: snapshot.rev,
    },
    isHalted: revised.isHalted || (revised.isUnchanged && view.hasFailed),
  };
}

function planService(change: ServiceChange, ask: PreviewAsk, rehearsed: Rehearsed): PlannedService {
  const { desired } = change;
  const { order, reason: orderReason } = updateOrder(desired.planning);
  const words = wordsOf(change, ask);
  const isCountAlone = ask.revised.isHalted || (!change.isReplaced && words.length === 1 && words[0]!.startsWith("replicas "));
  const slots = slotsOf(desired.name, rehearsed);
  const { replace } = slots.counts;
  const isUpdated = replace > 0 || (change.isChanged && !isCountAlone);
  const action = change.before === null ? "create" : isUpdated ? "update" : change.isChanged ? "scale" : "keep";
  // As when a scale takes the place of a rollout that is under way, or a node is lost.
  if (words.length === 0 && action === "update")
    words.push(`nothing, but ${replace} of its replicas ${replace === 1 ? "is" : "are"} not as wanted and replaced`);
  return { service: desired.name, action, differences: words, order, orderReason, ...slots };
}

function planRemoval(row: Row<"services">, rehearsed: Rehearsed): PlannedService {
  const { order } = updateOrder(row.planning);
  return {
    service: row.name,
    action: "remove",
    differences: ["no longer in the app"],
    order,
    orderReason: "its replicas stop",
    ...slotsOf(row.name, rehearsed),
  };
}

function wordsOf({ desired, image, before, isReplaced }: ServiceChange, { view, revised, spec }: PreviewAsk): string[] {
  const specs = view.current?.spec.services ?? {};
  const old = before !== null && Object.hasOwn(specs, desired.name) ? specs[desired.name] : undefined;
  if (old === undefined) return [];
  const words = differences(old, spec.services[desired.name]!);
  const reference = desired.planning.imageReference;
  if (revised.isHalted) return words;
  const from = imageText(imagesOf(view, view.app?.revision ?? null), reference);
  if (old.workload.image === reference && from !== "" && from !== image)
    words.unshift(`image ${reference} moved ${short(from)} → ${image === "" ? "not resolved" : short(image)}`);
  // A config's text, or how berth writes a spec down, can differ where no field does; and so can a row that a scale has
  // turned back since the app failed.
  const isTurnedBack = view.hasFailed && canonicalJson(view.current!.spec.configs) === canonicalJson(spec.configs);
  if (words.length === 0 && before?.spec !== desired.spec && !isTurnedBack) words.push("contents of a config changed");
  if (words.length === 0 && isReplaced) words.push("nothing, but its last deployment failed: what is not healthy is tried anew");
  return words;
}

/** Twelve digits of a digest tell it apart for people. */
const short = (digest: string): string => digest.replace(/^sha256:/, "").slice(0, 12);

function slotsOf(service: string, rehearsed: Rehearsed): Pick<PlannedService, "replicas" | "counts"> {
  const before = rehearsed.before.get(service) ?? new Map<string, SlotPlace>();
  const after = rehearsed.after.get(service) ?? new Map<string, SlotPlace>();
  const unplaced = new Map<string, { reason: string; message: string }>();
  for (const { slots, reason, message } of rehearsed.explanations.get(service)?.unplaced ?? [])
    for (const slot of slots) if (!after.has(slot)) unplaced.set(slot, { reason, message });
  const counts = { create: 0, replace: 0, remove: 0, keep: 0, unplaced: 0 };
  const replicas: PlannedReplica[] = [];
  for (const slot of [...new Set([...before.keys(), ...after.keys(), ...unplaced.keys()])].sort(bySlot)) {
    const [from, to] = [before.get(slot), after.get(slot)];
    const lack = unplaced.get(slot);
    const action =
      from === undefined
        ? "create"
        : to === undefined
          ? lack === undefined
            ? "remove"
            : "replace"
          : from.replica === to.replica
            ? "keep"
            : "replace";
    if (lack === undefined) counts[action] += 1;
    else counts.unplaced += 1;
    if (replicas.length < REPLICAS_SHOWN_MAX)
      replicas.push({
        slot,
        action,
        from: from?.node ?? null,
        to: to?.node ?? null,
        reason: lack?.reason ?? (action === "keep" ? "current" : (rehearsed.reasons.get(service)?.get(slot) ?? "")),
        message: lack?.message ?? "",
      });
  }
  return { replicas, counts };
}

/** Numbers by value, node ids by text. */
const bySlot = (a: string, b: string): number => Number(a) - Number(b) || (a < b ? -1 : 1);

function volumesOf(view: DeployView, spec: AppSpec): DeployPlan["volumes"] {
  const bound = new Set(view.volumes.map(({ volume }) => volume));
  const declared = Object.keys(spec.volumes);
  return [
    ...declared.map((name) => ({ name, action: bound.has(name) ? ("keep" as const) : ("create" as const) })),
    ...[...bound].filter((name) => !declared.includes(name)).map((name) => ({ name, action: "orphan" as const })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function notesOf({ spec, images, view }: PreviewAsk, rehearsed: Rehearsed): string[] {
  const notes: string[] = [];
  const together = [...colocatedServices(spec)].sort();
  if (together.length >= 2)
    notes.push(`${listed(together)} talk to each other by name or share a volume, so they are placed together on one node`);
  const unresolved = Object.values(spec.services)
    .map(({ workload }) => workload.image)
    .filter((image) => imageText(images, image) === "");
  for (const image of new Set(unresolved))
    notes.push(`${image} could not be resolved to a digest now; the first node that runs it settles which image it is`);
  const left = view.app === null ? view.volumes.filter(({ volume }) => Object.hasOwn(spec.volumes, volume)) : [];
  const places = [...new Set(left.map(({ volume, nodeId }) => `${volume} on ${view.nodeNames.get(nodeId)}`))];
  if (places.length > 0) notes.push(`data that an earlier ${spec.name} left behind is used again: ${listed(places)}`);
  const orphans = volumesOf(view, spec)
    .filter(({ action }) => action === "orphan")
    .map(({ name }) => name);
  if (orphans.length > 0)
    notes.push(`volume ${listed(orphans)} is no longer used; the data stays until the app is removed with --delete-data`);
  if (!rehearsed.isComplete) notes.push("the rollout has more steps than are rehearsed here; later places may differ");
  return notes;
}

const listed = (names: readonly string[]): string =>
  names.length <= 1 ? (names[0] ?? "") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
