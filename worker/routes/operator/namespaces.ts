import { counted } from "../../../shared/text/counted.ts";
import { Namespace, NamespaceCreate, Removed } from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import { noNamespace } from "../../auth.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, STAMP } from "../../stamp.ts";
import { NOW } from "../../store/commit-types.ts";
import { readNamespace, readNamespaces } from "../../store/read-cluster.ts";
import { list, mutation, type Route } from "./route.ts";

const tag = "Namespaces";

export const namespaceRoutes: readonly Route[] = [
  list({
    path: "/v1/namespaces",
    tag,
    summary: "Namespaces that the token may see",
    role: "viewer",
    scope: "any",
    item: Namespace,
    load: async ({ context, principal }) => {
      const { marks, namespaces } = await readNamespaces(context.store, principal.namespace);
      return { marks, items: namespaces.map(({ name, createdMs }) => ({ name, created: isoTime(createdMs) })) };
    },
  }),
  mutation({
    method: "post",
    path: "/v1/namespaces",
    tag,
    summary: "Make a namespace",
    role: "admin",
    scope: "cluster",
    body: NamespaceCreate,
    answer: Namespace,
    status: 201,
    verb: "create",
    draft: async ({ context, body: { name } }) => {
      const { marks, namespace } = await readNamespace(context.store, name);
      if (namespace !== null) throw new BerthError("refused", `namespace ${name} exists already`, { reason: "exists" });
      return {
        marks,
        changes: [{ op: "insert", table: "namespaces", rows: [{ name, createdMs: NOW }] }],
        audit: { namespace: name, object: `namespace/${name}`, detail: "" },
        answer: { name, created: STAMP.time },
      };
    },
  }),
  mutation({
    method: "delete",
    path: "/v1/namespaces/{namespace}",
    tag,
    summary: "Delete an empty namespace, with its registry credentials and the tokens bound to it",
    role: "admin",
    scope: "cluster",
    params: { namespace: Name },
    body: null,
    answer: Removed,
    verb: "delete",
    draft: async ({ context, params }) => {
      const { marks, namespace, apps, tokens, registries, volumes } = await readNamespace(context.store, params.namespace);
      if (namespace === null) throw noNamespace(params.namespace);
      if (apps.length > 0) {
        const named = apps.slice(0, 10).join(", ");
        throw new BerthError(
          "refused",
          `namespace ${namespace.name} still has ${counted(apps.length, "app")} (${named}); remove them first`,
          {
            reason: "notEmpty",
          },
        );
      }
      const [kept] = volumes;
      if (kept !== undefined)
        throw new BerthError(
          "refused",
          `namespace ${namespace.name} still has ${counted(volumes.length, "volume")} of removed apps (${kept.volume} of ${kept.app} on ${kept.nodeId}), which the next of its name would get; delete them: berth rm ${kept.app} --delete-data -n ${namespace.name}`,
          { reason: "volumes" },
        );
      return {
        marks,
        guards: [
          { table: "namespaces", key: { name: namespace.name }, rev: namespace.rev },
          // Deploying into it does not move its rev.
          { table: "apps", none: { namespace: namespace.name } },
          { table: "volumes", none: { namespace: namespace.name } },
        ],
        changes: [
          { op: "delete", table: "namespaces", keys: [{ name: namespace.name }] },
          // By the namespace, not by what was read of it: one may have been made since.
          { op: "delete", table: "tokens", keys: [{ namespace: namespace.name }] },
          { op: "delete", table: "registries", keys: [{ namespace: namespace.name }] },
          // Whoever has the name next must not read of this tenant.
          { op: "delete", table: "events", keys: [{ namespace: namespace.name }] },
        ],
        audit: {
          namespace: namespace.name,
          object: `namespace/${namespace.name}`,
          detail: `${counted(tokens.length, "token")}, ${counted(registries.length, "registry", "registries")}`,
        },
        answer: {
          removed: namespace.name,
          notes: [
            ...(tokens.length === 0
              ? []
              : [`${counted(tokens.length, "token")} bound to it ${tokens.length === 1 ? "was" : "were"} deleted`]),
            ...(registries.length === 0 ? [] : [`credentials of ${counted(registries.length, "registry", "registries")} were deleted`]),
          ],
        },
      };
    },
  }),
];
