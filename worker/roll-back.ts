/**
 * Back from a deployment that failed, when its policy says so: forward to a revision like the one before. What is owed
 * stands in the deployment's row and is owed until its app has a newer revision, by this rollback or by somebody's deploy.
 */
import type { DeploymentId } from "../shared/model/name.ts";
import type { Context } from "./context.ts";
import { reviseToEarlier } from "./deploy.ts";
import { BerthError } from "./errors.ts";
import type { Guard, Mutation } from "./store/commit-types.ts";
import { readDeploymentState } from "./store/read-history.ts";

const TRIES_MAX = 3;

/** Does nothing when nothing is owed (any more). Rejects when it could not be committed. */
export async function rollBack(context: Context, deployment: DeploymentId): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const state = await readDeploymentState(context.store, deployment);
    if (state === null || state.deleting || state.appRevision !== state.revision || state.rollbackTo === null) return;
    const result = await context.store.commit(await mutationOf(context, { ...state, deployment, toRevision: state.rollbackTo }));
    if (result.kind === "committed") {
      context.shard.changed(result.rev);
      context.shard.ring();
      return;
    }
    if (attempt === TRIES_MAX) throw new Error(`the rollback of ${state.app} lost to other commits ${TRIES_MAX} times`);
  }
}

interface Owed {
  readonly deployment: DeploymentId;
  readonly appId: string;
  /** That failed, and that the app still has. */
  readonly revision: number;
  readonly namespace: string;
  readonly app: string;
  readonly toRevision: number;
}

async function mutationOf(context: Context, owed: Owed): Promise<Mutation> {
  // This reads anew: what it finds may be newer than what failed.
  const isNewest: Guard = { table: "apps", key: { id: owed.appId }, equals: { revision: owed.revision } };
  let revised: Awaited<ReturnType<typeof reviseToEarlier>>;
  try {
    revised = await reviseToEarlier(context, { ...owed, createdBy: "berth" });
  } catch (error) {
    if (!(error instanceof BerthError) || error.retryable) throw error;
    return forgo(owed, isNewest, error.message);
  }
  const { changes, guards, events, message } = revised;
  if (changes.length === 0) return forgo(owed, isNewest, "it is the same as what failed");
  const detail = `${message}, because deployment ${owed.deployment} failed`;
  const audit = { actor: "berth", verb: "rollback", namespace: owed.namespace, object: `app/${owed.app}`, detail };
  return { changes, guards: [isNewest, ...guards], events, audit };
}

/** What is refused now would be refused for ever. */
function forgo({ deployment, namespace, app, toRevision }: Owed, isNewest: Guard, why: string): Mutation {
  return {
    // Of two that find out one tells people.
    guards: [isNewest, { table: "deployments", key: { id: deployment }, equals: { rollbackTo: toRevision } }],
    changes: [{ op: "update", table: "deployments", rows: [{ id: deployment, rollbackTo: null }] }],
    events: [
      {
        namespace,
        objectKind: "deployment",
        objectId: deployment,
        app,
        type: "notRolledBack",
        level: "error",
        message: `${app} stays as it failed and is not rolled back to ${toRevision}: ${why}`,
      },
    ],
  };
}
