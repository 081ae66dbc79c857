import { Deployment, Rev } from "../../../shared/api/resources.ts";
import { DeploymentId, Name } from "../../../shared/model/name.ts";
import { noNamespace } from "../../auth.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, isoTimeOrNull } from "../../stamp.ts";
import type { Row } from "../../store/commit-types.ts";
import { namespaceExists } from "../../store/read-cluster.ts";
import { readDeployments } from "../../store/read-history.ts";
import { pages, read, type Route } from "./route.ts";

const tag = "Deployments";

export function toDeployment(
  { id, revision, fromRevision, kind, state, message, createdBy, startedMs, finishedMs }: Row<"deployments">,
  of: { namespace: string; app: string },
) {
  return {
    id,
    ...of,
    revision,
    fromRevision,
    kind,
    state,
    message,
    createdBy,
    started: isoTime(startedMs),
    finished: isoTimeOrNull(finishedMs),
  };
}

/** Lists of a namespace that does not exist are a 404, not an empty list. */
export async function requireNamespace({ store }: Context, namespace: string): Promise<void> {
  if (!(await namespaceExists(store, namespace))) throw noNamespace(namespace);
}

export const deploymentRoutes: readonly Route[] = [
  pages({
    path: "/v1/namespaces/{namespace}/deployments",
    tag,
    summary: "Deployments, newest first",
    description: "In pages: ask again with `cursor` set to `next` until that is null.",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name },
    query: { app: Name.optional() },
    item: Deployment,
    place: Rev,
    pageDefault: 500,
    pageMax: 5_000,
    load: async ({ context, params: { namespace }, query: { app } }, { limit, after }) => {
      await requireNamespace(context, namespace);
      const { marks, deployments, hasMore } = await readDeployments(context.store, { namespace, app, before: after ?? undefined, limit });
      const next = hasMore ? deployments.at(-1)!.deployment.revision : null;
      return { marks, next, items: deployments.map(({ deployment, app: name }) => toDeployment(deployment, { namespace, app: name })) };
    },
  }),
  read({
    path: "/v1/namespaces/{namespace}/deployments/{deployment}",
    tag,
    summary: "One deployment",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name, deployment: DeploymentId },
    answer: Deployment,
    read: async ({ context, params: { namespace, deployment: id } }) => {
      await requireNamespace(context, namespace);
      const [found] = (await readDeployments(context.store, { namespace, id, limit: 1 })).deployments;
      if (found === undefined)
        throw new BerthError("not_found", `there is no deployment ${id} in namespace ${namespace}`, { reason: "deployment" });
      return toDeployment(found.deployment, { namespace, app: found.app });
    },
  }),
];
