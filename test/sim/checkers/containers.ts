/** What truly runs on machines: only what was assigned, as it was assigned, as their owners allow, and undisturbed. */
import { type Policy, POLICY_FILE, readPolicy } from "../../../agent/policy.ts";
import { obtain } from "../../../shared/schedule/obtain.ts";
import type { SimContainer } from "../engine.ts";
import type { Machine } from "../machine.ts";
import type { World } from "../world.ts";
import { claimsOf } from "./answers.ts";
import { readSealed } from "./ledger.ts";
import type { Findings } from "./findings.ts";
import { REPLICA_LABEL, SPEC_LABEL } from "./health.ts";
import type { Placement } from "./placement.ts";
import { type Batch, keyOf, type NodeRow, type ReplicaRow, type Rows } from "./rows.ts";
import type { Specs } from "./specs.ts";

/** An agent looks at its policy each 5 s; what an owner forbade longer ago is not started any more. */
const POLICY_SEEN_MS = 15_000;
/** And what runs has ended, if nothing keeps the agent from it: a grace, and an engine that hangs for its whole limit. */
const POLICY_DONE_MS = 150_000;
/** What berth itself mounts into containers lies here. */
const OWN_DIRECTORY = "/var/lib/berth/";

/** What an owner wants, and since when. */
interface Wish {
  readonly text: string | null;
  readonly policy: Policy | null;
  readonly sinceMs: number;
}

export class Containers {
  readonly #world: World;
  readonly #rows: Rows;
  readonly #specs: Specs;
  readonly #findings: Findings;
  readonly #placement: Placement;
  /** Which data each slot's volume was first written to, by engine volume and slot. */
  readonly #data = new Map<string, { readonly data: string; readonly machine: string }>();
  /** The image that each reference of each revision runs, and who runs it. */
  readonly #images = new Map<string, { readonly imageId: string; readonly replica: string }>();
  /** Nodes that were asked what a tag means, by the same. */
  readonly #resolvers = new Map<string, Set<string>>();
  readonly #wishes = new Map<Machine, Wish>();
  /** Newest manifest that each agent process has taken. */
  readonly #generations = new WeakMap<object, { readonly aud: string; readonly generation: number }>();
  /** Nodes that were removed: their machines may stop all that they run. */
  readonly #removed = new Set<string>();

  constructor(parts: {
    readonly world: World;
    readonly rows: Rows;
    readonly specs: Specs;
    readonly findings: Findings;
    readonly placement: Placement;
  }) {
    this.#world = parts.world;
    this.#rows = parts.rows;
    this.#specs = parts.specs;
    this.#findings = parts.findings;
    this.#placement = parts.placement;
  }

