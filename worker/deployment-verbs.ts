/** What an operator says to a deployment that runs: pause, resume, promote, abort. Each is one row, written once. */
import type { Deployment } from "../shared/api/resources.ts";
import { BerthError } from "./errors.ts";
import { NOW, type NewEvent, type NewRow, type Row, type RowChange } from "./store/commit-types.ts";

export const DEPLOYMENT_VERBS = ["pause", "resume", "promote", "abort"] as const;
export type DeploymentVerb = (typeof DEPLOYMENT_VERBS)[number];

type DeploymentRow = Row<"deployments">;

interface Said {
  /** Empty: it is so already. */
  readonly set: Partial<Omit<NewRow<"deployments">, "rev" | "id">>;
  readonly type: string;
  readonly message: string;
}
export interface VerbAsk {
  readonly row: DeploymentRow;
  readonly app: string;
  readonly by: string;
  /** Promote although its canaries are not all healthy. */
  readonly force: boolean;
}

const refused = (message: string, reason: string) => new BerthError("refused", message, { reason });

const SAY: Readonly<Record<DeploymentVerb, (ask: VerbAsk) => Said>> = {
  pause: ({ row, by }) => ({
    set: row.pausedBy === null ? { pausedBy: by } : {},
    type: "paused",
    message: `${by} paused it: nothing new is begun until it is resumed`,
  }),
  resume: ({ row, by }) => ({
    set: row.pausedBy === null ? {} : { pausedBy: null, resumedMs: NOW },
    type: "resumed",
    message: `${by} resumed it`,
  }),
  promote: ({ row, app, by, force }) => {
    if (!row.promoted && !row.canariesHealthy && !force)
      throw refused(
        `the deployment has no canaries that are all healthy, so there is nothing to promote; berth why ${app} says what it waits for, and --force promotes all the same`,
        "canaries",
      );
    return { set: row.promoted ? {} : { promoted: true, resumedMs: NOW }, type: "promoted", message: `${by} promoted it` };
  },
  abort: ({ row, by }) => {
    const rollbackTo = row.kind === "rollback" || row.halted ? null : row.fromRevision;
    const goesBack = rollbackTo === null ? "what runs stays as it is" : `it is rolled back to revision ${rollbackTo}`;
    const message = `aborted by ${by}: ${goesBack}`;
    return { set: { state: "failed", finishedMs: NOW, rollbackTo, message }, type: "failed", message };
  },
};

export interface VerbDraft {
  readonly changes: readonly RowChange[];
  readonly events: readonly NewEvent[];
  readonly message: string;
  readonly row: DeploymentRow;
}

/** Throws `conflict` where the deployment is over, `refused` where the verb does not go with it. */
export function sayTo(verb: DeploymentVerb, ask: VerbAsk & { readonly namespace: string; readonly nowMs: number }): VerbDraft {
  const { row, app, namespace, nowMs } = ask;
  if (row.state !== "running")
    throw new BerthError(
      "conflict",
      `deployment ${row.id} of ${app} is over: it ${OVER[row.state]}; berth revisions ${app} lists what came of each`,
      {
        reason: "over",
      },
    );
  const { set, type, message } = SAY[verb](ask);
  const isNothing = Object.keys(set).length === 0;
  const event = { namespace, objectKind: "deployment", objectId: row.id, app, type, level: verb === "abort" ? "warning" : "info" } as const;
  const after = Object.fromEntries(Object.entries(set).map(([key, value]) => [key, value === NOW ? nowMs : value]));
  return {
    changes: isNothing ? [] : [{ op: "update", table: "deployments", rows: [{ id: row.id, ...set }] }],
    events: isNothing ? [] : [{ ...event, message }],
    message,
    row: { ...row, ...after },
  };
}

const OVER: Readonly<Record<Exclude<Deployment["state"], "running">, string>> = {
  succeeded: "has succeeded",
  failed: "has failed",
  superseded: "was superseded by a newer one",
};
