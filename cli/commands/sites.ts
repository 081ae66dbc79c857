/** `berth site …` and `berth namespace …`. */
import type { Removed } from "../../shared/api/resources.ts";
import { confirm } from "../ask.ts";
import { segment } from "../client/client.ts";
import type { Namespace, Site } from "../client/resources.ts";
import { age } from "../render/amount.ts";
import { emit, emitRemoved, printTable } from "../render/output.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { labelText } from "./nodes.ts";
import { parseChanges, parsePairs } from "./pairs.ts";

export async function siteLs(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.list<Site>("/v1/sites");
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "site", cell: (site) => site.name },
        { header: "nodes", cell: (site) => site.nodes, align: "right" },
        { header: "age", cell: (site) => age(site.created, client.nowMs()), align: "right" },
        {
          header: "labels",
          cell: (site) =>
            Object.entries(site.labels)
              .map(([key, value]) => `${key}=${value}`)
              .join(",") || "-",
        },
      ],
      list.items,
      "no sites yet; make one with `berth site create NAME`",
    ),
  );
}

export async function siteCreate(shell: Shell, name: string, options: { label: readonly string[] }): Promise<void> {
  const site = await shell.client().post<Site>("/v1/sites", { name, labels: parsePairs(options.label, "label") });
  await emit(shell, site, () =>
    line(shell.terminal, `site ${visible(site.name)} is made; add machines with: berth join-token create --site ${visible(site.name)}`),
  );
}

export async function siteLabel(shell: Shell, name: string, texts: readonly string[]): Promise<void> {
  const { set, remove } = parseChanges(texts, "label");
  const labels: Record<string, string | null> = { ...set };
  for (const key of remove) labels[key] = null;
  const site = await shell.client().patch<Site>(`/v1/sites/${segment(name)}`, { labels });
  await emit(shell, site, () => line(shell.terminal, `${visible(site.name)}: ${labelText(site.labels)}`));
}

export async function siteRm(shell: Shell, name: string, options: { yes: boolean }): Promise<void> {
  await confirm(shell, `Remove the site ${visible(name)}?`, options.yes);
  await emitRemoved(shell, await shell.client().delete<Removed>(`/v1/sites/${segment(name)}`), `site ${visible(name)} is removed`);
}

export async function namespaceLs(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.list<Namespace>("/v1/namespaces");
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "namespace", cell: (namespace) => namespace.name },
        { header: "age", cell: (namespace) => age(namespace.created, client.nowMs()), align: "right" },
      ],
      list.items,
      "no namespaces",
    ),
  );
}

export async function namespaceCreate(shell: Shell, name: string): Promise<void> {
  const namespace = await shell.client().post<Namespace>("/v1/namespaces", { name });
  await emit(shell, namespace, () =>
    line(shell.terminal, `namespace ${visible(namespace.name)} is made; use it with: berth deploy -n ${visible(namespace.name)}`),
  );
}

export async function namespaceRm(shell: Shell, name: string, options: { yes: boolean }): Promise<void> {
  await confirm(shell, `Remove the namespace ${visible(name)}?`, options.yes);
  await emitRemoved(
    shell,
    await shell.client().delete<Removed>(`/v1/namespaces/${segment(name)}`),
    `namespace ${visible(name)} is removed`,
  );
}
