/** Until the example is healthy: a live table, then its addresses, each tried. */
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { Node, Replica } from "../../shared/api/resources.ts";
import type { Client } from "../client/client.ts";
import { byPlace, replicaState } from "../commands/apps.ts";
import { replicasPath } from "../commands/paths.ts";
import { addressesOf, slotName } from "../render/address.ts";
import { bar, seconds } from "../render/amount.ts";
import { Live, spinner } from "../render/live.ts";
import { tableLines } from "../render/table.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";

const LOOK_MS = 100;
/** Longer than any start of three small containers on a machine that works. */
const HEALTHY_TIMEOUT_MS = 120_000;

export interface HelloWait {
  readonly client: Client;
  readonly app: string;
  readonly wanted: number;
  readonly beganMs: number;
}

export interface TriedUrl {
  readonly url: string;
  readonly works: boolean;
}
export interface HelloResult {
  readonly isHealthy: boolean;
  readonly replicas: readonly Replica[];
  readonly urls: readonly TriedUrl[];
}

const isReady = (replica: Replica): boolean => replica.desired === "run" && replica.readySince !== null && replica.node.status === "ready";

export async function untilHealthy(shell: Shell, wait: HelloWait): Promise<HelloResult> {
  const { terminal } = shell;
  const live = terminal.isTty ? new Live(terminal) : null;
  const begin = performance.now();
  const told = new Map<string, string>();
  try {
    while (true) {
      const [{ items }, nodes] = await Promise.all([
        wait.client.list<Replica>(replicasPath("default"), { app: wait.app }, shell.signal),
        wait.client.list<Node>("/v1/nodes", {}, shell.signal),
      ]);
      const replicas = items.filter((replica) => replica.desired === "run" && replica.ended === null).sort(byPlace);
      const ready = replicas.filter(isReady);
      if (live === null) tellChanges(shell, replicas, told);
      else live.draw(frame(shell, { replicas, readyCount: ready.length, wait, nodes: nodes.items }));
      // What is stored may be from before a reboot: the node has to have been heard since this start, and the pages answer.
      const isHeard = nodes.items.some((node) => node.lastSeen !== null);
      const isLate = performance.now() - begin > HEALTHY_TIMEOUT_MS;
      const isComplete = isHeard && ready.length >= wait.wanted && ready.length === replicas.length;
      if (isComplete || isLate) {
        const urls = await workingUrls(replicas);
        const isHealthy = isComplete && urls.every(({ works }) => works);
        if (isHealthy || isLate) {
          live?.finish(table(shell, replicas));
          return { isHealthy, replicas, urls };
        }
      }
      await sleep(LOOK_MS, undefined, { signal: shell.signal });
    }
  } finally {
    live?.clear();
  }
}

function frame(
  shell: Shell,
  state: { replicas: readonly Replica[]; readyCount: number; wait: HelloWait; nodes: readonly Node[] },
): string[] {
  const { style } = shell.terminal;
  const nowMs = performance.now();
  const { wait, nodes } = state;
  const node = nodes[0];
  const what =
    node === undefined
      ? "enrolling this machine"
      : !node.engine.reported
        ? "waiting for this machine's first report"
        : !node.engine.reachable
          ? `waiting for the container engine: ${visible(node.engine.message)}`
          : `${state.readyCount} of ${wait.wanted} replicas healthy`;
  return [
    `${style.accent(spinner(nowMs))} ${what}  ${style.quiet(seconds(nowMs - wait.beganMs))}`,
    ...(state.replicas.length === 0 ? [] : table(shell, state.replicas)),
  ];
}

function table(shell: Shell, replicas: readonly Replica[]): string[] {
  const lines = tableLines(
    [
      { header: "replica", cell: (replica: Replica) => `${replica.app}/${replica.service}/${slotName(replica)}` },
      { header: "node", cell: (replica) => replica.node.name },
      {
        header: "state",
        cell: (replica) =>
          replica.pull === null ? replicaState(replica).text : `pulling ${bar(replica.pull.currentBytes, replica.pull.totalBytes, 16)}`,
        style: (replica) => replicaState(replica).style,
      },
      { header: "health", cell: (replica) => replica.health },
      { header: "message", cell: (replica) => replica.message || "-" },
    ],
    replicas,
    { style: shell.terminal.style, columns: shell.terminal.columns - 2 },
  );
  return lines.map((text) => `  ${text}`);
}

function tellChanges(shell: Shell, replicas: readonly Replica[], told: Map<string, string>): void {
  for (const replica of replicas) {
    const text = `${replica.app}/${replica.service}/${slotName(replica)} on ${replica.node.name}: ${replicaState(replica).text}${replica.message === "" ? "" : `: ${replica.message}`}`;
    if (told.get(replica.id) === text) continue;
    told.set(replica.id, text);
    line(shell.terminal, visible(text));
  }
}

/** The address of each replica, tried. */
const workingUrls = (replicas: readonly Replica[]): Promise<TriedUrl[]> =>
  Promise.all(
    replicas
      .flatMap((replica) => addressesOf(replica, true).map(({ url }) => url))
      .map(async (url) => ({
        url,
        works: await statusOf(url).then(
          (status) => status >= 200 && status < 400,
          () => false,
        ),
      })),
  );

const statusOf = (url: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const sent = request(url, { agent: false, timeout: 2_000 }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    sent.on("timeout", () => sent.destroy(new Error("no answer")));
    sent.on("error", reject);
    sent.end();
  });
