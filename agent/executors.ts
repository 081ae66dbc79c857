/**
 * One executor a step. Each may be cut off at any await by a kill -9: what it leaves is seen as it is by the next
 * observation. An executor updates the picture of the engine from what it did, so that the next step need not wait for
 * an event.
 */
import { decideRestart, describeExit } from "../shared/converge/restart.ts";
import { containerName } from "../shared/converge/names.ts";
import { asRunning, memoryInBoot, type ReplicaRecord } from "../shared/converge/record.ts";
import type { StepKind, StepOf } from "../shared/converge/steps.ts";
import type { ReplicaSpec } from "../shared/model/app.ts";
import { registryOf } from "../shared/model/image.ts";
import type { ImageFact, ReplicaFact } from "../shared/wire/report.ts";
import { checkBinds, prepareBinds, runOf } from "./binds.ts";
import { containerProof, type NodeKeys, unseal } from "./crypto.ts";
import { createBody } from "./engine/create-body.ts";
import { type Engine, EngineError, type EngineInfo, type InspectedContainer, type Login } from "./engine/engine.ts";
import { containerLabels, LABEL_PROOF, sharedLabels, placeVariables } from "./engine/labels.ts";
import { allocateDevices } from "./devices.ts";
import { imageKeyOf, pullImage, type PulledEntry, removePulled, runReference } from "./images.ts";
import type { Ledger } from "./ledger.ts";
import type { Observed } from "./observed.ts";
import type { ReadPolicy } from "./policy.ts";
import type { Clock, Disk, Host, Log } from "./ports.ts";
import { isBindMissing } from "./step-failure.ts";

export interface ExecutorContext {
  readonly engine: Engine;
  readonly ledger: Ledger;
  readonly observed: Observed;
  readonly disk: Disk;
  readonly host: Host;
  readonly clock: Clock;
  readonly log: Log;
  readonly keys: NodeKeys;
  readonly node: string;
  readonly nodeName: string;
  readonly signal: AbortSignal;
  policy(): ReadPolicy;
  engineInfo(): EngineInfo;
  refreshNetworks(): Promise<void>;
  refreshVolumes(): Promise<void>;
  /** Replicas whose config files are on disk, and that have no container yet: for each they are written again. */
  readonly configsWritten: Set<string>;
  readonly pulls: Map<string, NonNullable<ReplicaFact["pull"]>>;
  /** Aborted when this process ends or nothing needs the image any more. */
  pullSignal(imageKey: string): AbortSignal;
  resolved(fact: ImageFact): void;
  /** Facts of this replica may have changed. */
  touched(): void;
  /** Work that nobody waits for, but for the end of the process. */
  background(work: Promise<void>, what: string): void;
}

export type Executors = { readonly [Kind in StepKind]: (step: StepOf<Kind>) => Promise<void> };

const LOG_TAIL_LINES = 20;
const LOG_TAIL_CHARS = 512;
const LOG_TAIL_TIMEOUT_MS = 5_000;
const STOP_GRACE_DEFAULT_MS = 10_000;
/** The image has no such program, or may not run it: the workload's own fault, as if it had ended. */
const CANNOT_RUN =
  /executable file not found|no such file or directory: unknown|permission denied: unknown|exec format error|is a directory: unknown/;
const EXIT_CANNOT_RUN = 127;

