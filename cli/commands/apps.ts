/** `berth ls`, `ps`, `rm`: what runs. */
import type { App, Replica, Removed } from "../../shared/api/resources.ts";
import { confirm } from "../ask.ts";
import { shortId } from "../client/prefix.ts";
import type { AppDetail } from "../client/resources.ts";
import { addressesOf, isThisMachine, slotName } from "../render/address.ts";
import { age } from "../render/amount.ts";
import { emit, emitRemoved, printTable } from "../render/output.ts";
import type { StyleName } from "../render/style.ts";
import { counted } from "../../shared/text/counted.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { ApiError } from "../client/client.ts";
import { CliError, EXIT } from "../exit.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { appPath, appsPath, replicasPath } from "./paths.ts";
import { type Place, requirePlace } from "./place.ts";
import { isLoopback } from "../client/contexts.ts";

/** One word for how it is with an app; the first that applies. */
export function appState(app: App): { text: string; style: StyleName } {
  if (app.deleting) return { text: "removing", style: "warn" };
  if (app.deployment?.state === "running") return { text: rolloutState(app.deployment), style: "warn" };
  const isReady = app.services.every((service) => service.removed || service.ready >= service.wanted);
  if (app.deployment?.state === "failed") return { text: isReady ? "deploy failed" : "degraded, deploy failed", style: "bad" };
  return isReady ? { text: "ready", style: "good" } : { text: "degraded", style: "bad" };
}

function rolloutState({ pausedBy, canariesHealthy, promoted }: NonNullable<App["deployment"]>): string {
  if (pausedBy !== null) return "paused";
  return canariesHealthy && !promoted ? "to be promoted" : "deploying";
}

export async function appLs(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.list<App>(appsPath(shell.namespace));
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "app", cell: (app) => app.name },
        { header: "status", cell: (app) => appState(app).text, style: (app) => appState(app).style },
        {
          header: "services",
          cell: (app) =>
            app.services
              .filter((service) => !service.removed)
              .map((service) => `${service.name} ${service.ready}/${service.wanted}`)
              .join(", ") || "-",
        },
        { header: "revision", cell: (app) => app.revision, align: "right" },
        { header: "deployed", cell: (app) => age(app.deployment?.started ?? null, client.nowMs()), align: "right" },
        { header: "age", cell: (app) => age(app.created, client.nowMs()), align: "right" },
      ],
      list.items,
      `no apps in namespace ${shell.namespace}; deploy one with \`berth deploy compose.yaml\``,
    ),
  );
}

/** State as shown: what the replica was last seen doing, and whether that can still be known. */
export function replicaState(replica: Replica): { text: string; style: StyleName } {
  const stopping = replica.desired === "stop" && replica.ended === null && replica.state !== "stopping" ? ", to stop" : "";
  if (replica.ended === null && replica.node.status !== "ready")
    return { text: `${replica.state}${stopping}, node ${replica.node.status}`, style: "warn" };
  if (replica.ended === null && !replica.node.engineReachable) return { text: `${replica.state}${stopping}, no engine`, style: "warn" };
  if (replica.state === "failed" || replica.state === "rejected")
    return { text: replica.reason === "" ? replica.state : `${replica.state}: ${replica.reason}`, style: "bad" };
  if (replica.state === "preparing" && replica.message !== "") return { text: `preparing: ${replica.reason}${stopping}`, style: "bad" };
  if (replica.state !== "running") return { text: `${replica.state}${stopping}`, style: replica.ended === null ? "warn" : "quiet" };
  if (replica.health === "unhealthy") return { text: `unhealthy${stopping}`, style: "bad" };
  if (replica.readySince !== null) return { text: `ready${stopping}`, style: "good" };
  return { text: `running${stopping}`, style: "warn" };
}

export interface PsOptions {
  readonly all: boolean;
}

