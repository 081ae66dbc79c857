import { Removed, type Role, TokenCreate, TokenCreated, TokenInfo } from "../../../shared/api/resources.ts";
import { TokenId } from "../../../shared/model/name.ts";
import { hashToken, mayEnter, newToken, noNamespace, type Principal } from "../../auth.ts";
import { BerthError } from "../../errors.ts";
import { newId } from "../../new-id.ts";
import { isoTime, isoTimeOrNull, STAMP } from "../../stamp.ts";
import { NOW, type Row } from "../../store/commit-types.ts";
import { readForNewToken, readTokenById, readTokens } from "../../store/read-tokens.ts";
import { list, mutation, type Route } from "./route.ts";

const tag = "Tokens";
/**
 * A team has tens. Those that have expired are kept for a month, for who asks why one stopped working, and count as long as
 * there is room: a new one takes the place of the longest expired, so that short-lived ones can be made for every job.
 * Requests that run at once may pass the limit by as many as may be under way.
 */
const TOKENS_A_NAMESPACE_MAX = 100;
const TOKENS_OF_ALL_MAX = 1_000;
const toInfo = ({ id, name, role, namespace, createdMs, expiresMs }: Row<"tokens">) => ({
  id,
  name,
  role,
  namespace,
  created: isoTime(createdMs),
  expires: isoTimeOrNull(expiresMs),
});

/**
 * What an admin bound to a namespace may manage: the deployers and viewers of that namespace, as an admin of a Kubernetes
 * namespace may bind its roles. Other admins are the business of one who is admin of all.
 */
function refuseBeyond(principal: Principal, token: { readonly namespace: string | null; readonly role: Role }): void {
  if (principal.namespace === null) return;
  if (token.namespace === null)
    throw new BerthError(
      "forbidden",
      `${principal.name} is an admin of ${principal.namespace} alone; name that namespace, a token of all is not its to make`,
      { reason: "scope" },
    );
  if (!mayEnter(principal, token.namespace)) throw noNamespace(token.namespace);
  if (token.role === "admin")
    throw new BerthError("forbidden", `an admin of one namespace manages its deployers and viewers; this is an admin's token`, {
      reason: "role",
    });
}

export const tokenRoutes: readonly Route[] = [
  list({
    path: "/v1/tokens",
    tag,
    summary: "API tokens; never the secrets. An admin of one namespace sees those of that namespace",
    role: "admin",
    scope: "any",
    item: TokenInfo,
    load: async ({ context, principal }) => {
      const { marks, tokens } = await readTokens(context.store, principal.namespace);
      return { marks, items: tokens.map(toInfo) };
    },
  }),
  mutation({
    method: "post",
    path: "/v1/tokens",
    tag,
    summary: "Make an API token; `token` is shown this once. An admin of one namespace makes deployers and viewers of that namespace",
    role: "admin",
    scope: "any",
    body: TokenCreate,
    answer: TokenCreated,
    status: 201,
    verb: "create",
    isSecret: true,
    draft: async ({ context, principal, body: { name, role, namespace, expiresInMs } }) => {
      refuseBeyond(principal, { namespace, role });
      const { marks, good, expired, ...found } = await readForNewToken(context.store, namespace);
      if (namespace !== null && found.namespace === null)
        throw new BerthError("refused", `there is no namespace ${namespace}; make it first: berth namespace create ${namespace}`, {
          reason: "namespace",
        });
      const max = namespace === null ? TOKENS_OF_ALL_MAX : TOKENS_A_NAMESPACE_MAX;
      if (good >= max)
        throw new BerthError(
          "refused",
          `there are ${good} tokens of ${namespace === null ? "all namespaces" : `namespace ${namespace}`}, and ${max} may be; remove one that nobody needs any more: berth token rm ID (berth token ls shows them)`,
          { reason: "tokens" },
        );
      const outlived = expired.slice(0, Math.max(0, good + expired.length + 1 - max));
      const token = newToken(context.random);
      const id = newId(context.random, "t");
      const expiresMs = expiresInMs === null ? null : marks.nowMs + expiresInMs;
      const info = { id, name, role, namespace, created: STAMP.time, expires: isoTimeOrNull(expiresMs) };
      return {
        marks,
        guards: found.namespace === null ? [] : [{ table: "namespaces", key: { name: found.namespace.name }, rev: found.namespace.rev }],
        changes: [
          { op: "insert", table: "tokens", rows: [{ id, hash: hashToken(token), name, role, namespace, createdMs: NOW, expiresMs }] },
          ...(outlived.length === 0
            ? []
            : [{ op: "delete" as const, table: "tokens" as const, keys: outlived.map((gone) => ({ id: gone })) }]),
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
    summary: "Delete an API token; it stops working at once. An admin of one namespace deletes deployers and viewers of that namespace",
    role: "admin",
    scope: "any",
    params: { token: TokenId },
    body: null,
    answer: Removed,
    verb: "delete",
    draft: async ({ context, params, principal }) => {
      const { marks, token } = await readTokenById(context.store, params.token);
      if (token === null || (token.namespace !== principal.namespace && principal.namespace !== null))
        throw new BerthError("not_found", `there is no token ${params.token}`, { reason: "token" });
      if (token.id === principal.tokenId)
        throw new BerthError("refused", "this is the token you are using; delete it with another one", { reason: "self" });
      refuseBeyond(principal, token);
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
