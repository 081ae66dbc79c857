import { z } from "zod";
import {
  App,
  AppDetail,
  AppPut,
  DeployAnswer,
  LockPut,
  Removed,
  Revision,
  RevisionDiff,
  RevisionDetail,
  RollbackPost,
  ServicePatch,
  Why,
} from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import { draftLock, type LockAsk } from "../../app-lock.ts";
import { diffRevisions } from "../../revision-diff.ts";
import type { Context } from "../../context.ts";
import { Explanation } from "../../../shared/plan/explanation.ts";
import { noNamespace } from "../../auth.ts";
import { type DeployDraft, draftDeploy, draftRollback, draftScale, noApp } from "../../deploy.ts";
import { BerthError } from "../../errors.ts";
import { draftRemoval } from "../../remove-app.ts";
import { isoTime, isoTimeOrNull } from "../../stamp.ts";
import { type AppView, readApps } from "../../store/read-apps.ts";
import { readRevisions, readWhy } from "../../store/read-history.ts";
import { requireNamespace, toDeployment } from "./deployments.ts";
import { type Draft, list, mutation, read, type Route } from "./route.ts";

const tag = "Apps";
const params = { namespace: Name, app: Name };
const RevisionNumber = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

function toApp({ app, services, deployment, volumes }: AppView) {
  const { id, namespace, name, revision, deleting, lockedBy, lockMessage, lockedMs, createdMs } = app;
  return {
    id,
    namespace,
    name,
    revision,
    deleting,
    lock: lockedBy === null ? null : { by: lockedBy, message: lockMessage, since: isoTime(lockedMs ?? createdMs) },
    services: services.map(({ service, ports, digest, wanted, running, ready }) => ({
      name: service.name,
      mode: service.mode,
      image: service.planning.imageReference,
      digest,
      wanted,
      running,
      ready,
      ports: ports.map(({ target, protocol, published }) => ({ target, protocol, published: published ?? null })),
      removed: service.removed,
    })),
    deployment: deployment === null ? null : toDeployment(deployment, { namespace, app: name }),
    volumes,
    created: isoTime(createdMs),
  };
}

const asDraft = (
  { marks, changes, guards, events, message, answer }: DeployDraft,
  { namespace, app }: { namespace: string; app: string },
): Draft<DeployAnswer> => ({
  marks,
  changes,
  guards,
  events,
  audit: { namespace, object: `app/${app}`, detail: message },
  answer,
  dryAnswer: { ...answer, deployment: null },
});

async function lockDraft(context: Context, ask: LockAsk, message: string | null): Promise<Draft<ReturnType<typeof toApp>>> {
  const draft = await draftLock(context, ask, message);
  return { ...draft, answer: toApp(draft.answer) };
}

const appPath = "/v1/namespaces/{namespace}/apps/{app}";