  check(batch: Batch): void {
    for (const { before, after } of batch.of("nodes")) if (before !== null && after === null) this.#removed.add(before.id);
    for (const { after } of batch.of("images")) {
      if (after === null || after.resolver === null) continue;
      obtain(this.#resolvers, imageKey(after.app_id, after.revision, after.reference), () => new Set()).add(after.resolver);
    }
  }

  begin(): void {
    for (const { app_id, revision, reference, resolver } of this.#rows.of("images").values())
      if (resolver !== null) this.#resolvers.set(imageKey(app_id, revision, reference), new Set([resolver]));
  }

  /** A container began or ceased to run. */
  moved(machine: Machine, container: SimContainer): void {
    const id = container.body.Labels[REPLICA_LABEL];
    if (id === undefined || container.status !== "running") return;
    const node = this.#placement.everAssigned.get(id);
    const here = this.#nodeOf(machine)?.id;
    this.#findings.looks("I5");
    if (node === undefined) this.#findings.fail("I5", `${machine.name} runs ${id}, which was never assigned`);
    else if (here !== undefined && node !== here && !this.#removed.has(node))
      this.#findings.fail("I5", `${machine.name} runs ${id}, which was assigned to ${node}`);
    const row = this.#rows.get("replicas", id);
    this.#policy(machine, container, POLICY_SEEN_MS);
    if (row === undefined) return;
    this.#findings.expect("I9", container.body.Labels[SPEC_LABEL] === row.spec, () => `${id} runs another spec than it was assigned`);
    this.#image(container, row);
    this.#volumes(machine, container, row);
  }

  /** One image for one reference of one revision: the one whose digest was assigned, and until there is one its resolver's. */
  #image(container: SimContainer, row: ReplicaRow): void {
    const reference = this.#specs.of(row.spec).image;
    const key = imageKey(row.app_id, row.revision, reference);
    const assigned = this.#rows.get("images", key);
    this.#findings.looks("I9");
    if (assigned !== undefined && assigned.digest !== null) {
      const image = this.#world.registry.find(`${reference.slice(0, reference.lastIndexOf(":"))}@${assigned.digest}`);
      if (image !== null && image.id !== container.imageId)
        this.#findings.fail("I9", `${row.id} runs ${container.imageId}, and was assigned ${reference} as ${assigned.digest}`);
    } else if (assigned !== undefined && assigned.image_id === null && this.#resolvers.get(key)?.has(row.node_id) !== true) {
      this.#findings.fail("I9", `${row.id} runs ${reference}, and its node was never asked what that means`);
    }
    const first = this.#images.get(key);
    if (first === undefined) this.#images.set(key, { imageId: container.imageId, replica: row.id });
    else if (first.imageId !== container.imageId)
      this.#findings.fail("I9", `${row.id} and ${first.replica} are of one revision and run two images of ${reference}`);
  }

  /** A slot's data is in one place: it never starts elsewhere with an empty volume, and never twice at once. */
  #volumes(machine: Machine, container: SimContainer, row: ReplicaRow): void {
    for (const mount of container.body.HostConfig.Mounts) {
      if (mount.Type !== "volume" || mount.Source === undefined) continue;
      this.#findings.looks("I10");
      const volume = machine.engine.volumes.get(mount.Source);
      if (volume === undefined) continue;
      const slot = `${row.app_id} ${row.service} ${row.slot} ${mount.Source}`;
      const first = this.#data.get(slot);
      if (first === undefined) this.#data.set(slot, { data: volume.data, machine: machine.name });
      else if (first.data !== volume.data && !this.#isRemoved(first.machine))
        this.#findings.fail(
          "I10",
          `slot ${row.service}/${row.slot} has its data on ${first.machine} and runs on ${machine.name} with other data`,
        );
      for (const other of machine.engine.containers.values()) {
        if (other === container || other.status !== "running") continue;
        const otherRow = this.#rows.get("replicas", other.body.Labels[REPLICA_LABEL] ?? "");
        if (otherRow === undefined || otherRow.slot !== row.slot || otherRow.service !== row.service || otherRow.app_id !== row.app_id)
          continue;
        if (other.body.HostConfig.Mounts.some(({ Source }) => Source === mount.Source))
          this.#findings.fail("I10", `two containers of slot ${row.service}/${row.slot} write to ${mount.Source} on ${machine.name}`);
      }
    }
  }

  /** The agent asks the engine to end a container that runs. */
  stopAsked(machine: Machine, container: SimContainer, how: string): void {
    const id = container.body.Labels[REPLICA_LABEL];
    const node = this.#nodeOf(machine);
    this.#findings.looks("I5");
    if (container.isStrangers || id === undefined || !this.#placement.everAssigned.has(id)) {
      this.#findings.fail("I5", `the agent of ${machine.name} asked to ${how} ${container.name}, which is not berth's`);
      return;
    }
    this.#findings.looks("I21");
    const row = this.#rows.get("replicas", id);
    const mayStop = machine.mayStop || this.#forbidden(machine, container) !== null;
    if (row?.desired === "run" && node !== undefined && row.node_id === node.id && !mayStop)
      this.#findings.fail("I21", `the agent of ${machine.name} asked to ${how} ${container.name}, which runs as it shall`);
  }

  /** A file of an agent's ledger was written. */
  written(machine: Machine, path: string): void {
    if (path !== "manifest.json") return;
    const { files } = machine.disk;
    const { jws } = readSealed(machine, path) as { readonly jws: string };
    const { aud, generation, assignments } = claimsOf(jws);
    for (const { replica, spec } of assignments) {
      const missing = [spec, ...this.#specs.of(spec).configs].find((hash) => !files.has(`bodies/${hash}`));
      this.#findings.expect(
        "I5",
        missing === undefined,
        () => `${machine.name} accepted manifest ${generation}, and of ${replica} it has not stored ${missing}`,
      );
    }
    const process = machine.agentProcess;
    if (process === null) return;
    const held = this.#generations.get(process);
    this.#findings.expect(
      "I21",
      held === undefined || held.aud !== aud || generation >= held.generation,
      () => `${machine.name} accepted manifest ${generation} after ${held?.generation}`,
    );
    this.#generations.set(process, { aud, generation });
  }

