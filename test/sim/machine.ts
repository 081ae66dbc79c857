/** One machine: clocks that lie, a disk, an engine, a wire, and the real agent on them. */
import { createHash } from "node:crypto";
import type { Engine } from "../../agent/engine/engine.ts";
import { enrol, prepareIdentity } from "../../agent/enrol.ts";
import { identityFile, readJoinToken } from "../../agent/identity.ts";
import { Transport } from "../../agent/link/transport.ts";
import { describeNode } from "../../agent/machine.ts";
import { NodeAgent } from "../../agent/daemon.ts";
import { pause } from "../../agent/pause.ts";
import { POLICY_FILE, readPolicy } from "../../agent/policy.ts";
import { type Clock, type Host, type Http, HttpError, type HttpRequest, type Log, type Random, type Sockets } from "../../agent/ports.ts";
import { SimDisk } from "./disk.ts";
import { SimEngine } from "./engine.ts";
import type { SimRegistry } from "./images.ts";
import { type Kernel, Process } from "./kernel.ts";
import { type Door, Wire } from "./network.ts";
import type { Prng } from "./prng.ts";

const ENROL_RETRY_MS = 2_000;
const AGENT_VERSION = "0.1.0";

export interface MachineParts {
  readonly kernel: Kernel;
  readonly name: string;
  readonly site: string;
  readonly epochMs: number;
  readonly registry: SimRegistry;
  readonly door: () => Door | null;
  readonly cpuMillis: number;
  readonly memoryMiB: number;
  /** Seconds a second: 1.0005 is a clock that runs 500 ppm fast. */
  readonly rate: number;
}

export class Machine {
  readonly name: string;
  readonly site: string;
  readonly disk: SimDisk;
  readonly engine: SimEngine;
  readonly wire: Wire;
  readonly #parts: MachineParts;
  readonly #random: Prng;
  #agent: Process | null = null;
  #stopper = new AbortController();
  #boots = 0;
  #lives = 0;
  /** What the boot clock showed at a true time, since when it has had its present rate. */
  #tick = { trueMs: 0, bootMs: 0 };
  #rate: number;
  /** Wall clock minus what it would show if it were right. */
  wallErrorMs = 0;
  hardware: string;
  isOn = true;
  /** It is nobody's any more, and stays off. */
  isGone = false;
  /** How often it was made anew. */
  installs = 0;
  /** Sentences of the agent's ends, for checkers: what it threw. */
  readonly failures: string[] = [];
  /** Another machine had its key: what that one says of its containers is believed until the two are told apart. */
  wasCloned = false;
  /** Its agent has a reason to stop what it shall run: its node was removed, its owner's policy changed. */
  mayStop = false;
  /** What its owner usually allows. */
  policy: string | null = null;
  /** Called as the agent sends a request. */
  onSend: (request: HttpRequest) => void = () => {};
  /** How the agent ended, if it ended by itself. */
  ended: string | null = null;

  constructor(parts: MachineParts) {
    this.#parts = parts;
    this.#rate = parts.rate;
    this.name = parts.name;
    this.site = parts.site;
    this.#random = parts.kernel.random.fork(`machine ${parts.name}`);
    this.disk = new SimDisk(parts.kernel, parts.name);
    this.engine = new SimEngine(parts.kernel, { name: parts.name, wallMs: () => this.wallMs() }, parts.registry);
    this.wire = new Wire(parts.kernel, parts.name, parts.door);
    this.hardware = createHash("sha256").update(parts.name).digest("hex");
  }

  get isAgentUp(): boolean {
    return this.#agent !== null;
  }
  get agentProcess(): Process | null {
    return this.#agent;
  }
  /** Another one with each boot. */
  get bootId(): string {
    return `${this.hardware.slice(0, 8)}-boot-${this.#boots}`;
  }

