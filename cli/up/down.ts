/** `npm start -- --down`: removes what `npm start` made, and nothing that somebody else put there. */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { App, Node } from "../../shared/api/resources.ts";
import { ApiError, type Client } from "../client/client.ts";
import type { Namespace } from "../client/resources.ts";
import { TOKEN_FILE } from "../client/contexts.ts";
import { clientOf } from "../client/local.ts";
import { appPath, appsPath } from "../commands/paths.ts";
import { HELLO_APP, HELLO_DIRECTORY, startCluster } from "../commands/up.ts";
import { CliError, EXIT } from "../exit.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { EngineApi } from "./engine-api.ts";
import { ownEngine, stopOwnEngine } from "./engine.mjs";
import { removeHelloImages } from "./hello-image.ts";
import { holderOf, isAlive } from "./lock.ts";
import { Stage } from "./stage.ts";
import { volumesOf } from "./volumes.ts";

export interface DownOptions {
  readonly dataDir: string;
  readonly deleteData: boolean;
  readonly port: number;
}

/** Any of them is a cluster's memory: its database, its keys, the identity of the agent here. */
const CLUSTER_FILES = ["berth.db", "keys", "agent"];
/** A container's longest usual stop is its 10 s of grace. */
const GONE_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;

export async function down(shell: Shell, { dataDir, deleteData, port }: DownOptions): Promise<void> {
  const { terminal } = shell;
  if (!existsSync(path.join(dataDir, TOKEN_FILE))) {
    const kept = CLUSTER_FILES.filter((name) => existsSync(path.join(dataDir, name)));
    if (kept.length > 0)
      throw new CliError(`nothing was removed: ${path.join(dataDir, TOKEN_FILE)} is missing, and a cluster is here`, {
        exitCode: EXIT.failed,
        details: [`What it runs can be removed only with its admin token. Of the cluster there are: ${kept.join(", ")}.`],
        next: `put the token back into ${path.join(dataDir, TOKEN_FILE)} and run npm start -- --down again`,
      });
    await removeFiles(dataDir);
    line(terminal, "Nothing to remove: no cluster was made here.");
    return;
  }
  const holder = await holderOf(dataDir);
  // Containers are removed by the agent that runs them: when nothing runs, it is started for this.
  const stage = new Stage(terminal, performance.now());
  const cluster = holder === null ? await startCluster(shell, { dataDir, port, stage, image: false }).finally(() => stage.end()) : null;
  stage.end();
  const client = cluster?.client ?? clientOf(dataDir);
  const socket = cluster?.socket ?? ownEngine(dataDir)?.socket ?? "/var/run/docker.sock";
  const engine = new EngineApi(socket);
  try {
    const apps = await allApps(client);
    const { items: nodes } = await client.list<Node>("/v1/nodes");
    const ids = nodes.map(({ id }) => id);
    if (!deleteData) refuseOthers({ apps, volumes: await volumesOf(engine, ids), nodes });
    await removeApps(client, apps, deleteData);
    line(terminal, `Removed ${apps.length === 0 ? "no apps" : apps.map((app) => visible(app.name)).join(", ")}`);
    if (deleteData) for (const volume of await volumesOf(engine, ids)) await engine.remove(`/volumes/${encodeURIComponent(volume)}`);
  } finally {
    await cluster?.stop();
  }
  if (holder !== null) await stopHolder(holder.pid);
  await removeHelloImages(engine, dataDir);
  if (await engineGoes(shell, engine, dataDir))
    line(terminal, "Stopped Docker Engine, which was started from here; its package stays installed");
  await removeFiles(dataDir);
  line(terminal, `Removed ${dataDir}`);
}

async function allApps(client: Client): Promise<App[]> {
  const { items: namespaces } = await client.list<Namespace>("/v1/namespaces");
  const lists = await Promise.all(namespaces.map(({ name }) => client.list<App>(appsPath(name))));
  return lists.flatMap(({ items }) => items);
}

function refuseOthers({ apps, volumes, nodes }: { apps: readonly App[]; volumes: readonly string[]; nodes: readonly Node[] }): void {
  const others = apps.filter((app) => app.namespace !== "default" || app.name !== HELLO_APP);
  const details = [
    ...others.map((app) => `app ${visible(app.name)} in namespace ${visible(app.namespace)}`),
    ...volumes.map((volume) => `volume ${visible(volume)}`),
    ...(nodes.length > 1 ? [`${nodes.length} machines are joined to this cluster`] : []),
  ];
  if (details.length === 0) return;
  throw new CliError("nothing was removed, because more than the example is here:", {
    exitCode: EXIT.failed,
    details,
    next: "npm start -- --down --delete-data   (removes these too, with all their data)",
  });
}

async function removeApps(client: Client, apps: readonly App[], deleteData: boolean): Promise<void> {
  await Promise.all(
    apps.map((app) => client.delete(appPath(app.namespace, app.name), { deleteData: deleteData ? true : undefined }).catch(unlessGone)),
  );
  for (const endMs = performance.now() + GONE_TIMEOUT_MS; performance.now() < endMs; ) {
    if ((await allApps(client)).length === 0) return;
    await sleep(100);
  }
  throw new CliError("the containers are not gone after a minute", { next: "npx berth ps   (while `npm start` runs)" });
}

function unlessGone(error: unknown): void {
  if (!(error instanceof ApiError) || error.status !== 404) throw error;
}

async function stopHolder(pid: number): Promise<void> {
  process.kill(pid, "SIGTERM");
  for (const endMs = performance.now() + STOP_TIMEOUT_MS; performance.now() < endMs && isAlive(pid); ) await sleep(50);
  if (isAlive(pid)) throw new CliError(`the running berth (pid ${pid}) does not stop`, { next: `kill -9 ${pid}` });
}

/** The engine that was started from here goes too, unless other containers run in it. */
async function engineGoes(shell: Shell, engine: EngineApi, dataDir: string): Promise<boolean> {
  const own = ownEngine(dataDir);
  if (own === null) return false;
  const running = (await engine.get<unknown[]>("/containers/json").catch(() => null)) ?? [];
  if (running.length > 0) {
    line(
      shell.terminal,
      `Docker Engine (pid ${own.pid}) goes on: ${running.length} other ${running.length === 1 ? "container runs" : "containers run"} in it`,
    );
    return false;
  }
  return stopOwnEngine(dataDir);
}

async function removeFiles(dataDir: string): Promise<void> {
  await rm(path.join(HELLO_DIRECTORY, ".env"), { force: true });
  await rm(dataDir, { recursive: true, force: true });
}
