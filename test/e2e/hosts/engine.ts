import { rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineClient } from "./engine-client.ts";
import { childrenOf, identify, isAlive } from "./identity.ts";
import type { Machine } from "./machine.ts";
import type { Spawned } from "./spawned.ts";
import { until } from "./until.ts";

export type EngineOptions = {
  /** Containers outlive an engine that stops, as `live-restore` in daemon.json. */
  liveRestore?: boolean;
};

/** An idle engine starts in 0.5 s; with several at once on two cores, and containers to restore, in a few. */
const START_TIMEOUT_MS = 60_000;
/** It gives its containers 10 s to stop before it kills them, and itself 15 s. */
const STOP_TIMEOUT_MS = 40_000;

export type EngineGround = {
  machine: Machine;
  /** Registries without TLS may be reached here. */
  insecureSubnet: string;
  cgroupParent: string;
};

/** A container engine of a machine's own: its socket, its images, its containers. */
export class Engine {
  /** Reachable from the real machine and from the host; the host also has /var/run/docker.sock. */
  readonly socket: string;
  readonly logFile: string;
  readonly client: EngineClient;
  readonly #ground: EngineGround;
  readonly #options: EngineOptions;
  #daemon: Spawned | undefined;

  constructor(ground: EngineGround, options: EngineOptions) {
    this.socket = join(ground.machine.dir, "docker.sock");
    this.logFile = join(ground.machine.dir, "engine.log");
    this.client = new EngineClient(this.socket);
    this.#ground = ground;
    this.#options = options;
  }

  get isRunning(): boolean {
    return this.#daemon?.running ?? false;
  }

  /** Returns when the engine answers. */
  async start(): Promise<void> {
    if (this.isRunning) throw new Error(`The engine of ${this.#ground.machine.name} is already running.`);
    const daemon = await this.#ground.machine.spawn(["dockerd", ...this.#arguments()], { logFile: this.logFile });
    this.#daemon = daemon;
    const answer = await until(
      `the engine of ${this.#ground.machine.name} to answer`,
      async () => (daemon.running ? await this.client.ping() : "ended"),
      { timeoutMs: START_TIMEOUT_MS, detail: () => daemon.logTail() },
    );
    if (answer === "ended") {
      throw new Error(`The engine of ${this.#ground.machine.name} ended at its start:\n${await daemon.logTail()}`);
    }
  }

  /** Asks the engine to end; it stops its containers first unless it has `liveRestore`. */
  async stop(): Promise<void> {
    await this.#running().stop("SIGTERM", STOP_TIMEOUT_MS);
  }

  /** Kills the engine and the containerd that it runs. Containers and their shims live on. */
  async kill(): Promise<void> {
    const daemon = this.#running();
    const children = childrenOf(daemon.pid).map(identify);
    await daemon.stop("SIGKILL");
    // The kernel ends containerd with its parent; the next engine must not meet it on its way out.
    await until("containerd to end with its engine", () => {
      return children.every((child) => child === undefined || !isAlive(child));
    });
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** The engine hangs: it takes connections and answers nothing. */
  freeze(): void {
    this.#running().kill("SIGSTOP");
  }

  thaw(): void {
    this.#running().kill("SIGCONT");
  }

  /** After the machine lost its power. */
  async forget(): Promise<void> {
    this.#daemon = undefined;
    await rm(this.socket, { force: true });
  }

  #running(): Spawned {
    if (this.#daemon === undefined || !this.#daemon.running) {
      throw new Error(`The engine of ${this.#ground.machine.name} is not running.`);
    }
    return this.#daemon;
  }

  #arguments(): string[] {
    const { insecureSubnet, cgroupParent } = this.#ground;
    const values = {
      pidfile: "/run/docker.pid",
      "exec-root": "/run/docker",
      // On the machine's disk beside its layers, not in them: overlay2 cannot lie on an overlay.
      "data-root": this.dataRoot,
      "storage-driver": "overlay2",
      "cgroup-parent": cgroupParent,
      "insecure-registry": insecureSubnet,
      "live-restore": String(this.#options.liveRestore === true),
    };
    const sockets = ["-H", "unix:///run/docker.sock", "-H", `unix://${this.socket}`];
    return [...sockets, ...Object.entries(values).map(([name, value]) => `--${name}=${value}`)];
  }

  get dataRoot(): string {
    return join(this.#ground.machine.dir, "docker");
  }
}
