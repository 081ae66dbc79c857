/** `berth logs`: lines of all replicas of an app, from all its nodes. */
import type { LogLine, Replica } from "../../shared/api/resources.ts";
import { emitItem } from "../render/output.ts";
import type { StyleName } from "../render/style.ts";
import { visible, visibleLog } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { appPath, replicasPath } from "./paths.ts";
import { type Place, requirePlace } from "./place.ts";
import { durationOption } from "./tokens.ts";

export interface LogsOptions {
  readonly follow: boolean;
  readonly tail: number;
  readonly since?: string;
  readonly timestamps: boolean;
  readonly slot?: string;
}

/** Sources take turns through these, by name, so that one keeps its colour. */
const SOURCE_STYLES: readonly StyleName[] = ["accent", "good", "warn", "change", "quiet"];

export function sourceStyle(source: string): StyleName {
  let sum = 0;
  for (const character of source) sum = (sum * 31 + character.charCodeAt(0)) % 65_521;
  return SOURCE_STYLES[sum % SOURCE_STYLES.length] ?? "accent";
}

const sourceOf = (service: string, slot: string, node: string): string => `${visible(service)}/${visible(slot)} ${visible(node)}`;

/** Of all that can speak now, so that the column stands still. */
async function knownWidth(shell: Shell, { app, service, slot }: Place): Promise<number> {
  const { items } = await shell.client().list<Replica>(replicasPath(shell.namespace), { app, service });
  const speakers = items.filter((replica) => slot === undefined || replica.slot === slot);
  return speakers.reduce((width, replica) => Math.max(width, sourceOf(replica.service, replica.slot, replica.node.name).length), 0);
}

export async function logs(shell: Shell, place: Place, options: LogsOptions): Promise<void> {
  const client = shell.client();
  const { terminal } = shell;
  const slot = options.slot ?? place.slot;
  const whose: Place = { ...place, ...(slot === undefined ? {} : { slot }) };
  const query = {
    service: whose.service,
    slot,
    follow: options.follow ? true : undefined,
    tail: options.tail,
    since: options.since === undefined ? undefined : new Date(client.nowMs() - durationOption(options.since)).toISOString(),
    timestamps: options.timestamps ? true : undefined,
  };
  const missing = new Map<string, string>();
  const isText = shell.output === "table";
  let width = isText ? await knownWidth(shell, whose) : 0;
  let count = 0;
  try {
    for await (const entry of client.lines<LogLine>(appPath(shell.namespace, place.app ?? "", "/logs"), query, shell.signal)) {
      count++;
      if (!isText) {
        await emitItem(shell, entry);
        continue;
      }
      const source = sourceOf(entry.service, entry.slot, entry.node);
      if (entry.kind === "missing") {
        missing.set(source, visible(entry.message));
        continue;
      }
      width = Math.max(width, source.length);
      const time = options.timestamps && entry.at !== null ? `${terminal.style.quiet(visible(entry.at))} ` : "";
      line(
        terminal,
        `${terminal.style[sourceStyle(source)](`${source.padEnd(width)} |`)} ${time}${visibleLog(entry.text)}${entry.cut ? terminal.style.quiet(" …cut") : ""}`,
      );
    }
  } catch (error) {
    if (shell.signal.aborted) return;
    throw error;
  }
  for (const [source, message] of missing) terminal.err(`${terminal.style.warn(`${source} did not answer:`)} ${message}\n`);
  if (count > 0) return;
  await requirePlace(shell, whose);
  if (isText) terminal.err("no log lines\n");
}
