/** `berth why`, `events`, `inspect`: what is known of a thing, and why it is so. */
import { setTimeout as sleep } from "node:timers/promises";
import type { App, Deployment, Event, Node, Replica, Why } from "../../shared/api/resources.ts";
import { counted } from "../../shared/text/counted.ts";
import { ApiError, type List, segment } from "../client/client.ts";
import { resolveOne, shortIdOrName } from "../client/prefix.ts";
import type { AppDetail, Site } from "../client/resources.ts";
import { CliError } from "../exit.ts";
import { slotName } from "../render/address.ts";
import { age } from "../render/amount.ts";
import { emit, emitItem, printTable } from "../render/output.ts";
import type { StyleName } from "../render/style.ts";
import { type Branch, treeLines } from "../render/tree.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { replicaState } from "./apps.ts";
import { appPath, appsPath, deploymentPath, inNamespace, nodePath, replicasPath } from "./paths.ts";
import { type Place, requirePlace, splitPlace } from "./place.ts";

const nodesWord = (count: number): string => counted(count, "node");

/** Replicas that are placed and do not get on, with all that is known of why. */
function obstacleBranches(replicas: readonly Replica[], style: Shell["terminal"]["style"]): Branch[] {
  return replicas
    .filter(
      ({ ended, readySince, health, node }) =>
        ended === null && (readySince === null || health === "unhealthy" || node.status !== "ready" || !node.engineReachable),
    )
    .map((replica) => {
      const { exitCode, oomKilled, health, restarts, message } = replica;
      const facts = [
        replicaState(replica).text,
        exitCode === null ? "" : `exit code ${exitCode}`,
        oomKilled ? "killed for want of memory" : "",
        health === "none" || health === replicaState(replica).text ? "" : `health ${health}`,
        restarts === 0 ? "" : `restarted ${restarts}×`,
      ].filter((text) => text !== "");
      return {
        text: `${style.bad(`slot ${visible(slotName(replica))}`)} on ${visible(replica.node.name)}  ${visible(facts.join(", "))}${message === "" ? "" : `  ${visible(message)}`}`,
      };
    });
}

function whyBranches(why: Why, replicas: readonly Replica[], style: Shell["terminal"]["style"]): Branch[] {
  const { explanation } = why;
  const obstacles = obstacleBranches(replicas, style);
  if (explanation === null) return [{ text: style.quiet("not planned yet") }, ...obstacles];
  const rejected = explanation.rejected.map(
    (filter): Branch => ({
      text: `${style.warn(`${nodesWord(filter.nodes)} not usable`)}  ${visible(filter.message)} ${style.quiet(`(${filter.filter})`)}`,
    }),
  );
  const placed = explanation.placed.map((slot): Branch => {
    const parts = Object.entries(slot.score)
      .map(([part, score]) => `${visible(part)} ${score}`)
      .join(", ");
    return {
      text: `${style.good(`slot ${visible(slot.slot)}`)} on ${visible(slot.node)}  ${visible(slot.reason)}${parts === "" ? "" : style.quiet(`  ${parts}`)}`,
    };
  });
  const more = explanation.placedTotal - explanation.placed.length;
  const unplaced = explanation.unplaced.map(
    (slots): Branch => ({
      text: `${style.bad(`slot ${slots.slots.slice(0, 10).map(visible).join(", ")}${slots.slots.length > 10 ? ` and ${slots.slots.length - 10} more` : ""} not placed`)}  ${visible(slots.message)}`,
      children: slots.rejected.map((filter) => ({
        text: `${nodesWord(filter.nodes)}  ${visible(filter.message)} ${style.quiet(`(${filter.filter})`)}`,
      })),
    }),
  );
  const waiting = explanation.waiting.map((text): Branch => ({ text: `${style.warn("waits")}  ${visible(text)}` }));
  return [
    { text: `${explanation.feasible} of ${nodesWord(explanation.nodes)} could take a replica`, children: rejected },
    ...placed,
    ...(more > 0 ? [{ text: `and ${more} more placed` }] : []),
    ...unplaced,
    ...waiting,
    ...obstacles,
  ];
}

