/** What the planner asks for when a deployment failed and its policy says so: forward to a revision like the one before. */
import type { Context } from "./context.ts";
import { draftRollback } from "./deploy.ts";
import type { Rollback } from "./store/apply-plan.ts";
import { readDeploymentState } from "./store/read-history.ts";

const TRIES_MAX = 3;

/** Does nothing when the app has moved on: a person's newer deploy is not undone. Rejects when it could not be committed. */
export async function rollBack(context: Context, { deployment, revision }: Rollback): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const state = await readDeploymentState(context.store, deployment);
    if (state === null || state.deleting || state.appRevision !== state.revision) return;
    const draft = await draftRollback(context, { namespace: state.namespace, app: state.app, toRevision: revision, createdBy: "berth" });
    if (draft.changes.length === 0) return;
    const { changes, guards, events, message } = draft;
    const audit = {
      actor: "berth",
      verb: "rollback",
      namespace: state.namespace,
      object: `app/${state.app}`,
      detail: `${message}, because deployment ${deployment} failed`,
    };
    const result = await context.store.commit({ changes, guards, events, audit });
    if (result.kind === "committed") {
      context.shard.changed(result.rev);
      return;
    }
    if (attempt === TRIES_MAX) throw new Error(`the rollback of ${state.app} lost to other commits ${TRIES_MAX} times`);
  }
}
