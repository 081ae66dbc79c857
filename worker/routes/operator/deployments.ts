import { z } from "zod";
import { Deployment, Rev } from "../../../shared/api/resources.ts";
import { DeploymentId, Name } from "../../../shared/model/name.ts";
import { noNamespace } from "../../auth.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, isoTimeOrNull } from "../../stamp.ts";
import type { Row } from "../../store/commit-types.ts";
import { namespaceExists } from "../../store/read-cluster.ts";
import { readDeployments } from "../../store/read-history.ts";
import { DEPLOYMENT_VERBS, type DeploymentVerb, sayTo } from "../../deployment-verbs.ts";
import { mutation, pages, read, type Route } from "./route.ts";

const tag = "Deployments";

export function toDeployment(
  {
    id,
    revision,
    fromRevision,
    kind,
    state,
    message,
    createdBy,
    startedMs,
    finishedMs,
    pausedBy,
    canariesHealthy,
    promoted,
  }: Row<"deployments">,
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
    pausedBy,
    canariesHealthy,
    promoted,
    started: isoTime(startedMs),
    finished: isoTimeOrNull(finishedMs),
  };
}

/** Lists of a namespace that does not exist are a 404, not an empty list. */
export async function requireNamespace({ store }: Context, namespace: string): Promise<void> {
  if (!(await namespaceExists(store, namespace))) throw noNamespace(namespace);
}

const noDeployment = (namespace: string, id: string) =>
  new BerthError("not_found", `there is no deployment ${id} in namespace ${namespace}`, { reason: "deployment" });

const SUMMARIES: Readonly<Record<DeploymentVerb, string>> = {
  pause: "Begin nothing new; what has begun is finished, and no deadline runs",
  resume: "Go on with a deployment that was paused; its deadlines run anew",
  promote: "Let the canaries take over and update the rest",
  abort: "Fail it now, and go back to the revision that it comes from",
};

const verbRoute = (verb: DeploymentVerb): Route =>
  mutation({
    method: "post",
    path: `/v1/namespaces/{namespace}/deployments/{deployment}/${verb}`,
    tag,
    summary: SUMMARIES[verb],
    role: "deployer",
    scope: "namespace",
    params: { namespace: Name, deployment: DeploymentId },
    query: verb === "promote" ? { force: z.enum(["true", "false"]).default("false") } : {},
    body: null,
    answer: Deployment,
    verb,
    draft: async ({ context, principal, params: { namespace, deployment: id }, query }) => {
      await requireNamespace(context, namespace);
      const { marks, deployments } = await readDeployments(context.store, { namespace, id, limit: 1 });
      const [found] = deployments;
      if (found === undefined) throw noDeployment(namespace, id);
      const { deployment: row, app } = found;
      const force = "force" in query && query.force === "true";
      const said = sayTo(verb, { row, app, namespace, by: principal.name, force, nowMs: marks.nowMs });
      return {
        marks,
        guards: [{ table: "deployments", key: { id }, rev: row.rev }],
        changes: said.changes,
        events: said.events,
        audit: { namespace, object: `deployment/${id}`, detail: said.message },
        answer: toDeployment(said.row, { namespace, app }),
      };
    },
  });

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
      if (found === undefined) throw noDeployment(namespace, id);
      return toDeployment(found.deployment, { namespace, app: found.app });
    },
  }),
  ...DEPLOYMENT_VERBS.map(verbRoute),
];
