import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Agent } from "undici";
import type { App, Deployment, Event, JoinTokenCreated, Node, Replica, Why } from "../../shared/api/resources.ts";
import { type ExecResult, execute } from "./hosts/command.ts";
import type { Host } from "./hosts/host.ts";
import type { Lab } from "./hosts/lab.ts";
import type { Spawned } from "./hosts/spawned.ts";
import { until } from "./hosts/until.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const berth = join(root, "cli", "berth.mjs");
const PORT = 7443;

interface BerthOptions {
  readonly timeoutMs?: number;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * A control plane on the lab's gateway with TLS of its own, driven as a user drives it: by the `berth` command
 * with a context, and by its API where a test looks at facts.
 */
export class Cluster {
  readonly lab: Lab;
  readonly url: string;
  readonly #dataDir: string;
  readonly #configDir: string;
  readonly #serverArgs: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  readonly #agents = new Map<string, Spawned>();
  #server: Spawned | undefined;
  #token = "";
  #root = "";

  /** `serverArgs` beside where to listen and to keep data; `env` for each command of the operator. */
  constructor(lab: Lab, { serverArgs = [], env = {} }: { serverArgs?: readonly string[]; env?: Readonly<Record<string, string>> } = {}) {
    this.lab = lab;
    this.#serverArgs = serverArgs;
    this.#env = env;
    this.url = `https://${lab.gatewayIp}:${PORT}`;
    this.#dataDir = join(lab.dir, "control-plane");
    this.#configDir = join(lab.dir, "config");
  }

