/**
 * The agent's decisions: from (desired, remembered, observed) to the steps that are possible now. It is called again
 * after every step and every event of the engine, so a step never plans for the one after it. No steps: converged.
 *
 * Invariants. Nothing is stopped or cleared away for its absence from a manifest that may not be the newest. A step touches only a container that the ledger names. One step a key at a time. A terminal replica gets
 * no step but those that clear it away once it has left the manifest.
 */
import type { ImageSource } from "../wire/poll.ts";
import { networkName } from "./names.ts";
import { hasEnded, memoryInBoot, type RestartMemory } from "./record.ts";
import { decideRestart } from "./restart.ts";
import type { Allowed, Desired, ObservedContainer, Refused, ReplicaView, World } from "./world.ts";

/** A pulled image that nothing has needed for this long is removed: long enough to roll back without a pull. */
export const IMAGE_KEEP_MS = 3_600_000;

export interface StepArgs {
  pull: {
    readonly imageKey: string;
    readonly image: ImageSource;
    readonly policy: "missing" | "always" | "never";
    readonly namespace: string;
    readonly app: string;
    readonly revision: number;
  };
  createNetwork: { readonly name: string; readonly namespace: string; readonly app: string };
  createVolume: {
    readonly name: string;
    readonly namespace: string;
    readonly app: string;
    /** The app's own. */
    readonly labels: Readonly<Record<string, string>>;
  };
  writeConfigs: { readonly replica: string };
  create: { readonly replica: string };
  start: { readonly replica: string; readonly containerId: string };
  /** Look whether a container that runs has at its mounts what was allowed, and end it if not. */
  checkMounts: { readonly replica: string; readonly containerId: string };
  stop: { readonly replica: string; readonly containerId: string };
  remove: { readonly replica: string; readonly containerId: string };
  /** Write into the ledger that the replica has ended. */
  conclude: {
    readonly replica: string;
    readonly state: "completed" | "stopped" | "failed" | "rejected";
    readonly reason: string;
    readonly message: string;
  };
  /** Write into the ledger when the container that ended is started again. */
  scheduleRestart: { readonly replica: string; readonly atMs: number; readonly memory: RestartMemory };
  forget: { readonly replica: string };
  removeNetwork: { readonly name: string };
  dropVolume: { readonly name: string };
  removeImage: { readonly reference: string };
}
export type StepKind = keyof StepArgs;
export type StepOf<Kind extends StepKind> = { readonly kind: Kind; readonly key: string } & StepArgs[Kind];
export type Step = { [Kind in StepKind]: StepOf<Kind> }[StepKind];

/** Why a replica is not further along, for people. */
export interface Waiting {
  readonly reason: string;
  readonly message: string;
}

export interface NextSteps {
  readonly steps: readonly Step[];
  readonly waiting: ReadonlyMap<string, Waiting>;
  /** Look again then even if nothing happens; null: nothing is due. */
  readonly wakeAtMs: number | null;
}

export const keyOf = {
  replica: (id: string) => `replica:${id}`,
  image: (imageKey: string) => `image:${imageKey}`,
  network: (name: string) => `network:${name}`,
  volume: (name: string) => `volume:${name}`,
};

type Outcome = { readonly step: Step } | { readonly waiting: Waiting; readonly atMs: number | null } | null;

export const isAlive = (container: ObservedContainer): boolean =>
  container.status === "running" || container.status === "paused" || container.status === "restarting";

const step = <Kind extends StepKind>(kind: Kind, key: string, args: StepArgs[Kind]): Outcome => ({
  step: { kind, key, ...args } as unknown as Step,
});

export function nextSteps(world: World): NextSteps {
  const steps = new Map<string, Step>();
  const waiting = new Map<string, Waiting>();
  let wakeAtMs: number | null = null;
  const wakeAt = (atMs: number) => {
    wakeAtMs = wakeAtMs === null ? atMs : Math.min(wakeAtMs, atMs);
  };

  const consider = (outcome: Outcome, replica: string | null) => {
    if (outcome === null) return;
    if ("waiting" in outcome) {
      if (replica !== null) waiting.set(replica, outcome.waiting);
      if (outcome.atMs !== null) wakeAt(outcome.atMs);
      return;
    }
    const { key } = outcome.step;
    const retry = world.retries.get(key);
    if (retry !== undefined && replica !== null) waiting.set(replica, { reason: retry.reason, message: retry.message });
    if (retry !== undefined && retry.atMs > world.nowMs) {
      wakeAt(retry.atMs);
      return;
    }
    if (!world.busy.has(key) && !steps.has(key)) steps.set(key, outcome.step);
  };

  for (const [id, view] of world.replicas) {
    if (world.busy.has(keyOf.replica(id))) continue;
    if (view.desired !== null) consider(staying(id, view.desired, view, world), id);
    else if (world.isManifestConfirmed) consider(leaving(id, view), id);
  }
  if (world.isManifestConfirmed) for (const outcome of clearing(world)) consider(outcome, null);
  return { steps: [...steps.values()], waiting, wakeAtMs };
}

