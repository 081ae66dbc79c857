/** `berth node …`: the machines. */
import type { Node, Removed } from "../../shared/api/resources.ts";
import { confirm } from "../ask.ts";
import type { NodePatch } from "../client/resources.ts";
import { resolveOne, shortId } from "../client/prefix.ts";
import { CliError, EXIT } from "../exit.ts";
import { age } from "../render/amount.ts";
import { emit, emitRemoved, printTable } from "../render/output.ts";
import type { StyleName } from "../render/style.ts";
import type { Column } from "../render/table.ts";
import { counted } from "../../shared/text/counted.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { parseChanges } from "./pairs.ts";
import { nodePath } from "./paths.ts";

/** One word for how it is with a node; the first that applies. */
export function nodeState(node: Node): { text: string; style: StyleName } {
  if (node.admission === "pending") return { text: "pending", style: "warn" };
  if (node.quarantined) return { text: "quarantined", style: "bad" };
  if (node.status === "lost") return { text: "lost", style: "bad" };
  if (node.status === "unreachable") return { text: "unreachable", style: "warn" };
  if (!node.engine.reported) return { text: "starting", style: "warn" };
  if (!node.engine.reachable) return { text: "no engine", style: "bad" };
  return { text: "ready", style: "good" };
}

const gib = (mib: number): string => `${(mib / 1024).toFixed(1)}`;

const columnsAt = (nowMs: number): Column<Node>[] => [
  { header: "node", cell: (node) => node.name },
  { header: "id", cell: (node) => shortId(node.id) },
  { header: "site", cell: (node) => node.site },
  {
    header: "status",
    cell: (node) => (node.status === "ready" ? nodeState(node).text : `${nodeState(node).text} ${age(node.statusSince, nowMs)}`),
    style: (node) => nodeState(node).style,
  },
  { header: "availability", cell: (node) => node.availability, style: (node) => (node.availability === "active" ? undefined : "warn") },
  { header: "replicas", cell: (node) => node.replicas, align: "right" },
  {
    header: "cpu",
    cell: (node) => `${(node.reserved.cpuMillis / 1000).toFixed(1)}/${(node.facts.cpuMillis / 1000).toFixed(0)}`,
    align: "right",
  },
  { header: "mem gib", cell: (node) => `${gib(node.reserved.memoryMiB)}/${gib(node.facts.memoryMiB)}`, align: "right" },
  { header: "engine", cell: (node) => node.facts.engine.version },
  { header: "seen", cell: (node) => age(node.lastSeen, nowMs), align: "right" },
  { header: "age", cell: (node) => age(node.enrolled, nowMs), align: "right" },
];

export async function nodeLs(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.list<Node>("/v1/nodes");
  await emit(shell, list, () => {
    printTable(
      shell,
      columnsAt(client.nowMs()),
      list.items,
      "no nodes yet; add one with the line that `berth join-token create --site NAME` prints",
    );
    for (const node of list.items)
      if (!node.engine.reachable && node.status === "ready") line(shell.terminal, `${visible(node.name)}: ${visible(node.engine.message)}`);
  });
}

/** The node that `typed` means: name, id, or a prefix of the id that is unique. */
export async function findNode(shell: Shell, typed: string): Promise<Node> {
  const { items } = await shell.client().list<Node>("/v1/nodes");
  return resolveOne(items, typed, { noun: "node", list: "berth node ls" });
}

async function patchNode(shell: Shell, typed: string, change: { patch: NodePatch; done: (node: Node) => string }): Promise<void> {
  const node = await findNode(shell, typed);
  const patched = await shell.client().patch<Node>(nodePath(node.id), change.patch);
  await emit(shell, patched, () => line(shell.terminal, change.done(patched)));
}

export const nodeApprove = (shell: Shell, node: string): Promise<void> =>
  patchNode(shell, node, { patch: { admission: "admitted" }, done: ({ name }) => `${visible(name)} is admitted and may be given work` });

export const nodeCordon = (shell: Shell, node: string, isCordoned: boolean): Promise<void> =>
  patchNode(shell, node, {
    patch: { availability: isCordoned ? "cordoned" : "active" },
    done: ({ name, replicas }) =>
      isCordoned ? `${visible(name)} gets no new replicas; its ${replicas} stay` : `${visible(name)} may be given work again`,
  });

export const nodeReissue = (shell: Shell, node: string): Promise<void> =>
  patchNode(shell, node, { patch: { reissue: true }, done: ({ name }) => `the quarantine of ${visible(name)} is lifted` });

export async function nodeLabel(shell: Shell, node: string, texts: readonly string[]): Promise<void> {
  const { set, remove } = parseChanges(texts, "label");
  const labels: Record<string, string | null> = { ...set };
  for (const key of remove) labels[key] = null;
  await patchNode(shell, node, { patch: { labels }, done: ({ name, labels: now }) => `${visible(name)}: ${labelText(now)}` });
}

export async function nodeTaint(shell: Shell, node: string, texts: readonly string[]): Promise<void> {
  const effect = texts.find((text) => /:[A-Za-z]+$/.test(text));
  if (effect !== undefined)
    throw new CliError(
      `"${visible(effect)}" names an effect, which taints do not have here: each keeps off the node what does not tolerate it`,
      { exitCode: EXIT.usage, next: `berth node taint ${node} ${effect.slice(0, effect.lastIndexOf(":"))}` },
    );
  // A taint may have no value: `gpu` alone is one, `gpu-` removes it.
  const { set, remove } = parseChanges(
    texts.map((text) => (text.includes("=") || text.endsWith("-") ? text : `${text}=`)),
    "taint",
  );
  const patch: NodePatch = { addTaints: Object.entries(set).map(([key, value]) => ({ key, value })), removeTaints: remove };
  await patchNode(shell, node, {
    patch,
    done: ({ name, taints }) =>
      `${visible(name)}: ${taints.length === 0 ? "no taints" : taints.map(({ key, value }) => visible(value === "" ? key : `${key}=${value}`)).join(", ")}`,
  });
}

export const labelText = (labels: Readonly<Record<string, string>>): string => {
  const pairs = Object.entries(labels).map(([key, value]) => visible(`${key}=${value}`));
  return pairs.length === 0 ? "no labels" : pairs.join(", ");
};

export async function nodeRm(shell: Shell, typed: string, options: { yes: boolean; force: boolean }): Promise<void> {
  const node = await findNode(shell, typed);
  const name = visible(node.name);
  const fate =
    node.status === "ready"
      ? `It is alive: what runs on it (${counted(node.replicas, "replica")}) is stopped and placed elsewhere.`
      : `What it held (${counted(node.replicas, "slot")}) is free for other nodes.`;
  await confirm(shell, `Remove ${name} (${node.site})? ${fate} Its key is revoked: the machine has to join anew.`, options.yes);
  const removed = await shell.client().delete<Removed>(nodePath(node.id), { force: options.force ? true : undefined });
  await emitRemoved(shell, removed, `${name} is removed, its key is revoked and ${counted(node.replicas, "slot is", "slots are")} free`);
}
