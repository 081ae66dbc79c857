/** A host with a real engine, a registry, a small control plane, and agents on it: in this process, or in one of their own. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type AgentHandle, type AgentOptions, runAgent } from "../../agent/main.ts";
import type { Log } from "../../agent/ports.ts";
import type { AppSpecInput } from "../../shared/model/app.ts";
import { TERMINAL_STATES } from "../../shared/wire/report.ts";
import type { ContainerInspect } from "../e2e/hosts/engine-client.ts";
import type { Host } from "../e2e/hosts/host.ts";
import { Lab } from "../e2e/hosts/lab.ts";
import type { Registry } from "../e2e/hosts/registry.ts";
import type { Spawned } from "../e2e/hosts/spawned.ts";
import { until } from "../e2e/hosts/until.ts";
import { ControlPlane } from "./control-plane.ts";

export const REPO = fileURLToPath(new URL("../..", import.meta.url));
type Workload = AppSpecInput["services"][string]["workload"];

export interface LogEntry {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

export class Ground {
  readonly lab: Lab;
  readonly host: Host;
  readonly registry: Registry;
  control!: ControlPlane;
  dataDir = "";
  readonly logged: LogEntry[] = [];
  readonly said: string[] = [];
  #handle: AgentHandle | null = null;
  #process: Spawned | null = null;
  #count = 0;
  #token = "";

  private constructor(parts: { lab: Lab; host: Host; registry: Registry }) {
    this.lab = parts.lab;
    this.host = parts.host;
    this.registry = parts.registry;
  }

  static async make(name: string): Promise<Ground> {
    const lab = await Lab.create({ name });
    try {
      const [host, registry] = await Promise.all([lab.host("h1"), lab.registry()]);
      return new Ground({ lab, host, registry });
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** A new control plane and a new data directory: nothing of an earlier test is known. */
  async fresh(): Promise<void> {
    await this.end();
    await this.clean();
    this.control = await ControlPlane.start(this.lab.gatewayIp);
    this.#token = await this.control.joinToken();
    this.dataDir = join(this.host.dir, `berth-${++this.#count}`);
    this.logged.length = 0;
    this.said.length = 0;
    await mkdir(this.dataDir, { recursive: true });
  }

  /** In this process. Mounts of the host cannot be seen from here: tests of binds run it on the host. */
  async start(options: AgentOptions = {}): Promise<AgentHandle> {
    const write = (level: string) => (fields: Record<string, unknown>, message: string) =>
      void this.logged.push({ level, message, fields });
    const log: Log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
    this.#handle = await runAgent({
      dataDir: this.dataDir,
      joinToken: this.#token,
      engineSocket: this.host.socket,
      env: {},
      log,
      onState: (sentence) => this.said.push(sentence),
      ...options,
    });
    return this.#handle;
  }

  async stop(): Promise<void> {
    await this.#handle?.stop();
    this.#handle = null;
  }

  /** As if it had been killed: nothing waits for it. */
  abandon(): void {
    void this.#handle?.stop();
    this.#handle = null;
  }

  /** On the host, as a process that can be killed. */
  async spawn(script: string = join(REPO, "agent", "main.ts")): Promise<Spawned> {
    const argv = [
      process.execPath,
      script,
      "join",
      await this.control.joinToken(),
      "--foreground",
      "--data-dir",
      this.dataDir,
      "--engine",
      this.host.socket,
    ];
    this.#process = await this.host.spawn(argv, { env: { BERTH_LOG: "debug" } });
    return this.#process;
  }

  async end(): Promise<void> {
    await this.stop();
    if (this.#process?.running === true) await this.#process.stop("SIGKILL");
    this.#process = null;
    await (this.control as ControlPlane | undefined)?.close();
  }

  async close(): Promise<void> {
    await this.end();
    await this.lab.close();
  }

  /** Everything that is in the engine, ours or not. */
  async clean(): Promise<void> {
    const { client } = this.host.engine;
    for (const container of await client.containers()) await client.removeContainer(container.Id);
    await client.request("POST", "/networks/prune");
    await client.request("POST", "/volumes/prune");
  }

  async containers(): Promise<readonly ContainerInspect[]> {
    const { client } = this.host.engine;
    return Promise.all((await client.containers({ label: "berth.replica" })).map(({ Id }) => client.inspect(Id)));
  }

  async container(replica: string | undefined): Promise<ContainerInspect> {
    const fact = this.control.fact(replica);
    if (fact?.containerId === null || fact === undefined) throw new Error(`${replica} has no container`);
    return this.host.engine.client.inspect(fact.containerId);
  }

  exec(containerId: string, argv: readonly string[]): Promise<string> {
    return this.host.docker(["exec", containerId, ...argv]).then(({ stdout, stderr, code }) => {
      if (code !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
      return stdout.trim();
    });
  }

  /** Until the engine holds this many containers of ours. */
  untilContainers(count: number): Promise<readonly ContainerInspect[]> {
    return until(`${count} containers`, async () => {
      const found = await this.containers();
      return found.length === count ? found : undefined;
    });
  }

  untilEnded(replica: string | undefined): ReturnType<ControlPlane["until"]> {
    return this.control.until(replica, "ended", (fact) => TERMINAL_STATES.has(fact.state));
  }
}

/** An app of one service. */
export const appOf = (image: string, workload: Partial<Workload> = {}, app: Partial<AppSpecInput> = {}): AppSpecInput => ({
  name: "shop",
  services: { web: { workload: { image, stopGraceMs: 1_000, ...workload } } },
  ...app,
});
