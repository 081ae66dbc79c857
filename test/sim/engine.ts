/**
 * A container engine without containers: the Engine port with Docker's rules (names are unique, a start needs its image,
 * network and host ports, TERM then KILL, events that a restart loses) and its faults (calls that hang until it thaws,
 * pulls that crawl or fail, processes that end). Times are the machine's.
 * It keeps the contract that a real engine keeps: test/contract/engine.ts.
 */
import { createHash } from "node:crypto";
import type { CreateBody } from "../../agent/engine/create-body.ts";
import {
  assertContainerId,
  assertObjectName,
  assertReference,
  type Engine,
  EngineError,
  type EngineEvent,
  type EngineInfo,
  type InspectedContainer,
} from "../../agent/engine/engine.ts";
import type { ContainerStatus } from "../../shared/converge/world.ts";
import type { PortBinding } from "../../shared/wire/report.ts";
import { HostPorts } from "./host-ports.ts";
import { ImageStore } from "./image-store.ts";
import type { Behaviour, RegistryImage, SimRegistry } from "./images.ts";
import { carryOut, type Kernel, Process } from "./kernel.ts";
import type { Prng } from "./prng.ts";

const READ_TIMEOUT_MS = 20_000;
const WRITE_TIMEOUT_MS = 120_000;
const STOP_EXTRA_MS = 30_000;
const PULL_SILENCE_MS = 180_000;

export interface SimContainer {
  readonly id: string;
  name: string;
  readonly body: CreateBody;
  readonly imageId: string;
  readonly behaviour: Behaviour;
  status: ContainerStatus;
  /** Rises with each start: what was planned for an earlier run is void. */
  run: number;
  exitCode: number;
  startedWallMs: number | null;
  finishedWallMs: number | null;
  /** True time. */
  startedMs: number;
  ports: readonly PortBinding[];
  /** While it is being started the engine does nothing else with it. */
  starting: Promise<void> | null;
  /** Made by somebody else who uses this engine. */
  readonly isStrangers: boolean;
}

/** It cannot do without them. */
const PREDEFINED_NETWORKS = ["none", "host", "bridge"] as const;

interface SimNetwork {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

interface SimVolume {
  readonly labels: Readonly<Record<string, string>>;
  readonly driver: string;
  /** Which data is in it: set when it is made. */
  readonly data: string;
}

export interface EngineHost {
  readonly name: string;
  wallMs(): number;
}

interface Listener {
  readonly onEvent: (event: EngineEvent) => void;
  readonly end: () => void;
}

export interface EngineFaults {
  /** Chance that an event is not delivered. */
  eventGap: number;
  /** Chance that a container ends by itself within a minute of its start. */
  crash: number;
  pullFactor: number;
  /** Chance that a container cannot be made or started: no memory, no more processes or files. */
  starved: number;
}

export const SOUND_ENGINE: EngineFaults = { eventGap: 0, crash: 0, pullFactor: 1, starved: 0 };

/** What people run beside berth. */
const STRANGERS_IMAGE = "registry.test/theirs:1";
const STRANGERS_BODY: CreateBody = {
  Image: STRANGERS_IMAGE,
  Env: [],
  Labels: {},
  Tty: false,
  OpenStdin: false,
  ExposedPorts: {},
  StopTimeout: 10,
  HostConfig: {
    RestartPolicy: { Name: "no" },
    AutoRemove: false,
    NetworkMode: "bridge",
    PortBindings: {},
    Mounts: [],
    Privileged: false,
    ReadonlyRootfs: false,
    Init: false,
    CapAdd: [],
    CapDrop: [],
    SecurityOpt: [],
    Sysctls: {},
    Ulimits: [],
    Devices: [],
    DeviceRequests: [],
    GroupAdd: [],
    ExtraHosts: [],
    Dns: [],
    DnsSearch: [],
    DnsOptions: [],
  },
};

function newContainer({
  image,
  ...made
}: Pick<SimContainer, "id" | "name" | "body" | "isStrangers"> & { readonly image: RegistryImage }): SimContainer {
  return {
    ...made,
    imageId: image.id,
    behaviour: image.behaviour,
    status: "created",
    run: 0,
    exitCode: 0,
    startedWallMs: null,
    finishedWallMs: null,
    startedMs: 0,
    ports: [],
    starting: null,
  };
}

/** `stopping`: it ends its containers before itself, and hears nobody new; `restoring`: it ends those that an earlier one left. */
type State = "up" | "stopping" | "down" | "restoring";

export class SimEngine {
  /** The daemon; containers outlive it when it is killed, and with live-restore always. */
  process: Process;
  /** What runs in the containers. */
  readonly runtime: Process;
  readonly faults: EngineFaults = { ...SOUND_ENGINE };
  /** What berth has made. */
  readonly containers = new Map<string, SimContainer>();
  readonly strangers = new Map<string, SimContainer>();
  readonly #images = new ImageStore();
  readonly #ports = new HostPorts();
  readonly #networks = new Map<string, SimNetwork>(PREDEFINED_NETWORKS.map((name) => [name, { id: name, labels: {} }]));
  readonly volumes = new Map<string, SimVolume>();
  liveRestore = false;
  /** Called when a container of berth's began or ceased to run. */
  onChange: (container: SimContainer) => void = () => {};
  /** Called when the agent asks for the end of a container that runs, or for anything that changes a stranger's. */
  onStopAsked: (container: SimContainer, how: "stop" | "kill" | "remove") => void = () => {};
  readonly #kernel: Kernel;
  readonly #host: EngineHost;
  readonly #registry: SimRegistry;
  readonly #random: Prng;
  readonly #listeners = new Set<Listener>();
  /** What resets the connection of each call that has no answer yet. */
  readonly #connections = new Set<() => void>();
  /** While it hangs: what was asked of it, in order. */
  #frozen: (() => void)[] | null = null;
  #state: State = "up";
  /** It was started while it was still on its way down. */
  #startsAgain = false;
  #serial = 0;
  #generation = 0;