export async function appPs(shell: Shell, filter: Place, options: PsOptions): Promise<void> {
  const client = shell.client();
  const all = await client.list<Replica>(replicasPath(shell.namespace), {
    app: filter.app,
    service: filter.service,
    ended: options.all ? true : undefined,
  });
  const list = { ...all, items: all.items.filter((replica) => filter.slot === undefined || slotName(replica) === filter.slot) };
  if (list.items.length === 0) await requirePlace(shell, filter);
  const isLocal = isLoopback(client.url);
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "replica", cell: (replica) => shortId(replica.id) },
        { header: "app", cell: (replica) => replica.app },
        { header: "service", cell: (replica) => `${replica.service}/${slotName(replica)}` },
        { header: "node", cell: (replica) => replica.node.name },
        { header: "state", cell: (replica) => replicaState(replica).text, style: (replica) => replicaState(replica).style },
        { header: "restarts", cell: (replica) => replica.restarts, align: "right" },
        { header: "age", cell: (replica) => age(replica.assigned, client.nowMs()), align: "right" },
        { header: "seen", cell: (replica) => age(replica.asOf, client.nowMs()), align: "right" },
        {
          header: "addresses",
          cell: (replica) =>
            (replica.ended === null
              ? addressesOf(replica, isThisMachine(replica.node.name, isLocal))
                  .map(({ url }) => url)
                  .join(" ")
              : "") || "-",
        },
      ],
      [...list.items].sort(byPlace),
      filter.app === undefined ? `nothing runs in namespace ${shell.namespace}` : `nothing of ${visible(filter.app)} runs`,
    ),
  );
}

/** App, service, slot as a number where it is one, living before ended. */
export function byPlace(a: Replica, b: Replica): number {
  return (
    a.app.localeCompare(b.app) ||
    a.service.localeCompare(b.service) ||
    slotName(a).localeCompare(slotName(b), "en", { numeric: true }) ||
    Number(a.ended !== null) - Number(b.ended !== null) ||
    b.assigned.localeCompare(a.assigned)
  );
}

export interface RmOptions {
  readonly yes: boolean;
  readonly deleteData: boolean;
  readonly detach: boolean;
}

/** Nothing of an app is left after its longest stop grace; two minutes cover the common ones. */
const GONE_TIMEOUT_MS = 120_000;

export async function appRm(shell: Shell, name: string, options: RmOptions): Promise<void> {
  const client = shell.client();
  const path = appPath(shell.namespace, name);
  const app = await client.get<AppDetail>(path).catch((error: unknown) => {
    if (options.deleteData && error instanceof ApiError && error.code === "not_found") return null;
    throw error;
  });
  if (app === null) {
    await dropLeftovers(shell, name, options);
    return;
  }
  const volumes = [...new Set(app.volumes.map((volume) => visible(volume.name)))];
  const running = app.services.reduce((sum, service) => sum + service.running, 0);
  const data =
    volumes.length === 0
      ? ""
      : options.deleteData
        ? ` and DELETE its data (${volumes.join(", ")})`
        : `; its volumes (${volumes.join(", ")}) stay on their nodes`;
  await confirm(shell, `Remove ${visible(name)} with ${counted(running, "running replica")}${data}?`, options.yes);
  const removed = await client.delete<Removed>(path, { deleteData: options.deleteData ? true : undefined });
  if (!options.detach) await untilGone(shell, name);
  const gone = options.deleteData && volumes.length > 0 ? `${visible(name)} is removed; ${DATA_GOES}` : `${visible(name)} is removed`;
  await emitRemoved(shell, removed, options.detach ? `${visible(name)} is being removed` : gone);
}

/** The app is gone, and its volumes stayed. */
async function dropLeftovers(shell: Shell, name: string, { yes }: RmOptions): Promise<void> {
  const client = shell.client();
  const path = appPath(shell.namespace, name);
  const { notes } = await client.delete<Removed>(path, { deleteData: true, dryRun: true });
  await confirm(shell, `${visible(name)} is gone; DELETE the data it left behind? ${notes.map(visible).join("; ")}.`, yes);
  const removed = await client.delete<Removed>(path, { deleteData: true });
  await emitRemoved(shell, removed, `nothing wants the data that ${visible(name)} left behind any more; ${DATA_GOES}`);
}

/** The control plane has it noted; whether a node has done it, only the node knows. */
const DATA_GOES = "each node deletes its part as soon as it hears of it, one that is away when it is back";

export async function untilGone(shell: Shell, name: string): Promise<void> {
  const client = shell.client();
  const begin = performance.now();
  while (true) {
    try {
      await client.get(appPath(shell.namespace, name), {}, shell.signal);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return;
      throw error;
    }
    if (performance.now() - begin > GONE_TIMEOUT_MS) {
      throw new CliError(`${visible(name)} is still being removed after 2 minutes: a node that holds replicas of it does not answer`, {
        exitCode: EXIT.timedOut,
        next: `berth ps ${name}`,
      });
    }
    await sleep(200, undefined, { signal: shell.signal });
  }
}