export const appRoutes: readonly Route[] = [
  list({
    path: "/v1/namespaces/{namespace}/apps",
    tag,
    summary: "Apps and how each service is doing",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name },
    item: App,
    load: async ({ context, params: { namespace } }) => {
      const { marks, exists, apps } = await readApps(context.store, namespace);
      if (!exists) throw noNamespace(namespace);
      return { marks, items: apps.map(toApp) };
    },
  }),
  read({
    path: appPath,
    tag,
    summary: "One app with its current spec",
    role: "viewer",
    scope: "namespace",
    params,
    answer: AppDetail,
    read: async ({ context, params: { namespace, app } }) => {
      const { exists, apps } = await readApps(context.store, namespace, app);
      if (!exists) throw noNamespace(namespace);
      const [view] = apps;
      if (view === undefined) throw noApp(namespace, app);
      const { revisions } = await readRevisions(context.store, { namespace, app, revision: view.app.revision });
      const spec = revisions[0]?.spec;
      if (spec === undefined) throw noApp(namespace, app);
      return { ...toApp(view), spec };
    },
  }),
  mutation({
    method: "put",
    path: appPath,
    tag,
    summary: "Deploy: make this spec the app's next revision and move the app there",
    description: "With dryRun=true answers the plan alone: which replicas would be created, replaced, removed or kept, where, and why.",
    role: "deployer",
    scope: "namespace",
    params,
    body: AppPut,
    answer: DeployAnswer,
    verb: "deploy",
    draft: async ({ context, principal, params: { namespace, app }, body: { spec, message } }) =>
      asDraft(await draftDeploy(context, { namespace, app, spec, message, createdBy: principal.name }), { namespace, app }),
  }),
  mutation({
    method: "delete",
    path: appPath,
    tag,
    summary: "Remove an app; its volumes stay where they are unless deleteData=true",
    role: "deployer",
    scope: "namespace",
    params,
    query: { deleteData: z.enum(["true", "false"]).default("false") },
    body: null,
    answer: Removed,
    verb: "remove",
    draft: ({ context, principal, params: { namespace, app }, query: { deleteData } }) =>
      draftRemoval(context, { namespace, app, deleteData: deleteData === "true", by: principal.name }),
  }),
  list({
    path: `${appPath}/revisions`,
    tag,
    summary: "Revisions of an app, newest first",
    role: "viewer",
    scope: "namespace",
    params,
    item: Revision,
    load: async ({ context, params: { namespace, app: name } }) => {
      await requireNamespace(context, namespace);
      const { marks, app, revisions } = await readRevisions(context.store, { namespace, app: name });
      if (app === null) throw noApp(namespace, name);
      const items = revisions.map(({ revision, createdBy, createdMs, message }) => ({
        revision,
        createdBy,
        created: isoTime(createdMs),
        message,
        current: revision === app.revision,
      }));
      return { marks, items };
    },
  }),
  read({
    path: `${appPath}/revisions/{revision}`,
    tag,
    summary: "One revision with its spec",
    role: "viewer",
    scope: "namespace",
    params: { ...params, revision: RevisionNumber },
    answer: RevisionDetail,
    read: async ({ context, params: { namespace, app: name, revision: wanted } }) => {
      await requireNamespace(context, namespace);
      const { app, revisions } = await readRevisions(context.store, { namespace, app: name, revision: wanted });
      if (app === null) throw noApp(namespace, name);
      const [found] = revisions;
      if (found === undefined) throw new BerthError("not_found", `app ${name} has no revision ${wanted}`, { reason: "revision" });
      const { revision, createdBy, createdMs, message, spec } = found;
      return { revision, createdBy, created: isoTime(createdMs), message, current: revision === app.revision, spec };
    },
  }),
  read({
    path: `${appPath}/diff`,
    tag,
    summary: "What differs between two revisions",
    role: "viewer",
    scope: "namespace",
    params,
    query: { from: RevisionNumber.optional(), to: RevisionNumber.optional() },
    description: "`to` is the current revision where it is absent, and `from` the one before `to`.",
    answer: RevisionDiff,
    read: async ({ context, params: { namespace, app: name }, query }) => {
      await requireNamespace(context, namespace);
      const { app, revisions } = await readRevisions(context.store, { namespace, app: name });
      if (app === null) throw noApp(namespace, name);
      const find = (wanted: number) => {
        const found = revisions.find(({ revision }) => revision === wanted);
        if (found === undefined)
          throw new BerthError("not_found", `app ${name} has no revision ${wanted}; berth revisions ${name} lists them`, {
            reason: "revision",
          });
        return found;
      };
      const to = find(query.to ?? app.revision);
      const former = revisions.find(({ revision }) => revision < to.revision);
      if (query.from === undefined && former === undefined)
        throw new BerthError("refused", `revision ${to.revision} is the first of ${name} that is kept: there is none before it`, {
          reason: "first",
        });
      return diffRevisions(query.from === undefined ? former! : find(query.from), to);
    },
  }),
  mutation({
    method: "put",
    path: `${appPath}/lock`,
    tag,
    summary: "Lock: nobody deploys, scales, rolls back or removes the app until it is unlocked",
    role: "deployer",
    scope: "namespace",
    params,
    body: LockPut,
    answer: App,
    verb: "lock",
    draft: ({ context, principal, params: { namespace, app }, body: { message } }) =>
      lockDraft(context, { namespace, app, by: principal.name }, message),
  }),
  mutation({
    method: "delete",
    path: `${appPath}/lock`,
    tag,
    summary: "Unlock, whoever locked it",
    role: "deployer",
    scope: "namespace",
    params,
    body: null,
    answer: App,
    verb: "unlock",
    draft: ({ context, principal, params: { namespace, app } }) => lockDraft(context, { namespace, app, by: principal.name }, null),
  }),
  mutation({
    method: "post",
    path: `${appPath}/rollback`,
    tag,
    summary: "Deploy an earlier revision again, with the images it had",
    role: "deployer",
    scope: "namespace",
    params,
    body: RollbackPost,
    answer: DeployAnswer,
    verb: "rollback",
    draft: async ({ context, principal, params: { namespace, app }, body: { toRevision } }) =>
      asDraft(await draftRollback(context, { namespace, app, toRevision, createdBy: principal.name }), { namespace, app }),
  }),
  mutation({
    method: "patch",
    path: `${appPath}/services/{service}`,
    tag,
    summary: "Scale a service",
    role: "deployer",
    scope: "namespace",
    params: { ...params, service: Name },
    body: ServicePatch,
    answer: DeployAnswer,
    verb: "scale",
    draft: async ({ context, principal, params: { namespace, app, service }, body: { replicas } }) =>
      asDraft(await draftScale(context, { namespace, app, service, replicas, createdBy: principal.name }), { namespace, app }),
  }),
  list({
    path: `${appPath}/why`,
    tag,
    summary: "Why each service's replicas are where they are, or nowhere",
    role: "viewer",
    scope: "namespace",
    params,
    query: { service: Name.optional() },
    item: Why,
    load: async ({ context, params: { namespace, app }, query: { service } }) => {
      await requireNamespace(context, namespace);
      const { marks, services } = await readWhy(context.store, { namespace, app, service });
      if (services === null) throw noApp(namespace, app);
      if (service !== undefined && services.length === 0)
        throw new BerthError("not_found", `app ${app} has no service ${service}`, { reason: "service" });
      const items = services.map(({ service: name, explanation }) => ({
        app,
        service: name,
        explanation: explanation === null ? null : Explanation.parse(JSON.parse(explanation.body)),
        at: isoTimeOrNull(explanation?.atMs ?? null),
      }));
      return { marks, items };
    },
  }),
];
