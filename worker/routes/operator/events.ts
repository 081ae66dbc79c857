import { z } from "zod";
import { Event } from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import { isoTime } from "../../stamp.ts";
import type { Row } from "../../store/commit-types.ts";
import { readEvents } from "../../store/read-history.ts";
import { requireNamespace } from "./deployments.ts";
import { list, type Route } from "./route.ts";

const tag = "Events";
const After = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0);

const toEvent = ({ id, atMs, namespace, objectKind, objectId, app, type, level, message }: Row<"events">) => ({
  id,
  at: isoTime(atMs),
  namespace,
  object: { kind: objectKind, id: objectId },
  app,
  type,
  level,
  message,
});

export const eventRoutes: readonly Route[] = [
  list({
    path: "/v1/namespaces/{namespace}/events",
    tag,
    summary: "What happened in a namespace, oldest first, at most 1,000; `after` is the id of the last event you have",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name },
    query: { app: Name.optional(), after: After },
    item: Event,
    load: async ({ context, params: { namespace }, query: { app, after } }) => {
      await requireNamespace(context, namespace);
      const { marks, events } = await readEvents(context.store, { namespace, app, after });
      return { marks, items: events.map(toEvent) };
    },
  }),
  list({
    path: "/v1/events",
    tag,
    summary: "What happened in the whole cluster, nodes included; a token of one namespace sees that namespace's",
    role: "viewer",
    scope: "any",
    query: { after: After },
    item: Event,
    load: async ({ context, principal, query: { after } }) => {
      const { marks, events } = await readEvents(context.store, { namespace: principal.namespace, after });
      return { marks, items: events.map(toEvent) };
    },
  }),
];
