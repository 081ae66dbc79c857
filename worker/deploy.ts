/**
 * The three ways to a new revision: a spec that someone wrote (deploy), the current one with another count (scale), an
 * earlier one again (rollback). Each reads what is there, derives the rows, and shows what the planner would make of them.
 */
import type { DeployAnswer, DeployPlan } from "../shared/api/resources.ts";
import type { AppSpec } from "../shared/model/app.ts";
import { deployErrors } from "../shared/model/deploy-errors.ts";
import { noNamespace } from "./auth.ts";
import type { Context } from "./context.ts";
import { BerthError } from "./errors.ts";
import { previewDeploy } from "./preview.ts";
import { type Images, resolveImages } from "./resolve-images.ts";
import { type DeployKind, imagesOf, revise } from "./revise.ts";
import type { Guard, NewEvent, RowChange } from "./store/commit-types.ts";
import { type DeployView, readForDeploy } from "./store/read-apps.ts";
import type { Marks } from "./store/store.ts";

export interface DeployDraft {
  readonly marks: Marks;
  readonly appId: string;
  readonly changes: readonly RowChange[];
  readonly guards: readonly Guard[];
  readonly events: readonly NewEvent[];
  readonly message: string;
  readonly answer: DeployAnswer;
}

/** The planner makes a rollback that is owed at its next look. */
const ROLLBACK_BEGINS_S = 2;

interface AppAsk {
  readonly namespace: string;
  readonly app: string;
  /** Name of the token, or of what in berth asked. */
  readonly createdBy: string;
}

export const noApp = (namespace: string, app: string) =>
  new BerthError("not_found", `there is no app ${app} in namespace ${namespace}`, { reason: "app" });

export async function draftDeploy(
  context: Context,
  ask: AppAsk & { readonly spec: AppSpec; readonly message?: string | undefined },
): Promise<DeployDraft> {
  const view = await readForDeploy(context.store, ask);
  refuseUndeployable(view, ask);
  refuseLocked(view);
  refuseSpec(ask.app, ask.spec);
  const images = await resolveImages(context, {
    references: referencesOf(ask.spec),
    previous: imagesOf(view, view.app?.revision ?? null),
    registries: view.registries,
  });
  return await draft(context, view, { ...ask, images, kind: "deploy", message: ask.message ?? "deploy" });
}

export async function draftScale(
  context: Context,
  ask: AppAsk & { readonly service: string; readonly replicas: number },
): Promise<DeployDraft> {
  const view = await readForDeploy(context.store, ask);
  refuseUndeployable(view, ask);
  refuseLocked(view);
  const { current, good } = view;
  if (current === null) throw noApp(ask.namespace, ask.app);
  const service = Object.hasOwn(current.spec.services, ask.service) ? current.spec.services[ask.service] : undefined;
  if (service === undefined) throw new BerthError("not_found", `app ${ask.app} has no service ${ask.service}`, { reason: "service" });
  if (service.mode === "global")
    throw new BerthError("refused", `${ask.service} is global: it runs once on every node that matches, so it has no count to set`, {
      reason: "global",
    });
  if (view.rollbackTo !== null)
    throw new BerthError(
      "conflict",
      `the last deployment of ${ask.app} failed and it is about to be rolled back to revision ${view.rollbackTo}; scale it again in a moment, when that has begun`,
      { reason: "rollback", retryAfterS: ROLLBACK_BEGINS_S },
    );
  const spec = rescale(current.spec, ask);
  refuseSpec(ask.app, spec);
  const message = `scale ${ask.service} ${service.replicas} → ${ask.replicas}`;
  const next = { ...ask, spec, images: imagesOf(view, current.revision), kind: "scale", message, scaled: ask.service } as const;
  if (!view.hasFailed || service.replicas === ask.replicas) return await draft(context, view, next);
  const isGood = good !== null && Object.hasOwn(good.spec.services, ask.service);
  if (isGood) refuseSpec(ask.app, rescale(good.spec, ask));
  const notes = [
    `the last deployment of ${ask.app} failed, so this changes the count of ${ask.service} and updates nothing; berth deploy tries again, and berth rollback ${ask.app} goes back`,
    ...(isGood ? [`new replicas of ${ask.service} are as in revision ${good.revision}, the last that has not failed`] : []),
  ];
  return await draft(context, view, { ...next, notes });
}

