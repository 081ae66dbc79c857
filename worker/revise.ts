/**
 * A new revision of an app as row writes, from what is stored and what is wanted. Pure but for ids. Everything of it is
 * one commit: the revision, the services it changes, their bodies and images, and the deployment that moves the app
 * there, which supersedes one that is under way.
 */
import type { Deployment } from "../shared/api/resources.ts";
import type { AppSpec } from "../shared/model/app.ts";
import { canonicalJson } from "../shared/model/content.ts";
import { type DesiredConfig, type DesiredService, desireApp } from "../shared/model/desire.ts";
import { newId } from "./new-id.ts";
import type { Random } from "./ports.ts";
import type { Images } from "./resolve-images.ts";
import { isoTime, STAMP } from "./stamp.ts";
import { type Guard, NOW, type NewEvent, type NewRow, REV, type Row, type RowChange } from "./store/commit-types.ts";
import type { DeployView } from "./store/read-apps.ts";

export type DeployKind = Deployment["kind"];

export interface Revise {
  readonly namespace: string;
  readonly spec: AppSpec;
  readonly images: Images;
  readonly kind: DeployKind;
  readonly message: string;
  readonly createdBy: string;
  /** The service that a scale is about. */
  readonly scaled?: string;
}

/** `body`: null where it is stored already. */
type Wanted = Omit<DesiredService, "spec" | "body"> & { readonly spec: string; readonly body: string | null };

export interface ServiceChange {
  readonly desired: Wanted;
  /** What its image reference means; empty while nobody knows. */
  readonly image: string;
  readonly before: Row<"services"> | null;
  /** Its replicas are to run something else (the spec or the image behind it), or the same after a failure. */
  readonly isReplaced: boolean;
  /** Anything of the row differs. */
  readonly isChanged: boolean;
}

export interface Revised {
  readonly appId: string;
  /** Nothing differs: no row is written. */
  readonly isUnchanged: boolean;
  /** Scales an app that failed: nothing but counts changes. */
  readonly isHalted: boolean;
  readonly services: readonly ServiceChange[];
  readonly gone: readonly Row<"services">[];
  readonly changes: readonly RowChange[];
  readonly guards: readonly Guard[];
  readonly events: readonly NewEvent[];
  /** With STAMP for its revision and start; null when unchanged. */
  readonly deployment: Deployment | null;
}

const NOT_LOCKED = { lockedBy: null, lockMessage: "", lockedMs: null };
/** A rollback tries nothing; a scale goes on with what it takes the place of. */
function stanceOf(view: DeployView, kind: DeployKind) {
  const { pausedBy, resumedMs, promoted } = goesOnWith(view, kind) ?? { pausedBy: null, resumedMs: 0, promoted: kind === "rollback" };
  return { pausedBy, resumedMs, promoted, canariesHealthy: false };
}

export function revise(view: DeployView, next: Revise, random: Random): Revised {
  const isHalted = next.scaled !== undefined && view.hasFailed;
  const { services, configs } = isHalted ? rescaled(view, next, next.scaled) : compared(view, next);
  const names = new Set(services.map(({ desired }) => desired.name));
  const gone = view.services.filter(({ name, removed }) => !removed && !names.has(name));
  const appId = view.app?.id ?? newId(random, "app");
  const isUnchanged = view.app !== null && gone.length === 0 && services.every(({ isChanged }) => !isChanged);
  const base = { appId, isUnchanged, isHalted, services, gone };
  if (isUnchanged) return { ...base, changes: [], guards: [], events: [], deployment: null };

  const deploymentId = newId(random, "d");
  const fromRevision = comesFrom(view);
  const stance = stanceOf(view, next.kind);
  const sinceMs = goesOnWith(view, next.kind)?.startedMs ?? null;
  const { namespace, kind, message, createdBy } = next;
  const app = next.spec.name;
  return {
    ...base,
    changes: [
      appChange(view, { appId, namespace, name: app }),
      { op: "insert", table: "appRevisions", rows: [{ appId, revision: REV, spec: next.spec, createdBy, createdMs: NOW, message }] },
      ...serviceChanges(appId, services, gone),
      ...bodyChanges([
        ...services.flatMap(({ desired: { spec, body } }) => (body === null ? [] : [{ hash: spec, kind: "spec" as const, body }])),
        ...configs.map(({ hash, content }) => ({ hash, kind: "config" as const, body: content })),
      ]),
      ...imageChanges(view, { appId, isHalted, services, images: next.images }),
      ...supersede(view),
      {
        op: "insert",
        table: "deployments",
        rows: [
          {
            id: deploymentId,
            appId,
            revision: REV,
            fromRevision,
            kind,
            state: "running",
            message,
            createdBy,
            startedMs: sinceMs ?? NOW,
            finishedMs: null,
            halted: isHalted,
            ...stance,
          },
        ],
      },
    ],
    guards: guards(view),
    events: [
      {
        namespace,
        objectKind: "deployment",
        objectId: deploymentId,
        app,
        type: "started",
        level: "info",
        message: `${createdBy}: ${message}`,
      },
    ],
    deployment: {
      id: deploymentId,
      namespace,
      app,
      revision: STAMP.rev,
      fromRevision,
      kind,
      state: "running",
      message,
      createdBy,
      pausedBy: stance.pausedBy,
      canariesHealthy: false,
      promoted: stance.promoted,
      started: sinceMs === null ? STAMP.time : isoTime(sinceMs),
      finished: null,
    } as Deployment,
  };
}