export function makeExecutors(context: ExecutorContext): Executors {
  const { engine, ledger, observed, clock } = context;

  const recordOf = (replica: string): ReplicaRecord => {
    const record = ledger.record(replica);
    if (record === undefined) throw new Error(`no record of ${replica}`);
    return record;
  };
  const specOf = (record: ReplicaRecord): ReplicaSpec => {
    const spec = ledger.spec(record.ref.spec);
    if (typeof spec === "string") throw new Error(spec);
    return spec;
  };
  const look = async (id: string): Promise<InspectedContainer | null> => {
    const inspected = await engine.inspect(id);
    if (inspected === null) observed.forget(id);
    else observed.see(inspected);
    return inspected;
  };
  const pulledList = { entries: () => ledger.pulled, put: (entries: readonly PulledEntry[]) => ledger.putPulled(entries) };
  const put = (record: ReplicaRecord): Promise<void> => ledger.putRecord(record);
  /** A lost write costs no more than a look at the container: its proof brings the record back. */
  const putLater = (record: ReplicaRecord): void => context.background(put(record), `writing the record of ${record.ref.replica}`);

  return {
    async pull(step) {
      const login = step.image.imageId === null ? await loginFor(context, step) : null;
      try {
        const local = await pullImage(step, {
          engine,
          list: pulledList,
          login,
          signal: context.pullSignal(step.imageKey),
          onProgress: (progress) => {
            context.pulls.set(step.imageKey, progress);
            context.touched();
          },
        });
        observed.images.set(step.imageKey, local.imageId);
        if (local.fact !== null) context.resolved(local.fact);
      } finally {
        context.pulls.delete(step.imageKey);
      }
    },

    async createNetwork({ name, namespace, app }) {
      await engine.createNetwork(name, sharedLabels({ namespace, app, node: context.node }));
      await context.refreshNetworks();
      if (!observed.ownNetworks.has(name)) throw new EngineError("conflict", `network ${name} was made by another at the same time`);
    },

    async createVolume({ name, namespace, app, labels }) {
      await engine.createVolume(name, { ...labels, ...sharedLabels({ namespace, app, node: context.node }) });
      await context.refreshVolumes();
      // The engine answers a create with the volume that is there already, whoever made it.
      if (!observed.ownVolumes.includes(name)) throw new EngineError("conflict", `volume ${name} was made by another at the same time`);
    },

    async writeConfigs({ replica }) {
      const spec = specOf(recordOf(replica));
      for (const [index, mount] of spec.workload.mounts.entries()) {
        if (mount.kind !== "config") continue;
        const content = await ledger.config(spec.configs[mount.config] ?? "");
        if (content === null) {
          ledger.foundIncomplete();
          throw new Error(`the content of config ${mount.config} is not in the ledger; it is fetched again`);
        }
        await context.disk.writeAtomic(configPath(replica, index), content, { mode: mount.mode, uid: mount.uid, gid: mount.gid });
      }
      context.configsWritten.add(replica);
    },

    async create({ replica }) {
      const record = recordOf(replica);
      const spec = specOf(record);
      const { policy } = context.policy();
      const problem = await prepareBinds(spec, policy, context.host);
      if (problem !== null) throw new EngineError("invalid", problem);
      const imageId = observedImage(context, record);
      const devices = allocateDevices({ reservation: spec.reservation, policy, records: ledger.records, replica });
      const body = createBody({
        spec,
        image: runReference(record.ref.image, imageId),
        labels: containerLabels({ ref: record.ref, node: context.node, proof: containerProof(context.keys, replica, record.ref.spec) }),
        place: placeVariables({ ref: record.ref, node: context.node, nodeName: context.nodeName }),
        configFiles: new Map(
          spec.workload.mounts.flatMap((mount, index) =>
            mount.kind === "config" ? [[mount.target, context.disk.absolute(configPath(replica, index))] as const] : [],
          ),
        ),
        deviceRequests: devices.requests,
        devicePaths: devices.paths,
        engine: context.engineInfo(),
      });
      // Before the engine is asked: another replica that is made meanwhile must not be given the same ones.
      ledger.rememberRecord({ ...recordOf(replica), devices: devices.held });
      let id: string;
      try {
        id = await createOrFind(context, record, body);
      } catch (error) {
        if (!isUnanswered(error)) ledger.rememberRecord({ ...recordOf(replica), devices: {} });
        if (isBindMissing(error)) context.configsWritten.delete(replica);
        throw error;
      }
      context.configsWritten.delete(replica);
      putLater({ ...recordOf(replica), containerId: id, imageId, state: "starting" });
      observed.see(madeContainer({ id, name: containerName(record.ref), imageId }));
    },

    async start({ replica, containerId }) {
      try {
        await engine.start(containerId);
      } catch (error) {
        if (error instanceof EngineError && error.code === "notFound" && !CANNOT_RUN.test(error.message)) {
          if ((await look(containerId)) === null) return;
          // It is there, so what it needs is not.
          await context.refreshNetworks();
          throw error;
        }
        if (!(error instanceof EngineError) || !CANNOT_RUN.test(error.message)) throw error;
        await failedToRun(replica, error.message);
        return;
      }
      putLater({ ...asRunning(recordOf(replica), context.host.bootId), state: "running" });
      await look(containerId);
    },

    async checkMounts({ replica, containerId }) {
      const inspected = await look(containerId);
      if (inspected === null || inspected.status !== "running") return;
      const { policy } = context.policy();
      const process = { pid: inspected.pid, containerId };
      const difference = await checkBinds({ spec: specOf(recordOf(replica)), policy, host: context.host, process });
      if (difference === null) {
        putLater({ ...recordOf(replica), mountsCheckedOf: runOf(inspected, context.host.bootId) });
        return;
      }
      await engine.kill(containerId);
      await ledger.concludeRecord({ ...recordOf(replica), state: "rejected", reason: "mount", message: difference });
      await look(containerId);
    },

    async stop({ replica, containerId }) {
      const spec = ledger.spec(recordOf(replica).ref.spec);
      await engine.stop(containerId, typeof spec === "string" ? STOP_GRACE_DEFAULT_MS : spec.workload.stopGraceMs);
      const inspected = await look(containerId);
      const record = recordOf(replica);
      if (inspected !== null) ledger.rememberRecord({ ...record, exitCode: inspected.exitCode, oomKilled: inspected.oomKilled });
    },

    async remove({ replica, containerId }) {
      await engine.remove(containerId);
      observed.forget(containerId);
      putLater({ ...recordOf(replica), containerId: null });
    },

    async conclude({ replica, state, reason, message }) {
      const record = recordOf(replica);
      const ended = record.containerId === null ? null : observed.inspected(record.containerId);
      const isExit = ended !== null && (state === "completed" || state === "failed");
      const exit = isExit ? { exitCode: ended.exitCode, oomKilled: ended.oomKilled, logTail: await readTail(context, ended.id) } : {};
      await ledger.concludeRecord({ ...recordOf(replica), ...exit, state, reason, message });
    },

    async scheduleRestart({ replica, atMs, memory }) {
      const record = recordOf(replica);
      const ended = record.containerId === null ? null : observed.inspected(record.containerId);
      if (ended === null) return;
      const exit = { exitCode: ended.exitCode, oomKilled: ended.oomKilled };
      const logTail = await readTail(context, ended.id);
      putLater({
        ...recordOf(replica),
        ...exit,
        logTail,
        message: describeExit(exit),
        memory,
        restartAtMs: atMs,
        bootId: context.host.bootId,
      });
    },

    async forget({ replica }) {
      context.configsWritten.delete(replica);
      await ledger.forget(replica);
    },

    async removeNetwork({ name }) {
      await engine.removeNetwork(name);
      await context.refreshNetworks();
    },

    async dropVolume({ name }) {
      await engine.removeVolume(name);
      await context.refreshVolumes();
    },

    async removeImage({ reference }) {
      await removePulled(reference, { engine, list: pulledList });
      observed.images.clear();
    },
  };

  async function failedToRun(replica: string, message: string): Promise<void> {
    const record = recordOf(replica);
    const exit = { exitCode: EXIT_CANNOT_RUN, oomKilled: false, readyForMs: 0, interrupted: "no" as const };
    const decision = decideRestart({
      policy: specOf(record).workload.restart,
      exit,
      memory: memoryInBoot(record, context.host.bootId),
      nowMs: clock.bootMs(),
    });
    const known = { ...record, exitCode: EXIT_CANNOT_RUN, message: message.slice(0, 1000), bootId: context.host.bootId };
    if (decision.kind === "end") await ledger.concludeRecord({ ...known, state: decision.state, reason: "cannotRun" });
    else putLater({ ...known, memory: decision.memory, restartAtMs: decision.atMs });
    if (record.containerId !== null) await look(record.containerId);
  }
}