  /** Starts (or starts again) the control plane and waits until it is ready. */
  async startServer(): Promise<void> {
    await mkdir(this.#configDir, { recursive: true });
    const argv = [
      process.execPath,
      berth,
      "server",
      "--listen",
      `${this.lab.gatewayIp}:${PORT}`,
      "--data-dir",
      this.#dataDir,
      ...this.#serverArgs,
    ];
    const server = await this.lab.spawn(argv, { cwd: root, logFile: join(this.lab.dir, "control-plane.log") });
    this.#server = server;
    await until(
      "the control plane to be ready",
      async () => {
        if (!server.running) throw new Error("it ended");
        this.#token = (await readFile(join(this.#dataDir, "admin-token"), "utf8")).trim();
        const { root } = JSON.parse(await readFile(join(this.#dataDir, "address.json"), "utf8")) as { root: string | null };
        // A certificate of the operator's own is known by its authority.
        if (root === null && this.#serverArgs.length === 0) return false;
        this.#root = root ?? "";
        return (await this.request("GET", "/readyz")).status === 200;
      },
      { timeoutMs: 30_000, detail: () => server.logTail() },
    );
  }

  async killServer(): Promise<void> {
    await this.#server?.stop("SIGKILL");
  }

  async stopServer(): Promise<void> {
    await this.#server?.stop("SIGTERM", 15_000);
  }

  async request(method: string, path: string, body?: unknown): Promise<{ status: number; text: string }> {
    const answer = await this.#dispatcher.request({
      origin: this.url,
      path,
      method: method as "GET",
      headers: { authorization: `Bearer ${this.#token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      headersTimeout: 40_000,
    });
    return { status: answer.statusCode, text: await answer.body.text() };
  }

  async api<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { status, text } = await this.request(method, path, body);
    if (status < 200 || status > 299) throw new Error(`${method} ${path} answered ${status}: ${text.slice(0, 600)}`);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }

  async #items<T>(path: string): Promise<T[]> {
    return (await this.api<{ items: T[] }>("GET", path)).items;
  }

  nodes(): Promise<Node[]> {
    return this.#items("/v1/nodes");
  }

  /** Replicas that have not ended. */
  replicas(app: string): Promise<Replica[]> {
    return this.#items(`/v1/namespaces/default/replicas?app=${app}`);
  }

  app(app: string): Promise<App> {
    return this.api("GET", `/v1/namespaces/default/apps/${app}`);
  }

  apps(): Promise<App[]> {
    return this.#items("/v1/namespaces/default/apps");
  }

  deployments(app: string): Promise<Deployment[]> {
    return this.#items(`/v1/namespaces/default/deployments?app=${app}`);
  }

  events(app: string): Promise<Event[]> {
    return this.#items(`/v1/namespaces/default/events?app=${app}`);
  }

  why(app: string): Promise<Why[]> {
    return this.#items(`/v1/namespaces/default/apps/${app}/why`);
  }

  /** Runs the `berth` command as the operator. */
  berth(args: readonly string[], { timeoutMs = 120_000, cwd = root, env = {} }: BerthOptions = {}): Promise<ExecResult> {
    return execute([process.execPath, berth, ...args], {
      cwd,
      timeoutMs,
      env: {
        BERTH_URL: this.url,
        BERTH_TOKEN: this.#token,
        ...(this.#root === "" ? {} : { BERTH_ROOT: this.#root }),
        XDG_CONFIG_HOME: this.#configDir,
        NO_COLOR: "1",
        ...this.#env,
        ...env,
      },
    });
  }

  async mustBerth(args: readonly string[], options?: BerthOptions): Promise<string> {
    const result = await this.berth(args, options);
    if (result.code !== 0) throw new Error(`berth ${args.join(" ")} exited ${result.code}:\n${result.stdout}\n${result.stderr}`);
    return result.stdout;
  }

  /** Writes a Compose file and deploys it, waiting for the end. */
  async deploy(name: string, compose: string, args: readonly string[] = []): Promise<ExecResult> {
    return this.berth(["deploy", await this.composeFile(name, compose), "-y", ...args]);
  }

  async composeFile(name: string, compose: string): Promise<string> {
    const dir = join(this.lab.dir, "apps", name);
    await mkdir(dir, { recursive: true });
    const file = join(dir, "compose.yaml");
    await writeFile(file, compose);
    return file;
  }

  async mustDeploy(name: string, compose: string, args: readonly string[] = []): Promise<string> {
    const result = await this.deploy(name, compose, args);
    if (result.code !== 0) throw new Error(`deploying ${name} exited ${result.code}:\n${result.stdout}\n${result.stderr}`);
    return result.stdout;
  }

  joinToken(site: string): Promise<JoinTokenCreated> {
    return this.api("POST", "/v1/join-tokens", { site, uses: 10 });
  }

  /** Joins by the printed line, pasted verbatim into a shell on a Debian that has nothing but curl. */
  async join(host: Host, site: string): Promise<void> {
    const { command } = await this.joinToken(site);
    const joined = await host.execBare(["sh", "-c", command], { timeoutMs: 120_000 });
    if (joined.code !== 0) throw new Error(`joining ${host.name} exited ${joined.code}:\n${joined.stdout}\n${joined.stderr}`);
    await this.startAgent(host);
    await until(
      `${host.name} to be ready`,
      async () => (await this.nodes()).some((node) => node.name === host.name && node.status === "ready" && node.engine.reachable),
      { timeoutMs: 30_000, detail: () => this.agentLog(host) },
    );
  }

  /** Starts the agent as its unit would: what the join script installed. */
  async startAgent(host: Host): Promise<void> {
    const agent = await host.spawnBare(["/usr/local/lib/berth/current/node", "/usr/local/lib/berth/current/agent.mjs", "run"], {
      logFile: join(host.dir, "agent.log"),
    });
    this.#agents.set(host.name, agent);
  }

  async killAgent(host: Host): Promise<void> {
    await this.#agents.get(host.name)?.stop("SIGKILL");
  }

  agentLog(host: Host): Promise<string> {
    return this.#agents.get(host.name)?.logTail() ?? Promise.resolve("no agent was started");
  }

  /** Waits until the app has exactly `count` replicas, all running and ready on nodes that are ready. */
  settled(app: string, count: number, timeoutMs = 60_000): Promise<Replica[]> {
    return until(
      `${app} to settle at ${count}`,
      async () => {
        const replicas = await this.replicas(app);
        const serving = replicas.filter(
          (replica) =>
            replica.state === "running" &&
            replica.readySince !== null &&
            replica.desired === "run" &&
            replica.node.status === "ready" &&
            replica.node.engineReachable,
        );
        return replicas.length === count && serving.length === count ? replicas : undefined;
      },
      {
        timeoutMs,
        detail: async () =>
          (await this.replicas(app))
            .map(
              (replica) =>
                `${replica.service}/${replica.slot} ${replica.node.name}(${replica.node.status}) ${replica.desired} ${replica.state} ${replica.reason} ${replica.message}`,
            )
            .join("\n"),
      },
    );
  }
}

/** Containers that berth runs on a host, id → name. */
export async function containersOf(host: Host, app: string): Promise<Map<string, string>> {
  const listed = await host.docker(["ps", "--no-trunc", "--filter", `label=berth.app=${app}`, "--format", "{{.ID}} {{.Names}}"]);
  return new Map(
    listed.stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split(" ") as [string, string]),
  );
}

/** The networks that berth made on a host. */
export async function networksOf(host: Host): Promise<{ name: string; app: string }[]> {
  const listed = await host.docker(["network", "ls", "--filter", "label=berth.app", "--format", '{{.Name}} {{.Label "berth.app"}}']);
  return listed.stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => line.split(" ") as [string, string])
    .map(([name, app]) => ({ name, app }));
}