  constructor(kernel: Kernel, host: EngineHost, registry: SimRegistry) {
    this.#kernel = kernel;
    this.#host = host;
    this.#registry = registry;
    this.#random = kernel.random.fork(`engine ${host.name}`);
    this.process = new Process(`${host.name}/engine`);
    this.runtime = new Process(`${host.name}/containers`);
  }

  get isUp(): boolean {
    return this.#state === "up";
  }
  get isEnding(): boolean {
    return this.#state === "stopping";
  }
  get isFrozen(): boolean {
    return this.#frozen !== null;
  }

  // What a machine and its people do to it.

  /** Asked to stop without live-restore, it ends its containers first; killed, it leaves them; a power cut ends all. */
  down(how: "stop" | "kill" | "power"): void {
    if (this.#state === "down" && how !== "power") return;
    const running = this.#running();
    if (how === "stop" && this.#state === "up" && !this.liveRestore && running.length > 0) {
      this.#state = "stopping";
      const daemon = this.process;
      void this.#terminateAll(running).then(() => this.#whenThawed(() => daemon === this.process && this.#gone()));
      return;
    }
    if (how === "stop" && this.#state === "stopping") return;
    this.#gone();
    if (how !== "power") return;
    this.#startsAgain = false;
    for (const container of running) this.#end(container, 255);
  }

  up(): void {
    if (this.#state === "stopping") this.#startsAgain = true;
    if (this.#state !== "down") return;
    const daemon = new Process(`${this.#host.name}/engine#${++this.#generation}`);
    this.process = daemon;
    const left = this.liveRestore ? [] : this.#running();
    this.#state = left.length === 0 ? "up" : "restoring";
    if (left.length > 0)
      void this.#terminateAll(left).then(() => {
        if (daemon === this.process && this.#state === "restoring") this.#state = "up";
      });
  }

  #gone(): void {
    this.#state = "down";
    this.process.isAlive = false;
    this.#frozen = null;
    for (const container of this.#all()) container.starting = null;
    for (const listener of this.#listeners) listener.end();
    this.#listeners.clear();
    for (const reset of this.#connections) reset();
    this.#connections.clear();
    if (!this.#startsAgain) return;
    this.#startsAgain = false;
    this.up();
  }

  #running(): SimContainer[] {
    return this.#all().filter(({ status }) => status === "running");
  }
  #all(): SimContainer[] {
    return [...this.strangers.values(), ...this.containers.values()];
  }
  #find(id: string): SimContainer | undefined {
    return this.containers.get(id) ?? this.strangers.get(id);
  }
  #forget(container: SimContainer): void {
    this.containers.delete(container.id);
    this.strangers.delete(container.id);
    this.#changed(container);
  }
  #changed(container: SimContainer): void {
    if (!container.isStrangers) this.onChange(container);
  }

  async #terminateAll(containers: readonly SimContainer[]): Promise<void> {
    await Promise.all(containers.map((container) => this.#terminate(container, container.body.StopTimeout * 1_000)));
  }

  freeze(): void {
    this.#frozen ??= [];
  }

  thaw(): void {
    const waiting = this.#frozen ?? [];
    this.#frozen = null;
    for (const run of waiting) run();
  }

  /** A container's process ends. */
  crash(container: SimContainer, exitCode: number): void {
    if (container.status !== "running") return;
    this.#end(container, exitCode);
    this.#emit(container, "die");
  }

  /** Somebody at the engine removes one. */
  removeByHand(container: SimContainer): void {
    if (!this.isUp) return;
    this.#emit(container, "kill", "9");
    this.crash(container, 137);
    this.#forget(container);
    this.#emit(container, "destroy");
  }

  /** Somebody at the engine runs one of their own. */
  runByHand(name: string, labels: Readonly<Record<string, string>>): void {
    if (!this.isUp) return;
    const image = this.#registry.push(STRANGERS_IMAGE);
    this.#images.pulled(STRANGERS_IMAGE, image);
    const body = { ...STRANGERS_BODY, Labels: { ...labels } };
    const container = newContainer({ id: this.#newId(), name, body, image, isStrangers: true });
    this.strangers.set(container.id, container);
    this.#emit(container, "create");
    this.#run(container);
  }

  removeStrangers(isMeant: (name: string) => boolean): void {
    for (const container of this.strangers.values()) if (isMeant(container.name)) this.removeByHand(container);
  }

  renameByHand(container: SimContainer, name: string): void {
    if (!this.isUp) return;
    container.name = name;
    this.#emit(container, "rename");
  }

  deleteImages(): void {
    for (const { image } of this.#images.clear()) this.#emitOf("image", "delete", { id: image.id, name: image.id });
  }

  /** The port, as one agent process has it. */
  portOf(caller: Process): Engine {
    const read = <Result>(what: string, effect: () => Result) =>
      this.#call(caller, what, { limitMs: READ_TIMEOUT_MS, tookMs: [1, 6] }, effect);
    const write = <Result>(
      what: string,
      tookMs: readonly [number, number],
      effect: () => Result | Promise<Result>,
      limitMs = WRITE_TIMEOUT_MS,
    ) => this.#call(caller, what, { limitMs, tookMs }, effect);
    return {
      info: () => read("info", () => this.#info()),
      listByLabel: (label) =>
        read("list", () =>
          // Newest first.
          this.#all()
            .reverse()
            .filter(({ body }) => label in body.Labels)
            .map(({ id, name, body, status }) => ({ id, names: [name], labels: body.Labels, status })),
        ),
      inspect: async (id) => {
        assertContainerId(id);
        return read("inspect", () => {
          const look = () => {
            const found = this.#find(id);
            return found === undefined ? null : this.#inspected(found);
          };
          return this.#onceStarted(id, look);
        });
      },
      create: async (name, body) => {
        assertObjectName(name);
        return write(`create ${name}`, [20, 150], () => {
          this.#starve("create");
          return this.#create(name, body);
        });
      },
      start: async (id) => {
        assertContainerId(id);
        return write(`start ${id.slice(0, 12)}`, [1, 5], () => {
          this.#starve("start");
          return this.#onceStarted(id, () => this.#start(this.#existing(id)));
        });
      },
      stop: async (id, graceMs) => {
        assertContainerId(id);
        return write(
          `stop ${id.slice(0, 12)}`,
          [1, 10],
          () => this.#onceStarted(id, () => this.#stop(id, graceMs)),
          graceMs + STOP_EXTRA_MS,
        );
      },
      kill: async (id) => {
        assertContainerId(id);
        return write(`kill ${id.slice(0, 12)}`, [5, 30], () => this.#onceStarted(id, () => this.#asked(id, "kill")), STOP_EXTRA_MS);
      },
      remove: async (id) => {
        assertContainerId(id);
        return write(`remove ${id.slice(0, 12)}`, [10, 80], () => this.#onceStarted(id, () => this.#asked(id, "remove")));
      },
      image: async (reference) => {
        assertReference(reference);
        return read("image", () => {
          const held = this.#images.find(reference);
          return held === null ? null : { id: held.image.id, digests: [...held.digests], tags: [...held.tags] };
        });
      },
      pull: (reference, { signal, onProgress }) => this.#pull(caller, reference, { signal, onProgress }),
      removeImage: async (reference) => {
        assertReference(reference);
        return write(`remove image ${reference}`, [5, 50], () => this.#removeImage(reference));
      },
      networks: () => read("networks", () => [...this.#networks].map(([name, { labels }]) => ({ name, labels }))),
      createNetwork: async (name, labels) => {
        assertObjectName(name);
        return write(`create network ${name}`, [50, 300], () => {
          if (this.#networks.has(name)) return;
          const network = { id: this.#newId(), labels };
          this.#networks.set(name, network);
          this.#emitOf("network", "create", { id: network.id, name });
        });
      },
      removeNetwork: async (name) => {
        assertObjectName(name);
        return write(`remove network ${name}`, [50, 300], () => {
          const network = this.#networks.get(name);
          if (network === undefined) return;
          if (network.id === name)
            throw new EngineError("denied", `${name} is a pre-defined network and cannot be removed`, { status: 403 });
          if (this.#running().some(({ body }) => body.HostConfig.NetworkMode === name))
            throw new EngineError("denied", `network ${name} has active endpoints`, { status: 403 });
          this.#networks.delete(name);
          this.#emitOf("network", "destroy", { id: network.id, name });
        });
      },
      volumes: () => read("volumes", () => [...this.volumes].map(([name, { driver, labels }]) => ({ name, driver, labels }))),
      createVolume: async (name, labels) => {
        assertObjectName(name);
        return write(`create volume ${name}`, [5, 50], () => this.#makeVolume(name, labels));
      },
      removeVolume: async (name) => {
        assertObjectName(name);
        return write(`remove volume ${name}`, [5, 50], () => {
          const used = this.#all().some(({ body }) => body.HostConfig.Mounts.some(({ Source }) => Source === name));
          if (used) throw new EngineError("inUse", `volume ${name} is in use`, { status: 409 });
          if (this.volumes.delete(name)) this.#emitOf("volume", "destroy", { id: name, name: "" });
        });
      },
      events: ({ onOpen, onEvent, signal }) => this.#events(caller, { onOpen, onEvent, signal }),
      logs: async () => {},
    };
  }

  /** Takes its time there; hangs with the engine; answers `timeout` after the port's limit, whatever happens later. */
  #call<Result>(
    caller: Process,
    what: string,
    { limitMs, tookMs }: { readonly limitMs: number; readonly tookMs: readonly [number, number] },
    effect: () => Result | Promise<Result>,
  ): Promise<Result> {
    const kernel = this.#kernel;
    return new Promise((resolve, reject) => {
      const tell = (delayMs: number, give: () => void) => void kernel.after(delayMs, caller, "", give);
      if (!this.isUp) {
        tell(0.2, () => reject(new EngineError("unreachable", "the engine cannot be reached: connect ECONNREFUSED")));
        return;
      }
      const daemon = this.process;
      const reset = () =>
        tell(0.2, () => end(() => reject(new EngineError("unreachable", "the engine cannot be reached: read ECONNRESET"))));
      const cancel = kernel.after(limitMs, caller, `the engine did not answer: ${what}`, () =>
        end(() => reject(new EngineError("timeout", `the engine did not answer ${what} in time`))),
      );
      const end = (give: () => void) => {
        cancel();
        this.#connections.delete(reset);
        give();
      };
      const answer = (give: () => void) => this.#whenThawed(() => tell(0.2, () => end(give)));
      this.#connections.add(reset);
      this.#whenThawed(() => {
        kernel.after(this.#random.between(...tookMs), daemon, this.#nameOf(what), () =>
          this.#whenThawed(() => carryOut(effect, { resolve, reject, answer })),
        );
      });
    });
  }

  #whenThawed(run: () => void): void {
    if (this.#frozen === null) run();
    else this.#frozen.push(() => this.#whenThawed(run));
  }

  /** The daemon's own work takes this long, and as long as it hangs. */
  async #works(forMs: number): Promise<void> {
    await this.#kernel.pause(forMs, this.process);
    await new Promise<void>((resolve) => this.#whenThawed(resolve));
  }

  /** Reads are too many to be worth a line each. */
  #nameOf(what: string): string {
    return what === "info" || what === "list" || what === "inspect" || what === "image" || what === "networks" || what === "volumes"
      ? ""
      : what;
  }

  #info(): EngineInfo {
    return {
      version: "20.10.24",
      apiVersion: "1.41",
      cgroup: "2",
      storage: "overlay2",
      name: this.#host.name,
      os: "linux",
      logDriver: "json-file",
      isRootless: false,
      isPodman: false,
      isDesktop: false,
    };
  }

  #existing(id: string): SimContainer {
    const found = this.#find(id);
    if (found === undefined) throw new EngineError("notFound", `No such container: ${id}`, { status: 404 });
    return found;
  }

  /** What is done with a container waits until its start is over. */
  #onceStarted<Result>(id: string, work: () => Result | Promise<Result>): Result | Promise<Result> {
    const starting = this.#find(id)?.starting ?? null;
    return starting === null ? work() : starting.then(() => this.#onceStarted(id, work));
  }

  #removeImage(reference: string): void {
    const held = this.#images.find(reference);
    if (held === null) return;
    const { id } = held.image;
    const isLast = this.#images.namesWithout(held, reference).size === 0;
    if (isLast && this.#all().some(({ imageId }) => imageId === id))
      throw new EngineError("inUse", `conflict: unable to remove ${reference} (must force) - a container is using it`, { status: 409 });
    this.#images.untag(held, reference);
    this.#emitOf("image", "untag", { id, name: id });
    if (isLast) this.#emitOf("image", "delete", { id, name: id });
  }

  #newId(): string {
    return createHash("sha256")
      .update(`${this.#host.name} ${++this.#serial}`)
      .digest("hex");
  }

  #starve(what: string): void {
    if (this.#random.chance(this.faults.starved))
      throw new EngineError("failed", `failed to ${what} the container: fork/exec: resource temporarily unavailable`, { status: 500 });
  }

  #create(name: string, body: CreateBody): string {
    const image = this.#images.find(body.Image)?.image ?? null;
    if (image === null) throw new EngineError("notFound", `No such image: ${body.Image}`, { status: 404 });
    for (const other of this.#all())
      if (other.name === name)
        throw new EngineError("conflict", `Conflict. The container name "/${name}" is already in use by container "${other.id}"`, {
          status: 409,
        });
    for (const mount of body.HostConfig.Mounts)
      if (mount.Type === "volume" && mount.Source !== undefined) this.#makeVolume(mount.Source, {});
    const id = this.#newId();
    const container = newContainer({ id, name, body, image, isStrangers: false });
    this.containers.set(id, container);
    this.#emit(container, "create");
    return id;
  }

  #makeVolume(name: string, labels: Readonly<Record<string, string>>): void {
    if (!this.volumes.has(name)) this.volumes.set(name, { labels, driver: "local", data: `${this.#host.name} ${++this.#serial}` });
    // Of a volume that is there already too.
    this.#emitOf("volume", "create", { id: name, name: "" });
  }

  async #start(container: SimContainer): Promise<void> {
    if (container.status === "running") return;
    let isOver: () => void = () => {};
    const starting = new Promise<void>((resolve) => {
      isOver = resolve;
    });
    container.starting = starting;
    await this.#works(this.#random.between(60, 300));
    try {
      this.#run(container);
    } finally {
      container.starting = null;
      isOver();
    }
  }

  #run(container: SimContainer): void {
    try {
      const network = container.body.HostConfig.NetworkMode;
      if (network !== "default" && !this.#networks.has(network))
        throw new EngineError("notFound", `network ${network} not found`, { status: 404 });
      container.ports = this.#ports.bind(
        container.body.HostConfig.PortBindings,
        this.#running().flatMap(({ ports }) => ports),
      );
    } catch (error) {
      if (container.exitCode === 0) container.exitCode = 128;
      throw error;
    }
    container.status = "running";
    container.run++;
    container.exitCode = 0;
    container.startedWallMs = this.#host.wallMs();
    container.startedMs = this.#kernel.nowMs;
    this.#changed(container);
    this.#emit(container, "start");
    this.#plan(container);
  }

  /** What this run does by itself. */
  #plan(container: SimContainer): void {
    const { run, behaviour } = container;
    const machine = this.runtime;
    const isThisRun = () => container.run === run && container.status === "running";
    const { exitAfterMs } = behaviour;
    if (exitAfterMs !== null)
      this.#kernel.after(exitAfterMs, machine, `${container.name} ends`, () => isThisRun() && this.crash(container, behaviour.exitCode));
    else if (this.#random.chance(this.faults.crash))
      this.#kernel.after(
        this.#random.between(100, 60_000),
        machine,
        `${container.name} crashes`,
        () => isThisRun() && this.crash(container, 139),
      );
    if (this.#hasHealthcheck(container) && behaviour.healthyAfterMs !== null)
      this.#kernel.after(behaviour.healthyAfterMs, machine, "", () => isThisRun() && this.#emit(container, "health_status: healthy"));
  }

  #hasHealthcheck(container: SimContainer): boolean {
    const test = container.body.Healthcheck?.Test;
    return test !== undefined && test[0] !== "NONE";
  }

  #healthOf(container: SimContainer): "none" | "starting" | "healthy" | "unhealthy" {
    if (!this.#hasHealthcheck(container) || container.run === 0) return "none";
    if (container.status !== "running") return "unhealthy";
    const forMs = this.#kernel.nowMs - container.startedMs;
    const { healthyAfterMs } = container.behaviour;
    if (healthyAfterMs !== null) return forMs >= healthyAfterMs ? "healthy" : "starting";
    return forMs >= 15_000 ? "unhealthy" : "starting";
  }

  #end(container: SimContainer, exitCode: number): void {
    if (container.status !== "running") return;
    container.status = "exited";
    container.exitCode = exitCode;
    container.finishedWallMs = this.#host.wallMs();
    container.ports = [];
    this.#changed(container);
  }

  async #stop(id: string, graceMs: number): Promise<void> {
    const container = this.#find(id);
    if (container === undefined || container.status !== "running") return;
    this.onStopAsked(container, "stop");
    // The engine counts it in seconds.
    await this.#terminate(container, Math.ceil(graceMs / 1_000) * 1_000);
  }

  async #terminate(container: SimContainer, graceMs: number): Promise<void> {
    const { run } = container;
    this.#emit(container, "kill", "15");
    const { stopMs } = container.behaviour;
    const listens = stopMs !== null && stopMs <= graceMs;
    await (listens ? this.#kernel.pause(stopMs, this.process) : this.#works(graceMs));
    if (container.run !== run || container.status !== "running") return;
    if (!listens) this.#emit(container, "kill", "9");
    this.crash(container, listens ? 143 : 137);
  }

  #asked(id: string, how: "kill" | "remove"): void {
    const container = this.#find(id);
    if (container?.status === "running" || container?.isStrangers === true) this.onStopAsked(container, how);
    if (how === "kill") this.#kill(id);
    else this.#remove(id);
  }

  #kill(id: string): void {
    const container = this.#find(id);
    if (container === undefined || container.status !== "running") return;
    this.#emit(container, "kill", "9");
    this.crash(container, 137);
  }