export const configPath = (replica: string, index: number): string => `configs/${replica}/${index}`;

function observedImage({ observed }: ExecutorContext, record: ReplicaRecord): string {
  const imageId = observed.images.get(imageKeyOf(record.ref));
  if (imageId === undefined) throw new Error(`the image of ${record.ref.replica} is not known`);
  return imageId;
}

async function loginFor({ ledger, keys, log }: ExecutorContext, { namespace, image }: StepOf<"pull">): Promise<Login | null> {
  const registry = registryOf(image.reference);
  const credential = registry === null ? undefined : ledger.credential(namespace, registry);
  if (credential === undefined) return null;
  try {
    return parseLogin(new TextDecoder().decode(await unseal(keys, credential.sealed)));
  } catch (error) {
    log.warn({ registry, error: String(error) }, "the credentials of a registry cannot be opened");
    return null;
  }
}

function parseLogin(text: string): Login {
  const value: unknown = JSON.parse(text);
  const { username, password } = value as Record<string, unknown>;
  if (typeof username !== "string" || typeof password !== "string") throw new Error("credentials without username and password");
  return { username, password };
}

/** Whether it was done is not known. */
const isUnanswered = (error: unknown): boolean =>
  error instanceof EngineError && (error.code === "unreachable" || error.code === "timeout" || error.code === "aborted");

