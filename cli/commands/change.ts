/** `berth scale` and `berth rollback`: changes to an app that is there, shown and followed as a deployment is. */
import type { DeployAnswer } from "../../shared/api/resources.ts";
import { confirm } from "../ask.ts";
import { segment } from "../client/client.ts";
import type { Revision } from "../client/resources.ts";
import { CliError, EXIT } from "../exit.ts";
import { age } from "../render/amount.ts";
import { emit, printTable } from "../render/output.ts";
import { onlyWaits, planLines } from "../render/plan.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { conclude, follow, replicasBefore } from "./follow.ts";
import { appPath } from "./paths.ts";

export interface ChangeOptions {
  readonly yes: boolean;
  readonly detach: boolean;
  readonly wait?: number;
}

/** Plans with `dryRun`, shows, asks, carries out and follows. `send` is the same call both times. */
export async function carryOut(
  shell: Shell,
  app: string,
  options: ChangeOptions & {
    send: (query: { dryRun?: true }) => Promise<DeployAnswer>;
    /** Of images, after the yes and before it is carried out; it may change what is to be carried out. */
    builds?: { readonly images: readonly string[]; announce(): void; run(): Promise<void> };
  },
): Promise<void> {
  const { plan } = await options.send({ dryRun: true });
  const isTable = shell.output === "table";
  const { builds } = options;
  const planned = planLines(plan, shell.terminal.style);
  const print = (lines: readonly string[]): void => {
    for (const text of lines) line(shell.terminal, text);
  };
  if (isTable) print(planned);
  if (plan.unchanged && builds === undefined) {
    await emit(shell, { plan, deployment: null }, () => undefined);
    return;
  }
  builds?.announce();
  const work =
    builds === undefined
      ? "Do this"
      : `Build and push ${builds.images.join(", ")}, then do ${plan.unchanged ? "what that changes" : "this"}`;
  await confirm(shell, `\n${work} in ${shell.target().name}?`, options.yes);
  await builds?.run();
  const before = await replicasBefore(shell, app);
  const answer = await options.send({});
  const { deployment } = answer;
  if (isTable && builds !== undefined && deployment !== null) {
    const now = planLines(answer.plan, shell.terminal.style);
    if (now.join("\n") !== planned.join("\n")) print(now);
  }
  if (options.detach || deployment === null) {
    const nothing = builds === undefined ? "nothing to do" : "nothing to do: what was built is deployed already";
    await emit(shell, answer, () =>
      line(shell.terminal, deployment === null ? nothing : `deployment ${deployment.id} has begun; follow it with: berth ps ${app}`),
    );
    return;
  }
  if (isTable && onlyWaits(answer.plan))
    line(
      shell.terminal,
      `${shell.terminal.style.warn("!")} no node can take any of this now; waiting for one that can (Ctrl-C: it goes on without you)`,
    );
  const followed = await follow(shell, { app, deployment, before, timeoutMs: options.wait ?? null });
  await emit(shell, { plan: answer.plan, deployment: followed.deployment, replicas: followed.replicas }, () => undefined);
  if (isTable) await conclude(shell, app, followed);
  else if (followed.deployment.state !== "succeeded" && followed.deployment.state !== "running")
    throw new CliError(
      `the deployment of ${visible(app)} ${followed.deployment.state}${followed.deployment.message === "" ? "" : `: ${visible(followed.deployment.message)}`}`,
      { next: `berth why ${app}` },
    );
}

/** The API's own limit, spelled again: importing it would load the whole schema library. */
export const REPLICAS_MAX = 100_000;

export interface WantedCount {
  readonly app: string;
  readonly service: string;
  readonly replicas: number;
}

/** `shop/web=5`; `shop web=5` is understood too. */
export function parseCounts(texts: readonly string[]): WantedCount[] {
  const [first = ""] = texts;
  const common = texts.length > 1 && !first.includes("=") && !first.includes("/") ? first : null;
  return (common === null ? texts : texts.slice(1)).map((text) => {
    const match = /^(?:([^/=]+)\/)?([^/=]+)=(-?[0-9]+)$/.exec(text);
    const app = match?.[1] ?? common;
    if (app === null || match?.[2] === undefined) {
      throw new CliError(`"${text}" says no number of replicas: write APP/SERVICE=NUMBER`, {
        exitCode: EXIT.usage,
        next: `berth scale ${common ?? "shop"}/web=3`,
      });
    }
    const replicas = Number(match[3]);
    if (replicas < 0 || replicas > REPLICAS_MAX)
      throw new CliError(`"${text}": a service may have from 0 to ${REPLICAS_MAX} replicas`, {
        exitCode: EXIT.usage,
        next: `berth scale ${app}/${match[2]}=3`,
      });
    return { app, service: match[2], replicas };
  });
}

/** One after the other: each is a revision of its own. */
export async function appScale(shell: Shell, texts: readonly string[], options: ChangeOptions): Promise<void> {
  for (const { app, service, replicas } of parseCounts(texts)) {
    const path = appPath(shell.namespace, app, `/services/${segment(service)}`);
    // A number is its own plan: asking "are you sure" for `scale shop/web=5` would only teach to type -y.
    await carryOut(shell, app, { ...options, yes: true, send: (query) => shell.client().patch<DeployAnswer>(path, { replicas }, query) });
  }
}

export async function appRollback(shell: Shell, app: string, options: ChangeOptions & { to?: number }): Promise<void> {
  const body = options.to === undefined ? {} : { toRevision: options.to };
  await carryOut(shell, app, {
    ...options,
    send: (query) => shell.client().post<DeployAnswer>(appPath(shell.namespace, app, "/rollback"), body, query),
  });
}

export async function appRevisions(shell: Shell, app: string): Promise<void> {
  const client = shell.client();
  const list = await client.list<Revision>(appPath(shell.namespace, app, "/revisions"));
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "revision", cell: (revision) => revision.revision, align: "right" },
        { header: "state", cell: (revision) => (revision.current ? "current" : "-") },
        { header: "age", cell: (revision) => age(revision.created, client.nowMs()), align: "right" },
        { header: "by", cell: (revision) => revision.createdBy },
        { header: "message", cell: (revision) => revision.message || "-" },
      ],
      list.items,
      "no revisions",
    ),
  );
}
