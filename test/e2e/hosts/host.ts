import { BareRoot } from "./bareroot.ts";
import { type ExecOptions, type ExecResult, execute } from "./command.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import type { Machine } from "./machine.ts";
import type { Cable, Segment } from "./segment.ts";
import type { Spawned, SpawnOptions } from "./spawned.ts";

export type HostGround = {
  machine: Machine;
  segment: Segment;
  /** The name of the segment's end of the host's cable. */
  port: string;
  mac: string;
  engine: EngineOptions | undefined;
  insecureSubnet: string;
  cgroupParent: string;
};

/** A machine of the cluster: on a segment, with an engine, where an agent may run. */
export class Host {
  readonly name: string;
  readonly address: string;
  /** Files for the host: on the real machine and on the host under the same path, kept over reboots. */
  readonly dir: string;
  readonly #ground: HostGround;
  readonly #engine: Engine | undefined;
  readonly #bare: BareRoot;
  #cable: Cable = "in";

  constructor(ground: HostGround) {
    const { machine } = ground;
    this.name = machine.name;
    this.address = machine.address;
    this.dir = machine.dir;
    this.#ground = ground;
    this.#bare = new BareRoot(machine);
    if (ground.engine !== undefined) this.#engine = new Engine(ground, ground.engine);
  }

  get engine(): Engine {
    if (this.#engine === undefined) throw new Error(`${this.name} was made without an engine.`);
    return this.#engine;
  }

  /** The engine's socket, on the real machine and on the host. */
  get socket(): string {
    return this.engine.socket;
  }

  get isOn(): boolean {
    return this.#ground.machine.isOn;
  }

  /** What /proc/sys/kernel/random/boot_id says on the host. */
  get bootId(): string {
    return this.#ground.machine.bootId;
  }

  /** The number of the host's first process on the real machine: `/proc/<pid>/ns` are its namespaces. */
  get pid(): number {
    return this.#ground.machine.pid;
  }

  /** Runs a command on the host to its end; a failure is a result. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return this.#ground.machine.exec(argv, options);
  }

  /** Runs a command on the host and returns its standard output; a failure throws a CommandError. */
  run(argv: readonly string[], options?: ExecOptions): Promise<string> {
    return this.#ground.machine.run(argv, options);
  }

  spawn(argv: readonly string[], options?: SpawnOptions): Promise<Spawned> {
    return this.#ground.machine.spawn(argv, options);
  }

  /** The command line that runs `argv` here, for a caller that starts it in its own way. */
  command(argv: readonly string[], options?: Pick<ExecOptions, "env" | "cwd">): string[] {
    return this.#ground.machine.command(argv, options);
  }

  /** The docker command against this host's engine, from the real machine. */
  docker(args: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return execute(["docker", "-H", `unix://${this.socket}`, ...args], options);
  }

  /** Like `exec`, inside a Debian with nothing but curl: see BareRoot. */
  async execBare(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return this.exec(await this.#bare.command(argv, options), options);
  }

  /** Like `command`, inside that Debian. */
  async commandBare(argv: readonly string[], options?: Pick<ExecOptions, "env" | "cwd">): Promise<string[]> {
    return this.command(await this.#bare.command(argv, options));
  }

  async spawnBare(argv: readonly string[], options?: SpawnOptions): Promise<Spawned> {
    return this.spawn(await this.#bare.command(argv, options), options);
  }

  uptimeSeconds(): Promise<number> {
    return this.#ground.machine.uptimeSeconds();
  }

  /** Pulls the network cable. */
  async cutOff(): Promise<void> {
    this.#cable = "out";
    if (this.isOn) await this.#ground.segment.setCable(this.#ground.port, "out");
  }

  async reconnect(): Promise<void> {
    this.#cable = "in";
    if (this.isOn) await this.#ground.segment.setCable(this.#ground.port, "in");
  }

  /** Ends everything on the host at once, as a power cut does. Disk, images and stopped containers stay. */
  async powerOff(): Promise<void> {
    const { machine, segment, port } = this.#ground;
    await machine.cutPower();
    await segment.unplug(port);
    await this.#engine?.forget();
  }

  /** Boots the host and starts its engine. The agent is the caller's to start. */
  async powerOn({ engine = true }: { engine?: boolean } = {}): Promise<void> {
    const { machine, segment, port, mac } = this.#ground;
    await machine.boot();
    await segment.plug(machine.pid, port, { address: this.address, mac }, { cable: this.#cable });
    if (engine) await this.#engine?.start();
  }

  /**
   * A reboot by power cut: new boot id, clocks from zero, a new network namespace, /run empty.
   * With `network: false` the cable is out when it comes back, until `reconnect()`.
   */
  async reboot({ network, engine = true }: { network?: boolean; engine?: boolean } = {}): Promise<void> {
    await this.powerOff();
    if (network !== undefined) this.#cable = network ? "in" : "out";
    await this.powerOn({ engine });
  }
}