export async function why(shell: Shell, { app = "", service }: Place): Promise<void> {
  const client = shell.client();
  const list = await client.list<Why>(appPath(shell.namespace, app, "/why"), { service });
  const { items: replicas } = await client.list<Replica>(replicasPath(shell.namespace), { app, service });
  await emit(shell, list, () => {
    const { terminal } = shell;
    if (list.items.length === 0)
      line(terminal, `nothing has been planned for ${visible(app)}${service === undefined ? "" : `/${visible(service)}`}`);
    for (const entry of list.items) {
      line(
        terminal,
        `${terminal.style.strong(`${visible(entry.app)}/${visible(entry.service)}`)}${entry.at === null ? "" : terminal.style.quiet(`  decided ${age(entry.at, client.nowMs())} ago`)}`,
      );
      for (const text of treeLines(
        whyBranches(
          entry,
          replicas.filter((replica) => replica.service === entry.service),
          terminal.style,
        ),
      ))
        line(terminal, text);
    }
  });
}

const LEVEL_STYLES: Record<Event["level"], StyleName> = { info: "quiet", warning: "warn", error: "bad" };
/** Between looks with `--follow`. */
const EVENTS_MS = 1_000;

export interface EventsOptions {
  readonly follow: boolean;
  readonly all: boolean;
}

export async function events(shell: Shell, app: string | undefined, options: EventsOptions): Promise<void> {
  const client = shell.client();
  const path = options.all ? "/v1/events" : inNamespace(shell.namespace, "/events");
  const list = await client.list<Event>(path, { app });
  if (list.items.length === 0 && app !== undefined) {
    if (options.all)
      throw new CliError(`nothing has happened to an app "${visible(app)}" in any namespace`, { next: "berth events --all" });
    await requirePlace(shell, { app });
  }
  const ordered = [...list.items].sort((a, b) => a.id - b.id);
  await emit(shell, { ...list, items: ordered }, () => {
    const columns = eventColumns(shell, client.nowMs());
    printTable(shell, columns, ordered, "no events");
  });
  if (!options.follow) return;
  let last = ordered.at(-1)?.id ?? 0;
  while (!shell.signal.aborted) {
    await sleep(EVENTS_MS, undefined, { signal: shell.signal }).catch(() => undefined);
    if (shell.signal.aborted) return;
    const { items } = await client.list<Event>(path, { app, after: last }, shell.signal);
    for (const event of [...items].sort((a, b) => a.id - b.id)) {
      if (event.id <= last) continue;
      last = event.id;
      if (shell.output !== "table") await emitItem(shell, event);
      else
        line(
          shell.terminal,
          `${event.at.slice(11, 19)}  ${shell.terminal.style[LEVEL_STYLES[event.level]](visible(event.type))}  ${objectName(event)}  ${visible(event.message)}`,
        );
    }
  }
}

const objectOf = ({ object }: Event): string => `${object.kind}/${shortIdOrName(object.id)}`;
const objectName = (event: Event): string => visible(objectOf(event));

const eventColumns = (shell: Shell, nowMs: number) => [
  { header: "age", cell: (event: Event) => age(event.at, nowMs), align: "right" as const },
  { header: "level", cell: (event: Event) => event.level, style: (event: Event) => LEVEL_STYLES[event.level] },
  { header: "type", cell: (event: Event) => event.type },
  {
    header: "object",
    cell: objectOf,
  },
  ...(shell.terminal.isTty ? [] : [{ header: "app", cell: (event: Event) => event.app ?? "-" }]),
  { header: "message", cell: (event: Event) => event.message },
];

/** Kinds in the order in which a bare name is looked up. */
const KINDS = ["app", "node", "site", "replica", "deployment"] as const;
type Kind = (typeof KINDS)[number];
const KIND_OF_PREFIX: Record<string, Kind> = { app_: "app", n_: "node", r_: "replica", d_: "deployment" };