/**
 * What references meant in a revision: what is known of them from it or the nearest one before. A service that did not
 * change keeps the revision it was made in, and a node that resolves its image says so of that one.
 */
export function imagesOf(view: Pick<DeployView, "images">, revision: number | null): Images {
  const known = revision === null ? [] : view.images.filter((image) => image.revision <= revision);
  return new Map(known.map(({ reference, digest, imageId }) => [reference, { digest, imageId }]));
}

/** One string for what an image is; empty while nobody knows. */
export const imageText = (images: Images, reference: string): string =>
  images.get(reference)?.digest ?? images.get(reference)?.imageId ?? "";

/** Every service as the spec has it. */
function compared(view: DeployView, next: Revise): Changes {
  const { services, configs } = desireApp(next.namespace, next.spec);
  const before = imagesOf(view, view.app?.revision ?? null);
  // After a failure the same again is another try: what it failed for may have been mended outside the cluster.
  const isRetry = next.kind === "deploy" && view.hasFailed;
  const compareTo = { before, after: next.images, isRetry, goesBack: next.kind === "rollback" };
  return { services: services.map((service) => compare(service, view, compareTo)), configs };
}

/**
 * After a failure a scale is no wish to try again: one count changes, and other rows stay as they are, whatever the app
 * declares. What is new of the service is as it was in the last revision that has not failed, where that had it.
 */
function rescaled(view: DeployView, next: Revise, name: string): Changes {
  const { replicas } = next.spec.services[name]!;
  const imageOf = (revision: number, reference: string) => imageText(imagesOf(view, revision), reference);
  const { services, configs } = view.good === null ? { services: [], configs: [] } : desireApp(next.namespace, view.good.spec);
  const good = services.find((service) => service.name === name && service.mode === "replicated");
  const changes = view.services.flatMap((row): ServiceChange[] => {
    if (row.removed) return [];
    const image = imageOf(row.revision, row.planning.imageReference);
    const before = { before: row, image, isReplaced: false };
    if (row.name !== name || row.replicas === replicas) return [{ ...before, desired: { ...row, body: null }, isChanged: false }];
    if (good === undefined) return [{ ...before, desired: { ...row, replicas, body: null }, isChanged: true }];
    const goodImage = imageOf(view.good!.revision, good.planning.imageReference);
    const isReplaced = row.spec !== good.spec || (image !== "" && goodImage !== "" && image !== goodImage);
    return [{ before: row, image: isReplaced ? goodImage : image, desired: { ...good, replicas }, isReplaced, isChanged: true }];
  });
  return { services: changes, configs };
}

interface Changes {
  readonly services: readonly ServiceChange[];
  readonly configs: readonly DesiredConfig[];
}

/** A scale goes on with the rollout that it takes the place of: it has begun when that had, and answers for what it placed. */
const goesOnWith = (view: DeployView, kind: DeployKind) => (kind === "scale" ? view.deployments[0] : undefined);

/** Where it goes back to when it fails: the last revision that has not failed, or where the rollout came from that it takes the place of. */
function comesFrom({ deployments, hasFailed, good, app }: DeployView): number | null {
  const [rollout] = deployments;
  return rollout !== undefined ? rollout.fromRevision : ((hasFailed ? good : app)?.revision ?? null);
}