  /** Each second: owners' wishes, and agents that gave up. */
  look(): void {
    for (const machine of this.#world.machines) {
      this.#wish(machine);
      for (const container of machine.engine.containers.values())
        if (container.status === "running" && container.body.Labels[REPLICA_LABEL] !== undefined && !isHindered(machine))
          this.#policy(machine, container, POLICY_DONE_MS);
      const node = machine.ended === "removed" ? this.#nodeOf(machine) : undefined;
      if (node !== undefined) this.#findings.fail("I39", `${machine.name} gave up all its work, and ${node.id} was not removed`);
    }
  }

  #wish(machine: Machine): Wish {
    const bytes = machine.disk.files.get(POLICY_FILE);
    const text = bytes === undefined ? null : new TextDecoder().decode(bytes);
    const known = this.#wishes.get(machine);
    // A hindrance begins the time anew in which the agent may act on it.
    if (known?.text === text && !isHindered(machine)) return known;
    const read = readPolicy(text, null);
    const wish = { text, policy: read.problem === null ? read.policy : null, sinceMs: this.#findings.nowMs };
    this.#wishes.set(machine, wish);
    return wish;
  }

  /** Whatever the control plane asked for. */
  #policy(machine: Machine, container: SimContainer, withinMs: number): void {
    const { sinceMs } = this.#wish(machine);
    const isNew = this.#findings.nowMs - sinceMs < withinMs && sinceMs > 0;
    this.#findings.looks("I8");
    const forbidden = isNew ? null : this.#forbidden(machine, container);
    if (forbidden !== null) this.#findings.fail("I8", `${machine.name} runs ${container.name} with ${forbidden}, which its owner forbids`);
  }

  #forbidden(machine: Machine, { body }: SimContainer): string | null {
    const { policy } = this.#wish(machine);
    if (policy === null) return null;
    const { HostConfig: host } = body;
    if (host.Privileged && !policy.privileged) return "privileges";
    if (host.NetworkMode === "host" && !policy.hostNetwork) return "the host's network";
    const isHosts = [host.IpcMode, host.PidMode, host.UTSMode, host.CgroupnsMode].includes("host");
    if (isHosts && !policy.hostNamespaces) return "a namespace of the host";
    const extra = policy.capabilities.includes("ALL")
      ? undefined
      : host.CapAdd.find((name) => !policy.capabilities.includes(name.replace(/^CAP_/, "")));
    if (extra !== undefined) return `the capability ${extra}`;
    const device = host.Devices.find(({ PathOnHost }) => !policy.devicePaths.includes(PathOnHost));
    if (device !== undefined) return `the device ${device.PathOnHost}`;
    const bind = host.Mounts.find(({ Type, Source = "", ReadOnly }) => {
      if (Type !== "bind" || Source.startsWith(OWN_DIRECTORY)) return false;
      const isBelow = policy.bindRoots.some((root) => Source === root || Source.startsWith(`${root.replace(/\/$/, "")}/`));
      return !isBelow && !(ReadOnly === true && policy.bindReadOnly.includes(Source));
    });
    if (bind !== undefined) return `a mount of ${bind.Source}`;
    if (host.Runtime !== undefined && !policy.runtimes.includes(host.Runtime)) return `the runtime ${host.Runtime}`;
    const spec = this.#specs.of(body.Labels[SPEC_LABEL] ?? "");
    const registry = spec.image.slice(0, spec.image.indexOf("/"));
    if (spec.image !== "" && !policy.allowedRegistries.includes("*") && !policy.allowedRegistries.includes(registry))
      return `an image of ${registry}`;
    if (spec.cpuMillis > (policy.cpuMillisMax ?? Number.POSITIVE_INFINITY)) return `${spec.cpuMillis} millicores`;
    if (spec.memoryMiB > (policy.memoryMiBMax ?? Number.POSITIVE_INFINITY)) return `${spec.memoryMiB} MiB`;
    return null;
  }

  #nodeOf(machine: Machine): NodeRow | undefined {
    for (const row of this.#rows.of("nodes").values()) if (row.name === machine.name) return row;
    return undefined;
  }
  #isRemoved(name: string): boolean {
    return [...this.#rows.of("removed_nodes").values()].some((row) => row.name === name);
  }
}

const imageKey = (app: string, revision: number, reference: string): string => keyOf(app, revision, reference);

/** Something that goes wrong now keeps its agent from doing what it shall. */
export function isHindered({ isOn, agentProcess, engine, disk }: Machine): boolean {
  if (!isOn || agentProcess === null || agentProcess.parked !== null) return true;
  return !engine.isUp || engine.isFrozen || engine.process.parked !== null || engine.faults.eventGap > 0 || disk.isFull;
}
