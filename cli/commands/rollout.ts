/** `berth pause|resume|promote|abort`, `lock|unlock` and `diff`: words to an app's rollout, and what came of its revisions. */
import type { App, Deployment, RevisionDiff } from "../../shared/api/resources.ts";
import { confirm } from "../ask.ts";
import { segment } from "../client/client.ts";
import { CliError } from "../exit.ts";
import { emit } from "../render/output.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { appPath } from "./paths.ts";

export type RolloutVerb = "pause" | "resume" | "promote" | "abort";

const DONE: Readonly<Record<RolloutVerb, (app: string) => string>> = {
  pause: (app) => `paused: what has begun is finished, and nothing new is begun until berth resume ${app}`,
  resume: (app) => `resumed; follow it with: berth ps ${app}`,
  promote: (app) => `promoted: the canaries take over, and the rest follows; follow it with: berth ps ${app}`,
  abort: (app) => `aborted; follow what becomes of it with: berth ps ${app}`,
};

/** To the deployment of the app that runs now. */
export async function appRollout(
  shell: Shell,
  app: string,
  options: { readonly verb: RolloutVerb; readonly force?: boolean; readonly yes?: boolean },
): Promise<void> {
  const { verb } = options;
  const client = shell.client();
  const { deployment } = await client.get<App>(appPath(shell.namespace, app));
  if (deployment === null || deployment.state !== "running")
    throw new CliError(`no deployment of ${visible(app)} is under way${deployment === null ? "" : `: the last one ${deployment.state}`}`, {
      next: `berth revisions ${app}`,
    });
  if (verb === "abort") {
    const to = deployment.fromRevision === null ? "What runs stays as it is" : `The app goes back to revision ${deployment.fromRevision}`;
    await confirm(shell, `Abort "${visible(deployment.message)}" of ${app} in ${shell.target().name}? ${to}.`, options.yes ?? false);
  }
  const path = `/v1/namespaces/${segment(shell.namespace)}/deployments/${segment(deployment.id)}/${verb}`;
  const answer = await client.post<Deployment>(path, undefined, options.force === true ? { force: true } : {});
  await emit(shell, answer, () => line(shell.terminal, `deployment ${answer.id} of ${visible(app)} is ${DONE[verb](app)}`));
}

export async function appLock(shell: Shell, app: string, { message }: { readonly message: string }): Promise<void> {
  const answer = await shell.client().put<App>(appPath(shell.namespace, app, "/lock"), { message });
  await emit(shell, answer, () => line(shell.terminal, `${visible(app)} is locked until: berth unlock ${app}`));
}

export async function appUnlock(shell: Shell, app: string): Promise<void> {
  const answer = await shell.client().delete<App>(appPath(shell.namespace, app, "/lock"));
  await emit(shell, answer, () => line(shell.terminal, `${visible(app)} may be deployed again`));
}

const SIGNS = { added: "+", removed: "-", changed: "~" } as const;

export async function appDiff(shell: Shell, app: string, revisions: { readonly from?: number; readonly to?: number }): Promise<void> {
  const diff = await shell.client().get<RevisionDiff>(appPath(shell.namespace, app, "/diff"), { ...revisions });
  await emit(shell, diff, () => {
    for (const text of diffLines(diff, shell.terminal.style)) line(shell.terminal, text);
  });
}

type Style = Shell["terminal"]["style"];

export function diffLines({ from, to, services, others }: RevisionDiff, style: Style): string[] {
  const colour = { added: style.good, removed: style.bad, changed: style.warn };
  const lines = services.flatMap(({ service, change, differences }) => [
    `${colour[change](SIGNS[change])} ${visible(service)}`,
    ...differences.map((words) => `    ${visible(words)}`),
  ]);
  const nothing = services.length + others.length === 0 ? ["nothing differs"] : [];
  return [style.strong(`revision ${from} → ${to}`), ...lines, ...others.map((words) => `${style.warn("~")} ${visible(words)}`), ...nothing];
}
