import { Removed, TokenCreate, TokenCreated, TokenInfo } from "../../../shared/api/resources.ts";
import { TokenId } from "../../../shared/model/name.ts";
import { hashToken, newToken } from "../../auth.ts";
import { BerthError } from "../../errors.ts";
import { newId } from "../../new-id.ts";
import { isoTime, isoTimeOrNull, STAMP } from "../../stamp.ts";
import { NOW, type Row } from "../../store/commit-types.ts";
import { readNamespace } from "../../store/read-cluster.ts";
import { readTokenById, readTokens } from "../../store/read-tokens.ts";
import { list, mutation, type Route } from "./route.ts";

const tag = "Tokens";
const toInfo = ({ id, name, role, namespace, createdMs, expiresMs }: Row<"tokens">) => ({
  id,
  name,
  role,
  namespace,
  created: isoTime(createdMs),
  expires: isoTimeOrNull(expiresMs),
});

export const tokenRoutes: readonly Route[] = [
  list({
    path: "/v1/tokens",
    tag,
    summary: "API tokens; never the secrets",
    role: "admin",
    scope: "cluster",
    item: TokenInfo,
    load: async ({ context }) => {
      const { marks, tokens } = await readTokens(context.store);
      return { marks, items: tokens.map(toInfo) };
    },
  }),
  mutation({
    method: "post",
    path: "/v1/tokens",
    tag,
    summary: "Make an API token; `token` is shown this once",
    role: "admin",
    scope: "cluster",
    body: TokenCreate,
    answer: TokenCreated,
    status: 201,
    verb: "create",
    isSecret: true,
    draft: async ({ context, body: { name, role, namespace, expiresInMs } }) => {
      const { marks, ...found } =
        namespace === null ? { marks: await context.store.marks(), namespace: null } : await readNamespace(context.store, namespace);
      if (namespace !== null && found.namespace === null)
        throw new BerthError("refused", `there is no namespace ${namespace}; make it first: berth namespace create ${namespace}`, {
          reason: "namespace",
        });
      const token = newToken(context.random);
      const id = newId(context.random, "t");
      const expiresMs = expiresInMs === null ? null : marks.nowMs + expiresInMs;
      const info = { id, name, role, namespace, created: STAMP.time, expires: isoTimeOrNull(expiresMs) };
      return {
        marks,
        guards: found.namespace === null ? [] : [{ table: "namespaces", key: { name: found.namespace.name }, rev: found.namespace.rev }],
        changes: [
          { op: "insert", table: "tokens", rows: [{ id, hash: hashToken(token), name, role, namespace, createdMs: NOW, expiresMs }] },
        ],
        audit: { namespace, object: `token/${id}`, detail: `${role} ${name}` },
        answer: { ...info, token },
        dryAnswer: { ...info, token: "" },
      };
    },
  }),
  mutation({
    method: "delete",
    path: "/v1/tokens/{token}",
    tag,
    summary: "Delete an API token; it stops working at once",
    role: "admin",
    scope: "cluster",
    params: { token: TokenId },
    body: null,
    answer: Removed,
    verb: "delete",
    draft: async ({ context, params, principal }) => {
      const { marks, token } = await readTokenById(context.store, params.token);
      if (token === null) throw new BerthError("not_found", `there is no token ${params.token}`, { reason: "token" });
      if (token.id === principal.tokenId)
        throw new BerthError("refused", "this is the token you are using; delete it with another one", { reason: "self" });
      return {
        marks,
        guards: [{ table: "tokens", key: { id: token.id }, rev: token.rev }],
        changes: [{ op: "delete", table: "tokens", keys: [{ id: token.id }] }],
        audit: { namespace: token.namespace, object: `token/${token.id}`, detail: token.name },
        answer: { removed: token.id, notes: [] },
      };
    },
  }),
];
