import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { bareRootDir } from "./bareroot.ts";
import { mustExecute } from "./command.ts";
import type { EngineOptions } from "./engine.ts";
import type { RegistryLogin } from "./engine-client.ts";
import { Host } from "./host.ts";
import type { ImageSpec } from "./image.ts";
import { Machine } from "./machine.ts";
import { LabRecord } from "./record.ts";
import { type ImageReference, Registry } from "./registry.ts";
import { Router } from "./router.ts";
import { macOf, Segment } from "./segment.ts";
import { Spawned, type SpawnOptions } from "./spawned.ts";
import { install } from "../install.mjs";

export type LabOptions = {
  /** Two labs of different names can run beside each other; of one name, only one. */
  name: string;
  log?: (line: string) => void;
};

export type HostOptions = {
  /** Default true. */
  engine?: boolean | EngineOptions;
  /** Behind this router's NAT instead of on the bridge. */
  behind?: Router;
};

/** The gateway address by name, on every host: a certificate needs one. */
export const GATEWAY_NAME = "lab.test";

const FIRST_REGISTRY_PORT = 5000;

/**
 * Machines of a test, made of namespaces on the real one: hosts with container engines of their own on one
 * bridge, some behind NAT, and registries. The real machine is at `gatewayIp`, where the control plane listens.
 */
export class Lab {
  readonly name: string;
  /** Removed by close(). */
  readonly dir: string;
  readonly bridge: string;
  readonly gatewayIp: string;
  readonly subnet: string;
  readonly #record: LabRecord;
  readonly #segment: Segment;
  readonly #id: string;
  readonly #log: (line: string) => void;
  readonly #machines: Machine[] = [];
  readonly #registries: Registry[] = [];
  #spawnedCount = 0;
  #routerCount = 0;

  private constructor(record: LabRecord, { name, log = () => {} }: LabOptions) {
    const hash = createHash("sha256").update(name).digest();
    this.name = name;
    this.dir = record.dir;
    this.#record = record;
    this.#log = log;
    // Interface names have 15 characters at most: 6, a dash and a host's name of 8.
    this.#id = `bl${hash.toString("hex").slice(0, 4)}`;
    this.bridge = this.#id;
    this.#segment = new Segment({ bridge: this.bridge, prefix: `10.177.${hash.readUInt8(0)}`, enter: [] });
    this.gatewayIp = this.#segment.gatewayIp;
    this.subnet = this.#segment.subnet;
  }

  /** Sweeps what a dead run of this name left, installs what is missing, and lays the bridge. */
  static async create(options: LabOptions): Promise<Lab> {
    if (process.getuid?.() !== 0) throw new Error("The lab makes network namespaces and mounts: it needs root.");
    install(options.log);
    const record = await LabRecord.open(options.name);
    const lab = new Lab(record, options);
    try {
      await lab.#lay();
    } catch (error) {
      await lab.close();
      throw error;
    }
    return lab;
  }

  /** Makes and boots a host. Several can be made at once: `Promise.all([lab.host("h1"), lab.host("h2")])`. */
  async host(name: string, { engine = true, behind }: HostOptions = {}): Promise<Host> {
    const segment = behind?.inside ?? this.#segment;
    const machine = this.#machine(name, segment);
    const port = await this.#port(name, segment);
    const host = new Host({
      machine,
      segment,
      port,
      mac: macOf(port),
      engine: engine === true ? {} : engine === false ? undefined : engine,
      insecureSubnet: this.subnet,
      cgroupParent: `/${this.#cgroup}/${name}`,
    });
    await machine.install();
    await host.powerOn();
    return host;
  }

  /** Makes a router with NAT, for `lab.host(name, { behind: router })`. `insidePrefix` is as "192.168.1". */
  async router(name: string, { insidePrefix }: { insidePrefix?: string } = {}): Promise<Router> {
    const machine = this.#machine(name, this.#segment);
    const prefix = insidePrefix ?? `192.168.${++this.#routerCount}`;
    const port = await this.#port(name, this.#segment);
    const router = new Router({ machine, outside: this.#segment, port, insidePrefix: prefix });
    await machine.install();
    await router.start();
    return router;
  }

  /** Starts a registry on the bridge. Engines reach it without TLS. */
  async registry({ auth }: { auth?: RegistryLogin } = {}): Promise<Registry> {
    const port = FIRST_REGISTRY_PORT + this.#registries.length;
    const dir = join(this.dir, `registry-${port}`);
    const registry = new Registry({ record: this.#record, dir, ip: this.gatewayIp, port, auth });
    this.#registries.push(registry);
    await mkdir(dir);
    await registry.start();
    return registry;
  }

  /** Makes an image of busybox and files, and pushes it: to the first registry unless another is given. */
  image(nameTag: string, spec?: ImageSpec, registry = this.#registries[0]): Promise<ImageReference> {
    if (registry === undefined) throw new Error("An image needs a registry: call lab.registry() first.");
    return registry.push(nameTag, spec);
  }

  /** Makes sure that the bare Debian for `host.execBare` is there; its first build takes a minute or two. */
  async bareRoot(): Promise<void> {
    await bareRootDir(this.#log);
  }

  /** Starts a process on the real machine: the control plane, a proxy. It ends with the lab at the latest. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<Spawned> {
    const { logFile = join(this.dir, `spawned-${++this.#spawnedCount}.log`) } = options;
    return Spawned.recorded(this.#record, argv, { ...options, logFile });
  }

  /** Removes everything that the lab made. */
  async close(): Promise<void> {
    await this.#record.close();
  }

  async #lay(): Promise<void> {
    await this.#record.addLink(this.bridge);
    await this.#segment.create();
    // Where bridged packets pass the firewall, a policy of DROP on the real machine would part the hosts.
    const rule = ["FORWARD", "-i", this.bridge, "-o", this.bridge, "-j", "ACCEPT"];
    this.#record.add({ kind: "iptables", rule });
    await mustExecute(["iptables", "-w", "-I", ...rule]);
    this.#record.add({ kind: "cgroup", name: this.#cgroup });
  }

  get #cgroup(): string {
    return `berth-lab-${this.name}`;
  }

  #machine(name: string, segment: Segment): Machine {
    if (!/^[a-z][a-z0-9]{0,7}$/.test(name)) {
      throw new Error(`"${name}" cannot name a host: a lower-case letter, then letters and digits, 8 in all at most.`);
    }
    if (this.#machines.some((machine) => machine.name === name)) throw new Error(`The lab has a ${name} already.`);
    const machine = new Machine({
      name,
      dir: join(this.dir, name),
      record: this.#record,
      address: segment.allocate(),
      gatewayIp: segment.gatewayIp,
      names: { [GATEWAY_NAME]: this.gatewayIp },
    });
    this.#machines.push(machine);
    return machine;
  }

  /** Names a host's end on a segment; only on the bridge is that a link of the real machine's, to record. */
  async #port(name: string, segment: Segment): Promise<string> {
    const port = `${this.#id}-${name}`;
    if (segment === this.#segment) await this.#record.addLink(port);
    return port;
  }
}