const FETCH: Record<Kind, (shell: Shell, typed: string) => Promise<unknown>> = {
  app: async (shell, typed) => {
    const { items } = await shell.client().list<App>(appsPath(shell.namespace));
    const { name } = resolveOne(items, typed, { noun: "app", list: "berth ls" });
    return shell.client().get<AppDetail>(appPath(shell.namespace, name));
  },
  node: async (shell, typed) => {
    const { items } = await shell.client().list<Node>("/v1/nodes");
    return shell.client().get<Node>(nodePath(resolveOne(items, typed, { noun: "node", list: "berth node ls" }).id));
  },
  site: async (shell, typed) => {
    const { items } = await shell.client().list<Site>("/v1/sites");
    const found = items.find((site) => site.name === typed);
    if (found === undefined) throw new CliError(`there is no site "${visible(typed)}"`, { next: "berth site ls" });
    return found;
  },
  replica: async (shell, typed) => {
    const { items } = await shell.client().list<Replica>(replicasPath(shell.namespace), { ended: true });
    const [app, service, slot] = typed.split("/");
    const placed =
      slot === undefined
        ? undefined
        : items.find(
            (replica) =>
              replica.app === app &&
              replica.service === service &&
              replica.ended === null &&
              (replica.slot === slot || replica.node.name === slot),
          );
    const { id } = placed ?? resolveOne(items, typed, { noun: "replica", list: "berth ps --all" });
    return shell.client().get<Replica>(`${replicasPath(shell.namespace)}/${segment(id)}`);
  },
  deployment: async (shell, typed) => {
    const list: List<Deployment> = await shell.client().list<Deployment>(inNamespace(shell.namespace, "/deployments"));
    return shell
      .client()
      .get<Deployment>(deploymentPath(shell.namespace, resolveOne(list.items, typed, { noun: "deployment", list: "berth events" }).id));
  },
};

/** `KIND/NAME`, an id, `app/service`, `app/service/slot`, or a name, which is then an app's, a node's or a site's. */
export async function inspect(shell: Shell, typed: string): Promise<void> {
  const value = await findAny(shell, typed);
  const { output } = shell;
  await emit({ output: output === "table" ? "yaml" : output, terminal: shell.terminal }, value, () => undefined);
}

async function fetchService(shell: Shell, typed: string): Promise<unknown> {
  const { app = "", service = "" } = splitPlace(typed);
  await requirePlace(shell, { app, service });
  const { services } = await shell.client().get<AppDetail>(appPath(shell.namespace, app));
  const { items } = await shell.client().list<Replica>(replicasPath(shell.namespace), { app, service });
  return { ...services.find(({ name }) => name === service), replicas: items };
}

async function findAny(shell: Shell, typed: string): Promise<unknown> {
  const slash = typed.indexOf("/");
  const kind = KINDS.find((word) => word === typed.slice(0, slash));
  if (kind !== undefined) return FETCH[kind](shell, typed.slice(slash + 1));
  if (slash !== -1) return typed.split("/").length === 2 ? fetchService(shell, typed) : FETCH.replica(shell, typed);
  const prefix = Object.keys(KIND_OF_PREFIX).find((start) => typed.startsWith(start));
  if (prefix !== undefined) return FETCH[KIND_OF_PREFIX[prefix] ?? "app"](shell, typed);
  for (const candidate of KINDS) {
    try {
      return await FETCH[candidate](shell, typed);
    } catch (error) {
      // "There is no app of that name": the next kind may have one. A refusal to look at nodes at all is no answer either.
      if (error instanceof ApiError && error.code !== "forbidden" && error.code !== "not_found") throw error;
      if (!(error instanceof CliError)) throw error;
    }
  }
  throw new CliError(`there is no app, node, site, replica or deployment "${visible(typed)}" in namespace ${shell.namespace}`, {
    next: "berth ls",
  });
}