  #remove(id: string): void {
    const container = this.#find(id);
    if (container === undefined) return;
    this.#kill(id);
    this.#forget(container);
    this.#emit(container, "destroy");
  }

  async #pull(
    caller: Process,
    reference: string,
    {
      signal,
      onProgress,
    }: { readonly signal: AbortSignal; readonly onProgress: (progress: { currentBytes: number; totalBytes: number }) => void },
  ): Promise<void> {
    assertReference(reference);
    if (signal.aborted) throw new EngineError("aborted", "called off");
    const { weather } = this.#registry;
    const tookMs = this.#random.between(200, 4_000) * this.faults.pullFactor;
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(new EngineError("aborted", "called off")), { once: true });
    });
    // The race below takes it; once the pull has won, nobody does.
    aborted.catch(() => {});
    const pulled = this.#call(caller, `pull ${reference}`, { limitMs: PULL_SILENCE_MS + tookMs, tookMs: [tookMs, tookMs] }, () => {
      const fail = (code: "denied" | "failed" | "notFound", message: string, status: number): never => {
        throw new EngineError(code, message, { status });
      };
      if (weather === "denied") fail("denied", `unauthorized: authentication required`, 500);
      if (weather === "limited") fail("failed", "toomanyrequests: you have reached your pull rate limit", 500);
      if (weather === "broken") fail("failed", "received unexpected HTTP status: 500 Internal Server Error", 500);
      if (weather === "away") fail("failed", "dial tcp: lookup registry.test: i/o timeout", 500);
      const image = this.#registry.find(reference);
      if (image === null) return fail("notFound", `manifest for ${reference} not found: manifest unknown`, 404);
      // The engine calls a pull off whose caller has gone, if there is anything left to call off.
      if (signal.aborted || (!caller.isAlive && this.#random.chance(0.5))) return;
      onProgress({ currentBytes: 1_000, totalBytes: 1_000 });
      this.#images.pulled(reference, image);
    });
    await Promise.race([pulled, aborted]);
  }

  async #events(
    caller: Process,
    {
      onOpen,
      onEvent,
      signal,
    }: { readonly onOpen: () => void; readonly onEvent: (event: EngineEvent) => void; readonly signal: AbortSignal },
  ): Promise<void> {
    let close: () => void = () => {};
    const closed = new Promise<void>((resolve) => {
      close = resolve;
    });
    // One stream: nothing overtakes what was sent before it.
    let arrivedMs = 0;
    const deliver = (delayMs: number, arrive: () => void) => {
      arrivedMs = Math.max(arrivedMs, this.#kernel.nowMs + delayMs);
      this.#kernel.after(arrivedMs - this.#kernel.nowMs, caller, "", () => !signal.aborted && arrive());
    };
    const listener: Listener = {
      onEvent: (event) => deliver(this.#random.between(0.5, 20), () => onEvent(event)),
      end: () => deliver(0.2, close),
    };
    signal.addEventListener(
      "abort",
      () => {
        this.#listeners.delete(listener);
        close();
      },
      { once: true },
    );
    await this.#call(caller, "info", { limitMs: READ_TIMEOUT_MS, tookMs: [1, 5] }, () => void this.#listeners.add(listener));
    onOpen();
    await closed;
    this.#listeners.delete(listener);
  }

  #emit(container: SimContainer, action: string, signal: string | null = null): void {
    this.#emitOf("container", action, { id: container.id, name: container.name }, signal);
  }

  #emitOf(
    type: EngineEvent["type"],
    action: string,
    of: { readonly id: string; readonly name: string },
    signal: string | null = null,
  ): void {
    this.#kernel.log(this.process.name, `${type} ${action} ${of.name || of.id}`);
    this.#whenThawed(() => {
      const event: EngineEvent = { type, action, ...of, signal, time: String(Math.round(this.#host.wallMs() * 1e6)) };
      for (const listener of this.#listeners) if (!this.#random.chance(this.faults.eventGap)) listener.onEvent(event);
    });
  }

  #inspected(container: SimContainer): InspectedContainer {
    const health = this.#healthOf(container);
    const { healthyAfterMs } = container.behaviour;
    return {
      id: container.id,
      name: container.name,
      labels: container.body.Labels,
      imageId: container.imageId,
      status: container.status,
      pid: container.status === "running" ? 1_000 + container.run : 0,
      exitCode: container.exitCode,
      oomKilled: false,
      health,
      startedWallMs: container.startedWallMs,
      finishedWallMs: container.finishedWallMs,
      healthySinceWallMs: health === "healthy" ? (container.startedWallMs ?? 0) + (healthyAfterMs ?? 0) : null,
      ports: container.ports,
      tty: false,
    };
  }
}