/** It left the manifest: its container goes, then the word that it is gone, then the memory of it. */
function leaving(id: string, view: ReplicaView): Outcome {
  const { container, record } = view;
  const key = keyOf.replica(id);
  if (container !== null && isAlive(container)) return step("stop", key, { replica: id, containerId: container.id });
  if (container !== null && container.status !== "removing") return step("remove", key, { replica: id, containerId: container.id });
  if (container !== null) return null;
  if (!hasEnded(record)) return step("conclude", key, { replica: id, state: "stopped", reason: "", message: "" });
  return view.isAcknowledged ? step("forget", key, { replica: id }) : null;
}

/** It is in the manifest. First match wins. */
function staying(id: string, desired: Desired, view: ReplicaView, world: World): Outcome {
  const { container, record } = view;
  const key = keyOf.replica(id);

  // Over: it keeps its container, for its log, until it leaves the manifest.
  if (hasEnded(record)) return null;
  if (desired.kind === "refused") return refused(id, desired, container);
  // Somebody removed the container of a replica that runs once: whether its work was done is not known.
  if (container === null && record.hasStarted && desired.spec.workload.restart.condition === "no") {
    return step("conclude", key, {
      replica: id,
      state: "failed",
      reason: "containerRemoved",
      message: 'its container was removed by somebody else, and its restart policy is "no"',
    });
  }
  if (container === null) return preparing(id, desired, view, world);
  // Whoever paused it wants it so, and lets it go on again.
  if (container.status === "paused") return { waiting: { reason: "paused", message: "paused by somebody at the engine" }, atMs: null };
  if (container.status === "running" && !view.areMountsChecked) return step("checkMounts", key, { replica: id, containerId: container.id });
  if (isAlive(container)) return null;
  if (container.status === "removing") return null;
  // The engine could not remove it cleanly: it is of no use.
  if (container.status === "dead") return step("remove", key, { replica: id, containerId: container.id });
  // Made, or made and its start failed: the wait that was decided then holds.
  if (container.status === "created" && !record.hasStarted && record.restartAtMs === null) return starting(id, desired, container, world);
  return ended(id, desired, view, world);
}

/** Not allowed here. What ran before the node's owner forbade it ends first. */
function refused(id: string, { refusal }: Refused, container: ObservedContainer | null): Outcome {
  const key = keyOf.replica(id);
  if (container !== null && isAlive(container)) return step("stop", key, { replica: id, containerId: container.id });
  return step("conclude", key, { replica: id, state: "rejected", ...refusal });
}

/** No container yet. What it needs, in order; the first thing that is missing is the next step. */
function preparing(id: string, desired: Allowed, view: ReplicaView, world: World): Outcome {
  const { ref, spec } = desired;
  const { workload } = spec;
  if (desired.hold !== null) return { waiting: desired.hold, atMs: null };
  if (!world.images.has(desired.imageKey)) {
    const { image } = ref;
    if (image.digest === null && image.imageId === null && !image.resolve) {
      return { waiting: { reason: "imageUnresolved", message: `waiting until another node has resolved ${image.reference}` }, atMs: null };
    }
    return step("pull", keyOf.image(desired.imageKey), {
      imageKey: desired.imageKey,
      image,
      policy: workload.pullPolicy,
      namespace: ref.namespace,
      app: ref.app,
      revision: ref.revision,
    });
  }
  const network = appNetwork(desired, world);
  if (network !== null) return network;
  for (const mount of workload.mounts) {
    if (mount.kind !== "volume") continue;
    const volume = spec.volumes[mount.volume];
    if (volume === undefined) continue;
    const volumeKey = keyOf.volume(volume.engineName);
    if (world.busy.has(volumeKey))
      return { waiting: { reason: "volume", message: `waiting for what is done to volume ${volume.engineName}` }, atMs: null };
    if (world.volumes.has(volume.engineName)) {
      if (volume.external || world.ownVolumes.has(volume.engineName)) continue;
      return { waiting: taken("volume", volume.engineName), atMs: null };
    }
    if (volume.external)
      return {
        waiting: { reason: "volumeMissing", message: `volume ${volume.engineName} is external and does not exist on this node` },
        atMs: null,
      };
    return step("createVolume", volumeKey, {
      name: volume.engineName,
      namespace: ref.namespace,
      app: ref.app,
      labels: volume.labels ?? {},
    });
  }
  if (!view.configsWritten) return step("writeConfigs", keyOf.replica(id), { replica: id });
  return step("create", keyOf.replica(id), { replica: id });
}