/** A name that is taken is ours if its container carries our proof: an earlier create whose answer was lost. */
async function createOrFind(context: ExecutorContext, record: ReplicaRecord, body: ReturnType<typeof createBody>): Promise<string> {
  const { engine, observed } = context;
  const name = containerName(record.ref);
  try {
    return await engine.create(name, body);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    // The image went away since it was looked at.
    if (error.code === "notFound") observed.images.clear();
    if (error.code !== "conflict") throw error;
    const holder = /"([0-9a-f]{64})"/.exec(error.message)?.[1];
    const found = holder === undefined ? null : await engine.inspect(holder);
    if (found === null || found.labels[LABEL_PROOF] !== containerProof(context.keys, record.ref.replica, record.ref.spec)) {
      throw new EngineError("conflict", `a container called ${name} exists and is not berth's; rename or remove it`, { cause: error });
    }
    return found.id;
  }
}

/** As the engine would show it now. */
const madeContainer = (made: { readonly id: string; readonly name: string; readonly imageId: string }): InspectedContainer => ({
  ...made,
  labels: {},
  status: "created",
  pid: 0,
  exitCode: 0,
  oomKilled: false,
  health: "none",
  startedWallMs: null,
  finishedWallMs: null,
  healthySinceWallMs: null,
  ports: [],
  tty: false,
});

/** The last lines of a container that has ended; none when they cannot be had in time. */
async function readTail({ engine, clock, log }: ExecutorContext, id: string): Promise<string[]> {
  const lines: string[] = [];
  const controller = new AbortController();
  const cancel = clock.after(LOG_TAIL_TIMEOUT_MS, () => controller.abort());
  try {
    await engine.logs(id, {
      follow: false,
      tail: LOG_TAIL_LINES,
      sinceMs: null,
      timestamps: false,
      signal: controller.signal,
      onLine: async ({ text }) => {
        lines.push(text.slice(0, LOG_TAIL_CHARS));
        if (lines.length > LOG_TAIL_LINES) lines.shift();
      },
    });
  } catch (error) {
    log.debug({ container: id, error: String(error) }, "no log tail");
  } finally {
    cancel();
  }
  return lines;
}
