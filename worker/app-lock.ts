/** A lock keeps an app as it is: nobody deploys, scales, rolls back or removes it until it is lifted. */
import { noApp } from "./deploy.ts";
import { noNamespace } from "./auth.ts";
import type { Context } from "./context.ts";
import { BerthError } from "./errors.ts";
import { NOW, type Row } from "./store/commit-types.ts";
import { type AppView, readApps } from "./store/read-apps.ts";

export interface LockAsk {
  readonly namespace: string;
  readonly app: string;
  readonly by: string;
}

type Lock = Pick<Row<"apps">, "lockedBy" | "lockMessage">;
const FREE: Lock & { readonly lockedMs: null } = { lockedBy: null, lockMessage: "", lockedMs: null };

/** `message`: null lifts it. Throws `refused` where somebody else holds it: it is theirs to lift, or to be lifted first. */
export async function draftLock(context: Context, ask: LockAsk, message: string | null) {
  const { namespace, app: name, by } = ask;
  const { marks, exists, apps } = await readApps(context.store, namespace, name);
  if (!exists) throw noNamespace(namespace);
  const view = apps[0];
  if (view === undefined) throw noApp(namespace, name);
  const { app } = view;
  if (message !== null && app.lockedBy !== null && app.lockedBy !== by)
    throw new BerthError("refused", `${name} is locked by ${app.lockedBy}: ${app.lockMessage}; berth unlock ${name} lifts it`, {
      reason: "locked",
    });
  const lock = message === null ? FREE : { lockedBy: by, lockMessage: message, lockedMs: NOW as typeof NOW };
  const isNothing = lock.lockedBy === app.lockedBy && lock.lockMessage === app.lockMessage;
  const words = message === null ? `${by} unlocked ${name}` : `${by} locked ${name}: ${message}`;
  const event = { namespace, objectKind: "app", objectId: app.id, app: name, level: "info" } as const;
  const after: AppView = { ...view, app: { ...app, ...lock, lockedMs: message === null ? null : marks.nowMs } };
  return {
    marks,
    guards: [{ table: "apps" as const, key: { id: app.id }, rev: app.rev }],
    changes: isNothing ? [] : [{ op: "update" as const, table: "apps" as const, rows: [{ id: app.id, ...lock }] }],
    events: isNothing ? [] : [{ ...event, type: message === null ? "unlocked" : "locked", message: words }],
    audit: { namespace, object: `app/${name}`, detail: words },
    answer: isNothing ? view : after,
  };
}