  wallMs(): number {
    return Math.floor(this.#parts.epochMs + this.#parts.kernel.nowMs + this.wallErrorMs);
  }
  bootMs(): number {
    return Math.floor(this.#exactBootMs());
  }
  #exactBootMs(): number {
    return this.#tick.bootMs + (this.#parts.kernel.nowMs - this.#tick.trueMs) * this.#rate;
  }
  /** Its clock runs this much faster than it should, or as it was made. */
  drift(by: number | null): void {
    this.#tick = { trueMs: this.#parts.kernel.nowMs, bootMs: this.#exactBootMs() };
    this.#rate = by === null ? this.#parts.rate : 1 + by;
  }

  /** What its owner allows; null: there is no such file. */
  allow(policy: string | null): void {
    if (policy === null) this.disk.files.delete(POLICY_FILE);
    else this.disk.files.set(POLICY_FILE, new TextEncoder().encode(policy));
  }

  /** Nothing of berth's is left on it but its owner's file. */
  reinstall(): void {
    this.installs++;
    const policy = this.disk.files.get(POLICY_FILE);
    this.disk.files.clear();
    if (policy !== undefined) this.disk.files.set(POLICY_FILE, policy);
    this.mayStop = false;
  }

  /** Starts the agent; it joins first if it has not. */
  startAgent(joinToken: string): void {
    if (this.#agent !== null || !this.isOn) return;
    const process = new Process(`${this.name}/agent#${++this.#lives}`);
    this.#agent = process;
    this.#stopper = new AbortController();
    this.ended = null;
    this.#parts.kernel.log(process.name, "starts");
    this.#run(process, joinToken, this.#stopper.signal).then(
      (end) => {
        if (!process.isAlive) return;
        this.#parts.kernel.log(process.name, `ended: ${end}`);
        this.ended = end;
        this.#agent = null;
      },
      (error: unknown) => {
        if (!process.isAlive) return;
        // Nobody joins a machine without room; whoever tries is told so.
        if (this.disk.isFull && String(error).includes("ENOSPC") && !this.#hasJoined) this.ended = "no room to join";
        else this.failures.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
        this.#parts.kernel.log(process.name, `failed: ${String(error)}`);
        this.#agent = null;
      },
    );
  }

  get #hasJoined(): boolean {
    const identity = this.disk.files.get("identity.json");
    return identity !== undefined && !Buffer.from(identity).includes('"enrolled":null');
  }

  /** SIGKILL: memory is gone, the disk stays as it is. */
  killAgent(): void {
    if (this.#agent === null) return;
    this.#parts.kernel.log(this.#agent.name, "is killed");
    this.#agent.isAlive = false;
    this.#agent = null;
  }

  /** Everything on the machine ends at once. */
  powerOff(): void {
    if (!this.isOn) return;
    this.#parts.kernel.log(this.name, "loses its power");
    this.killAgent();
    this.engine.down("power");
    this.isOn = false;
  }

  powerOn(): void {
    if (this.isOn || this.isGone) return;
    this.isOn = true;
    this.#boots++;
    this.#tick = { trueMs: this.#parts.kernel.nowMs, bootMs: 0 };
    this.#parts.kernel.log(this.name, "boots");
    this.engine.up();
  }

  async #run(process: Process, joinToken: string, signal: AbortSignal): Promise<string> {
    const { kernel } = this.#parts;
    const log = logOf(kernel, process);
    const clock = this.#clockOf(process);
    const random = this.#randomOf();
    const disk = this.disk.portOf(process);
    const host = this.#hostOf();
    const engine: Engine = this.engine.portOf(process);
    const file = identityFile(disk, log);
    const token = readJoinToken(joinToken);
    if (token === null) throw new Error("not a join token");
    let identity = await file.read();
    if (identity === null || identity.enrolled === null) identity = await prepareIdentity(token, file, clock);
    if (identity === null) throw new Error("this machine belongs to another cluster");
    const transport = new Transport({ http: this.#httpOf(process), url: identity.url, agentVersion: AGENT_VERSION });
    while (identity.enrolled === null) {
      const policy = await disk.read(POLICY_FILE);
      const facts = await describeNode({
        host,
        engine: await engine.info().catch(() => null),
        policy: readPolicy(policy === null ? null : new TextDecoder().decode(policy), null).policy,
        agentVersion: AGENT_VERSION,
      });
      const result = await enrol(identity, { token, name: this.name, file, transport, clock, facts });
      if (result.kind === "enrolled") identity = result.identity;
      else if (!result.mayPass) return `refused: ${result.message}`;
      else await pause(clock, ENROL_RETRY_MS, signal);
    }
    const agent = new NodeAgent({
      identity,
      identityFile: file,
      disk,
      host,
      clock,
      random,
      log,
      engine,
      transport,
      sockets: NO_SOCKETS,
      agentVersion: AGENT_VERSION,
      onState: () => {},
    });
    return await agent.run(signal);
  }

  #httpOf(process: Process): Http {
    const port = this.wire.portOf(process);
    return {
      request: (request) => {
        this.onSend(request);
        return port.request(request);
      },
    };
  }

  #clockOf(process: Process): Clock {
    return {
      wallMs: () => this.wallMs(),
      bootMs: () => this.bootMs(),
      after: (ms, run) => this.#parts.kernel.after(ms / this.#rate, process, "", run),
    };
  }

  #randomOf(): Random {
    return { bytes: (count) => this.#random.bytes(count), fraction: () => this.#random.fraction() };
  }

  #hostOf(): Host {
    const { cpuMillis, memoryMiB } = this.#parts;
    return {
      bootId: this.bootId,
      kindOf: async (path) => (path === "/srv" || path.startsWith("/srv/") ? "directory" : null),
      realPath: async (path) => path,
      makeDirectory: async () => {},
      mountInfo: async () => null,
      identityOf: async () => null,
      isProcessOf: async () => false,
      identityInside: async () => null,
      hardware: async () => this.hardware,
      describe: async () => ({ hostname: this.name, os: "Simulated 1", kernel: "6.0", arch: "x64", cpuMillis, memoryMiB, addresses: [] }),
    };
  }
}

/** Log streams are not part of this world. */
const NO_SOCKETS: Sockets = {
  dial: async () => {
    throw new HttpError("unreachable", "no socket is opened here");
  },
};

/** Where in the source an error was made, in JSON: says which copy of the code runs, and a trace is to say what happens. */
const STACK = /(?:\\n +at [^"\\]*)+/g;

export function logOf(kernel: Kernel, process: Process): Log {
  const write = (level: string) => (fields: Record<string, unknown>, message: string) =>
    kernel.log(process.name, `${level} ${message} ${JSON.stringify(fields).replaceAll(STACK, "")}`);
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}
