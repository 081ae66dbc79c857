/** Watches a deployment until it ends, with what each of its replicas does. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Deployment, Replica, Why } from "../../shared/api/resources.ts";
import { ApiError } from "../client/client.ts";
import { loginCommandIn } from "../../shared/model/image.ts";
import { CliError, EXIT } from "../exit.ts";
import { addressesOf, isThisMachine, slotName } from "../render/address.ts";
import { seconds } from "../render/amount.ts";
import { Live, spinner } from "../render/live.ts";
import { Rollout } from "../render/rollout.ts";
import { visible, visibleLog } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { byPlace } from "./apps.ts";
import { appPath, deploymentPath, replicasPath } from "./paths.ts";
import { isLoopback } from "../client/contexts.ts";

/**
 * What agents observe moves no rev, so a watch would sleep through a pull. Four looks a second are two indexed reads
 * each, and a person sees no difference to more.
 */
const LOOK_MS = 250;
/** How long the control plane may be silent before this gives up watching. */
const SILENCE_MAX_MS = 60_000;
/** Why a replica has no node changes with nodes, not by the second. */
const WHY_MS = 5_000;
/** How often output that is no terminal hears what is waited for. */
const SAY_MS = 30_000;
/** The spinner and the seconds move between looks. */
const FRAME_MS = 100;

export interface Followed {
  readonly deployment: Deployment;
  readonly replicas: readonly Replica[];
  readonly rollout: Rollout;
  readonly tookMs: number;
}

/** What keeps replicas from being placed, a line each. */
async function waitsOf(shell: Shell, app: string): Promise<readonly string[]> {
  const { items } = await shell.client().list<Why>(appPath(shell.namespace, app, "/why"), {}, shell.signal);
  return items.flatMap(({ service, explanation }) => [
    ...(explanation?.unplaced ?? []).map(
      ({ slots, message }) => `${visible(app)}/${visible(service)}: ${slots.length} not placed: ${visible(message)}`,
    ),
    ...(explanation?.waiting ?? []).map((text) => `${visible(app)}/${visible(service)}: ${visible(text)}`),
  ]);
}

/** Replica ids that are there before a deployment: what it adds is told apart by them. */
export async function replicasBefore(shell: Shell, app: string): Promise<readonly string[]> {
  const { items } = await shell.client().list<Replica>(replicasPath(shell.namespace), { app });
  return items.map(({ id }) => id);
}

export async function follow(
  shell: Shell,
  ask: { app: string; deployment: Deployment; before: readonly string[]; timeoutMs: number | null },
): Promise<Followed> {
  const client = shell.client();
  const { terminal } = shell;
  const rollout = new Rollout(ask.before);
  const isQuiet = shell.output !== "table";
  const live = terminal.isTty && !isQuiet ? new Live(terminal) : null;
  const begin = performance.now();
  let heardMs = begin;
  let deployment = ask.deployment;
  let replicas: readonly Replica[] = [];
  let waits: readonly string[] = [];
  let askedMs = Number.NEGATIVE_INFINITY;
  let saidMs = begin;
  const draw = (): void => {
    if (live === null) {
      const news = rollout.takeNews();
      if (isQuiet) return;
      for (const text of news) line(terminal, text);
      if (deployment.state !== "running" || performance.now() - saidMs < SAY_MS) return;
      saidMs = performance.now();
      const waited = waits.length > 0 ? waits : rollout.unready();
      for (const text of waited) line(terminal, `still waiting after ${seconds(saidMs - begin)}: ${text}`);
      return;
    }
    const nowMs = performance.now();
    const head = `${terminal.style.accent(spinner(nowMs))} deploying ${visible(ask.app)}, revision ${deployment.revision}  ${terminal.style.quiet(seconds(nowMs - begin))}${deployment.message === "" ? "" : `  ${visible(deployment.message)}`}`;
    live.draw([head, ...rollout.lines(nowMs, terminal.style), ...waits.map((text) => `${terminal.style.warn("!")} ${text}`)]);
  };
  try {
    while (true) {
      try {
        [deployment, replicas] = await Promise.all([
          client.get<Deployment>(deploymentPath(shell.namespace, ask.deployment.id), {}, shell.signal),
          client.list<Replica>(replicasPath(shell.namespace), { app: ask.app }, shell.signal).then(({ items }) => items),
        ]);
        if (!isQuiet && performance.now() - askedMs > WHY_MS) {
          askedMs = performance.now();
          waits = await waitsOf(shell, ask.app);
        }
        heardMs = performance.now();
        rollout.observe(replicas, heardMs);
      } catch (error) {
        // A control plane that restarts is back in seconds, and the deployment went on meanwhile.
        const mayPass =
          error instanceof CliError && (error.exitCode === EXIT.unreachable || (error instanceof ApiError && error.retryable));
        if (!mayPass || performance.now() - heardMs > SILENCE_MAX_MS) throw error;
      }
      draw();
      if (deployment.state !== "running" || isForPeople(deployment)) break;
      if (ask.timeoutMs !== null && performance.now() - begin > ask.timeoutMs) {
        throw new CliError(`the deployment of ${visible(ask.app)} goes on after ${seconds(ask.timeoutMs)}; this command stops waiting`, {
          exitCode: EXIT.timedOut,
          next: `berth why ${ask.app}`,
        });
      }
      for (let waitedMs = 0; waitedMs < LOOK_MS; waitedMs += FRAME_MS) {
        await sleep(FRAME_MS, undefined, { signal: shell.signal });
        if (live !== null) draw();
      }
    }
    live?.finish(rollout.lines(performance.now(), terminal.style, true));
    return { deployment, replicas, rollout, tookMs: performance.now() - begin };
  } catch (error) {
    live?.finish(rollout.lines(performance.now(), terminal.style));
    if (shell.signal.aborted)
      throw new CliError(`the deployment of ${visible(ask.app)} goes on without this terminal`, {
        exitCode: EXIT.interrupted,
        next: `berth ps ${ask.app}`,
      });
    throw error;
  }
}