function compare(
  desired: DesiredService,
  view: DeployView,
  to: { readonly before: Images; readonly after: Images; readonly isRetry: boolean; readonly goesBack: boolean },
): ServiceChange {
  const row = view.services.find(({ name }) => name === desired.name) ?? null;
  const before = row?.removed === false ? row : null;
  const { imageReference } = desired.planning;
  const [imageBefore, image] = [imageText(to.before, imageReference), imageText(to.after, imageReference)];
  if (before === null) return { desired, image, before, isReplaced: true, isChanged: true };
  // A migration that has run is not undone by running the one before it again.
  if (to.goesBack && desired.planning.ends && before.planning.ends)
    return {
      desired: { ...before, body: null },
      image: imageText(to.before, before.planning.imageReference),
      before,
      isReplaced: false,
      isChanged: false,
    };
  // An image that was not known becomes known when a node says so; that moves nothing.
  const isImageMoved = imageBefore !== "" && image !== imageBefore;
  const isReplaced = to.isRetry || before.spec !== desired.spec || isImageMoved;
  const isChanged =
    isReplaced ||
    before.mode !== desired.mode ||
    before.replicas !== desired.replicas ||
    canonicalJson(before.planning) !== canonicalJson(desired.planning) ||
    canonicalJson(before.reservation) !== canonicalJson(desired.reservation);
  return { desired, image, before, isReplaced, isChanged };
}

function appChange(view: DeployView, app: { appId: string; namespace: string; name: string }): RowChange {
  if (view.app !== null) return { op: "update", table: "apps", rows: [{ id: app.appId, revision: REV }] };
  const { appId: id, namespace, name } = app;
  return {
    op: "insert",
    table: "apps",
    rows: [{ id, namespace, name, revision: REV, deleting: false, deleteVolumes: false, ...NOT_LOCKED, createdMs: NOW }],
  };
}

/** Of a scale after a failure only what it turned back: services that kept their revision have their images with that. */
function imageChanges(
  view: DeployView,
  to: { readonly appId: string; readonly isHalted: boolean; readonly services: readonly ServiceChange[]; readonly images: Images },
): RowChange[] {
  const { appId, isHalted, services } = to;
  const images = isHalted ? imagesOf(view, view.good?.revision ?? null) : to.images;
  const shown = isHalted ? services.filter(({ isReplaced }) => isReplaced) : services;
  const rows = [...new Set(shown.map(({ desired }) => desired.planning.imageReference))].map((reference) => {
    const { digest, imageId } = images.get(reference) ?? { digest: null, imageId: null };
    return { appId, revision: REV as typeof REV, reference, digest, imageId, resolver: null };
  });
  return rows.length === 0 ? [] : [{ op: "insert", table: "images", rows }];
}

/** A service that runs the same spec and image keeps its `revision`: its replicas are current as they are. */
function serviceChanges(appId: string, services: readonly ServiceChange[], gone: readonly Row<"services">[]): RowChange[] {
  const changes: RowChange[] = [];
  const row = ({ name, mode, replicas, spec, reservation, planning }: Wanted) => ({
    appId,
    name,
    mode,
    replicas,
    spec,
    reservation,
    planning,
    removed: false,
  });
  const replaced: Omit<NewRow<"services">, "rev">[] = services
    .filter(({ isReplaced }) => isReplaced)
    .map(({ desired }) => ({ ...row(desired), revision: REV }));
  const adjusted = services.filter(({ isChanged, isReplaced }) => isChanged && !isReplaced).map(({ desired }) => row(desired));
  if (replaced.length > 0) changes.push({ op: "insert", table: "services", rows: replaced, onConflict: "replace" });
  if (adjusted.length > 0) changes.push({ op: "update", table: "services", rows: adjusted });
  if (gone.length > 0) changes.push({ op: "update", table: "services", rows: gone.map(({ name }) => ({ appId, name, removed: true })) });
  return changes;
}

function bodyChanges(bodies: readonly { hash: string; kind: "spec" | "config"; body: string }[]): RowChange[] {
  const distinct = new Map(bodies.map((body) => [body.hash, body]));
  return [{ op: "insert", table: "bodies", rows: [...distinct.values()].map((body) => ({ ...body, createdMs: NOW })), onConflict: "keep" }];
}

export function supersede(view: Pick<DeployView, "deployments">): RowChange[] {
  if (view.deployments.length === 0) return [];
  return [
    {
      op: "update",
      table: "deployments",
      rows: view.deployments.map(({ id }) => ({ id, state: "superseded" as const, finishedMs: NOW, message: "a newer one replaced it" })),
    },
  ];
}

/** Another deploy of the app, the end of the one that runs, and the namespace's removal are conflicts; the planner's work is not. */
function guards({ namespace, app, deployments }: DeployView): Guard[] {
  return [
    ...(namespace === null ? [] : [{ table: "namespaces" as const, key: { name: namespace.name }, rev: namespace.rev }]),
    ...(app === null ? [] : [{ table: "apps" as const, key: { id: app.id }, rev: app.rev }]),
    ...deployments.map(({ id, rev }) => ({ table: "deployments" as const, key: { id }, rev })),
  ];
}