/** Two clusters on one engine may want the same name, and so may a person: what another made holds another's data. */
const taken = (kind: "network" | "volume", name: string): Waiting => ({
  reason: `${kind}Taken`,
  message: `a ${kind} called ${name} exists and this node did not make it; ${kind === "volume" ? "declare it as external to use it, or " : ""}remove it`,
});

/** The bridge that its app shares here, when that has to be made first. While a step is at it, it may be its removal. */
function appNetwork({ ref, spec }: Allowed, world: World): Outcome {
  if (spec.workload.networkMode !== "app") return null;
  const name = networkName(ref.namespace, ref.app);
  const key = keyOf.network(name);
  if (world.busy.has(key)) return { waiting: { reason: "network", message: `waiting for what is done to network ${name}` }, atMs: null };
  if (world.ownNetworks.has(name)) return null;
  if (world.networks.has(name)) return { waiting: taken("network", name), atMs: null };
  return step("createNetwork", key, { name, namespace: ref.namespace, app: ref.app });
}

/** A container keeps the name of its network, not the network: it may have gone since. */
function starting(id: string, desired: Allowed, container: ObservedContainer, world: World): Outcome {
  return appNetwork(desired, world) ?? step("start", keyOf.replica(id), { replica: id, containerId: container.id });
}

/** Its container has ended: when it is started again, or that it is not. */
function ended(id: string, desired: Allowed, view: ReplicaView, world: World): Outcome {
  const { record } = view;
  const container = view.container as ObservedContainer;
  const key = keyOf.replica(id);
  const isOfThisBoot = record.bootId === world.bootId;
  if (record.restartAtMs !== null) {
    const atMs = isOfThisBoot ? record.restartAtMs : world.nowMs;
    if (atMs <= world.nowMs) return starting(id, desired, container, world);
    return {
      waiting: { reason: "restarting", message: `${record.message}; starts again in ${Math.ceil((atMs - world.nowMs) / 1000)} s` },
      atMs,
    };
  }
  const decision = decideRestart({
    policy: desired.spec.workload.restart,
    exit: {
      exitCode: container.exitCode,
      oomKilled: container.oomKilled,
      readyForMs: container.readyForMs,
      // Made anew because somebody removed the one that ran: that did not end by itself either.
      interrupted: isOfThisBoot ? (container.interrupted || container.status === "created" ? "outside" : "no") : "host",
    },
    memory: memoryInBoot(record, world.bootId),
    nowMs: world.nowMs,
  });
  if (decision.kind === "end")
    return step("conclude", key, { replica: id, state: decision.state, reason: decision.reason, message: decision.message });
  return step("scheduleRestart", key, { replica: id, atMs: decision.atMs, memory: decision.memory });
}

/** What berth made and nothing needs any more. */
function* clearing(world: World): Iterable<Outcome> {
  const neededNetworks = new Set<string>();
  const neededVolumes = new Set<string>();
  const neededImages = new Set<string>();
  for (const { record, desired, container } of world.replicas.values()) {
    if (desired === null && container === null) continue;
    neededNetworks.add(networkName(record.ref.namespace, record.ref.app));
    if (record.imageId !== null) neededImages.add(record.imageId);
    if (desired?.kind !== "allowed") continue;
    for (const volume of Object.values(desired.spec.volumes)) neededVolumes.add(volume.engineName);
    const image = world.images.get(desired.imageKey);
    if (image !== undefined) neededImages.add(image);
  }
  for (const name of world.ownNetworks) {
    if (!neededNetworks.has(name)) yield step("removeNetwork", keyOf.network(name), { name });
  }
  for (const name of world.dropVolumes) {
    if (world.ownVolumes.has(name) && !neededVolumes.has(name)) yield step("dropVolume", keyOf.volume(name), { name });
  }
  for (const image of world.pulled) {
    if (image.unusedSinceMs === null || (image.imageId !== null && neededImages.has(image.imageId))) continue;
    const atMs = image.unusedSinceMs + IMAGE_KEEP_MS;
    if (atMs <= world.nowMs) yield step("removeImage", keyOf.image(image.reference), { reference: image.reference });
    else yield { waiting: { reason: "", message: "" }, atMs };
  }
}