/** Nothing more comes of it until somebody says so. */
const isForPeople = ({ canariesHealthy, promoted, pausedBy }: Deployment): boolean => pausedBy !== null || (canariesHealthy && !promoted);

/** Log lines shown of a replica in trouble. */
const LOG_LINES = 10;

/** Says how it ended; a failure comes with the last log lines and what to run next. */
export async function conclude(shell: Shell, app: string, followed: Followed): Promise<void> {
  const { terminal } = shell;
  const { deployment, rollout, tookMs } = followed;
  const { style } = terminal;
  if (deployment.state === "succeeded") {
    line(terminal, `${style.good("✓")} ${visible(app)} runs revision ${deployment.revision}  ${style.quiet(seconds(tookMs))}`);
    printAddresses(shell, followed.replicas);
    return;
  }
  if (deployment.state === "running") {
    const { pausedBy } = deployment;
    const what = pausedBy === null ? "the canaries are healthy, and it waits to be promoted" : `it was paused by ${visible(pausedBy)}`;
    const go = pausedBy === null ? "promote" : "resume";
    line(terminal, `${style.warn("!")} revision ${deployment.revision} of ${visible(app)}: ${what}  ${style.quiet(seconds(tookMs))}`);
    line(terminal, `next: ${style.strong(`berth ${go} ${app}`)} or ${style.strong(`berth abort ${app}`)}`);
    return;
  }
  if (deployment.state === "superseded") throw new CliError(`a newer deployment of ${visible(app)} took over`, { next: `berth ps ${app}` });
  const [worst] = rollout.troubled();
  const details: string[] = [];
  if (worst !== undefined) {
    const name = `${worst.service}/${slotName(worst)}`;
    details.push(
      `${visible(name)} on ${visible(worst.node.name)}: ${visible(worst.state)}${worst.exitCode === null ? "" : `, exit code ${worst.exitCode}`}${worst.oomKilled ? ", killed for want of memory" : ""}${worst.message === "" ? "" : `: ${visible(worst.message)}`}`,
    );
    for (const text of worst.logTail.slice(-LOG_LINES)) details.push(`  | ${visibleLog(text)}`);
  }
  const next =
    loginCommandIn(deployment.message) ??
    (worst === undefined
      ? `berth why ${app}`
      : worst.containerId === null
        ? `berth why ${app} ${worst.service}`
        : `berth logs ${app} ${worst.service}`);
  throw new CliError(
    `the deployment of ${visible(app)} failed after ${seconds(tookMs)}: ${visible(deployment.message) || "it did not get healthy in time"}`,
    { details, next },
  );
}

export function printAddresses(shell: Shell, replicas: readonly Replica[]): void {
  const isLocal = isLoopback(shell.client().url);
  const addresses = [...replicas]
    .filter((replica) => replica.desired === "run" && replica.ended === null)
    .sort(byPlace)
    .flatMap((replica) => addressesOf(replica, isThisMachine(replica.node.name, isLocal)));
  const shown = addresses.slice(0, 20);
  const width = Math.max(0, ...shown.map(({ name }) => name.length));
  for (const { name, url } of shown) line(shell.terminal, `  ${visible(name).padEnd(width)}  ${shell.terminal.style.accent(visible(url))}`);
  if (addresses.length > shown.length) line(shell.terminal, `  … and ${addresses.length - shown.length} more: berth ps`);
}