const rescale = (spec: AppSpec, { service, replicas }: { readonly service: string; readonly replicas: number }): AppSpec => ({
  ...spec,
  services: { ...spec.services, [service]: { ...spec.services[service]!, replicas } },
});

type RollbackAsk = AppAsk & { readonly toRevision?: number | undefined };

/** Forward to a revision with the spec and the images of an earlier one. */
export async function draftRollback(context: Context, ask: RollbackAsk): Promise<DeployDraft> {
  const { view, next } = await earlier(context, ask, refuseLocked);
  return await draft(context, view, next);
}

/** The same unseen: the planner's loop, which asks for it, must not wait for a rehearsal. */
export async function reviseToEarlier(
  context: Context,
  ask: RollbackAsk,
): Promise<Pick<DeployDraft, "changes" | "guards" | "events" | "message">> {
  const { view, next } = await earlier(context, ask, () => undefined);
  return { ...revise(view, next, context.random), message: next.message };
}

/** `check` throws where this may not be asked now. */
async function earlier(
  context: Context,
  ask: RollbackAsk,
  check: (view: DeployView) => void,
): Promise<{ readonly view: DeployView; readonly next: Next }> {
  const view = await readForDeploy(context.store, { namespace: ask.namespace, app: ask.app, target: ask.toRevision });
  refuseUndeployable(view, ask);
  check(view);
  if (view.app === null || view.current === null) throw noApp(ask.namespace, ask.app);
  if (view.target === null) {
    if (ask.toRevision === undefined)
      throw new BerthError(
        "refused",
        `${ask.app} has no revision before ${view.app.revision} whose deployment did not fail; berth revisions ${ask.app} lists all of them, and any can be named`,
        { reason: "first" },
      );
    throw new BerthError("not_found", `app ${ask.app} has no revision ${ask.toRevision}; berth revisions ${ask.app} lists them`, {
      reason: "revision",
    });
  }
  const { spec, revision, message } = view.target;
  const next: Next = {
    ...ask,
    spec,
    images: imagesOf(view, revision),
    kind: "rollback",
    message: `rollback to ${revision}`,
    notes: [`this returns to revision ${revision} (${message})`],
  };
  return { view, next };
}

function refuseUndeployable({ namespace, app }: DeployView, ask: AppAsk): void {
  if (namespace === null) throw noNamespace(ask.namespace);
  if (app?.deleting === true)
    throw new BerthError(
      "refused",
      `${ask.app} is being removed; deploy it again when its last replica is gone (berth ps ${ask.app} shows them)`,
      { reason: "deleting" },
    );
}

/** Whoever locked it may not deploy it either: a lock is taken for others and for oneself. */
export function refuseLocked({ app }: DeployView): void {
  if (app === null || app.lockedBy === null) return;
  throw new BerthError("refused", `${app.name} is locked by ${app.lockedBy}: ${app.lockMessage}; berth unlock ${app.name} lifts it`, {
    reason: "locked",
  });
}

function refuseSpec(app: string, spec: AppSpec): void {
  if (spec.name !== app)
    throw new BerthError("invalid", `the spec is of app ${spec.name}, but the request is for ${app}`, { reason: "name" });
  const errors = deployErrors(spec);
  const [first] = errors;
  if (first === undefined) return;
  throw new BerthError("invalid", `${first.message}; ${first.mend}`, {
    reason: first.code,
    details: errors.slice(0, 20).map(({ path, message, mend }) => ({ path, message: `${message}; ${mend}` })),
  });
}

function referencesOf(spec: AppSpec): Map<string, { mayPull: boolean }> {
  const references = new Map<string, { mayPull: boolean }>();
  for (const { workload } of Object.values(spec.services)) {
    const known = references.get(workload.image)?.mayPull ?? false;
    references.set(workload.image, { mayPull: known || workload.pullPolicy !== "never" });
  }
  return references;
}

type Next = AppAsk & {
  readonly spec: AppSpec;
  readonly images: Images;
  readonly kind: DeployKind;
  readonly message: string;
  readonly scaled?: string;
  readonly notes?: readonly string[];
};

async function draft(context: Context, view: DeployView, next: Next): Promise<DeployDraft> {
  const revised = revise(view, next, context.random);
  const plan: DeployPlan = await previewDeploy(context, { ...next, view, revised });
  const { appId, changes, guards, events, deployment } = revised;
  const answer = { plan: { ...plan, notes: [...(next.notes ?? []), ...plan.notes] }, deployment };
  return { marks: view.marks, appId, changes, guards, events, message: next.message, answer };
}
