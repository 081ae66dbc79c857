import { z } from "zod";
import { RegistryInfo, RegistryPut, Removed } from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import { noNamespace } from "../../auth.ts";
import { BerthError } from "../../errors.ts";
import { isoTime, STAMP } from "../../stamp.ts";
import { NOW, type Row } from "../../store/commit-types.ts";
import { readRegistries, readRevisionsUsing } from "../../store/read-registries.ts";
import { list, mutation, type Route } from "./route.ts";

const tag = "Registries";
/** A host, with a port where it is not 443: as it stands before the first slash of an image. */
const RegistryHost = z
  .string()
  .max(253)
  .regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?$/, "a registry like registry.example.com:5000");
const params = { namespace: Name, registry: RegistryHost };
const toInfo = ({ registry, username, createdMs }: Row<"registries">) => ({ registry, username, created: isoTime(createdMs) });
const noRegistry = (registry: string) =>
  new BerthError("not_found", `there are no credentials for ${registry} in this namespace`, { reason: "registry" });

export const registryRoutes: readonly Route[] = [
  list({
    path: "/v1/namespaces/{namespace}/registries",
    tag,
    summary: "Image registries that the namespace has credentials for; never the passwords",
    role: "deployer",
    scope: "namespace",
    params: { namespace: Name },
    item: RegistryInfo,
    load: async ({ context, params: { namespace } }) => {
      const found = await readRegistries(context.store, namespace);
      if (found.namespace === null) throw noNamespace(namespace);
      return { marks: found.marks, items: found.registries.map(toInfo) };
    },
  }),
  mutation({
    method: "put",
    path: "/v1/namespaces/{namespace}/registries/{registry}",
    tag,
    summary: "Set the credentials for a registry; they are sealed before they are stored",
    role: "deployer",
    scope: "namespace",
    params,
    body: RegistryPut,
    answer: RegistryInfo,
    verb: "put",
    draft: async ({ context, params: { namespace, registry }, body: { username, password } }) => {
      const found = await readRegistries(context.store, namespace, registry);
      if (found.namespace === null) throw noNamespace(namespace);
      const { kid, sealed } = await context.signer.sealAtRest(new TextEncoder().encode(password));
      return {
        marks: found.marks,
        guards: [{ table: "namespaces", key: { name: namespace }, rev: found.namespace.rev }],
        changes: [
          {
            op: "insert",
            table: "registries",
            rows: [{ namespace, registry, username, sealed, kid, createdMs: NOW }],
            onConflict: "replace",
          },
        ],
        bumpNodesOf: await readRevisionsUsing(context.store, namespace, registry),
        audit: { namespace, object: `registry/${registry}`, detail: `user ${username}` },
        answer: { registry, username, created: STAMP.time },
      };
    },
  }),
  mutation({
    method: "delete",
    path: "/v1/namespaces/{namespace}/registries/{registry}",
    tag,
    summary: "Forget the credentials for a registry",
    role: "deployer",
    scope: "namespace",
    params,
    body: null,
    answer: Removed,
    verb: "delete",
    draft: async ({ context, params: { namespace, registry } }) => {
      const found = await readRegistries(context.store, namespace, registry);
      if (found.namespace === null) throw noNamespace(namespace);
      const [row] = found.registries;
      if (row === undefined) throw noRegistry(registry);
      return {
        marks: found.marks,
        guards: [{ table: "registries", key: { namespace, registry }, rev: row.rev }],
        changes: [{ op: "delete", table: "registries", keys: [{ namespace, registry }] }],
        bumpNodesOf: await readRevisionsUsing(context.store, namespace, registry),
        audit: { namespace, object: `registry/${registry}`, detail: `user ${row.username}` },
        answer: { removed: registry, notes: [] },
      };
    },
  }),
];
