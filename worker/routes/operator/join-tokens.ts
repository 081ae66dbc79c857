import { counted } from "../../../shared/text/counted.ts";
import { base64url } from "jose";
import { JoinTokenCreate, JoinTokenCreated, JoinTokenInfo, Removed } from "../../../shared/api/resources.ts";
import { JoinTokenId } from "../../../shared/model/name.ts";
import { JOIN_TOKEN_PREFIX, JoinToken } from "../../../shared/wire/enroll.ts";
import { BerthError } from "../../errors.ts";
import { joinCommand } from "../../join-script.ts";
import { newEd25519, publicHalf, thumbprint } from "../../keys.ts";
import { newId } from "../../new-id.ts";
import { isoTime, STAMP } from "../../stamp.ts";
import { NOW, type Row } from "../../store/commit-types.ts";
import { readForJoinToken, readJoinToken, readJoinTokens } from "../../store/read-tokens.ts";
import { list, mutation, type Route } from "./route.ts";

const tag = "Join tokens";
const toInfo = ({ id, site, labels, needsApproval, usesMax, uses, expiresMs, createdMs }: Row<"joinTokens">) => ({
  id,
  site,
  labels,
  needsApproval,
  usesMax,
  uses,
  expires: isoTime(expiresMs),
  created: isoTime(createdMs),
});

export const joinTokenRoutes: readonly Route[] = [
  list({
    path: "/v1/join-tokens",
    tag,
    summary: "Join tokens; never the secrets",
    role: "admin",
    scope: "cluster",
    item: JoinTokenInfo,
    load: async ({ context }) => {
      const { marks, joinTokens } = await readJoinTokens(context.store);
      return { marks, items: joinTokens.map(toInfo) };
    },
  }),
  mutation({
    method: "post",
    path: "/v1/join-tokens",
    tag,
    summary: "Make a join token and the line to paste on a machine; both are shown this once",
    role: "admin",
    scope: "cluster",
    body: JoinTokenCreate,
    answer: JoinTokenCreated,
    status: 201,
    verb: "create",
    isSecret: true,
    draft: async ({ context, body }) => {
      const { store, random, address } = context;
      const { marks, site } = await readForJoinToken(store, body.site);
      if (site === null)
        throw new BerthError("refused", `there is no site ${body.site}; make it first: berth site create ${body.site}`, { reason: "site" });
      const { rootKey } = await store.cluster();
      // The server keeps the public half alone: what is in its database enrolls nobody.
      const { jwk } = await newEd25519();
      const id = newId(random, "jt");
      const url = (body.url ?? address.url).replace(/\/+$/, "");
      const carried: JoinToken = JoinToken.parse({
        v: 1,
        id,
        seed: jwk.d,
        url,
        root: await thumbprint(rootKey),
        ...(address.spki === null || url.startsWith("http:") ? {} : { spki: address.spki }),
      });
      const token = `${JOIN_TOKEN_PREFIX}${base64url.encode(JSON.stringify(carried))}`;
      const expiresMs = marks.nowMs + body.expiresInMs;
      const { labels, needsApproval, uses: usesMax } = body;
      const info = { id, site: site.name, labels, needsApproval, usesMax, uses: 0, expires: isoTime(expiresMs), created: STAMP.time };
      return {
        marks,
        guards: [{ table: "sites", key: { name: site.name }, rev: site.rev }],
        changes: [
          {
            op: "insert",
            table: "joinTokens",
            rows: [
              {
                id,
                publicKey: publicHalf(jwk),
                site: site.name,
                labels,
                namePattern: body.namePattern ?? null,
                needsApproval,
                usesMax,
                uses: 0,
                createdMs: NOW,
                expiresMs,
              },
            ],
          },
        ],
        audit: { namespace: null, object: `joinToken/${id}`, detail: `site ${site.name}, ${counted(usesMax, "use")}` },
        answer: { ...info, token, command: joinCommand({ url, spki: carried.spki ?? null }, token) },
        dryAnswer: { ...info, token: "", command: "" },
      };
    },
  }),
  mutation({
    method: "delete",
    path: "/v1/join-tokens/{joinToken}",
    tag,
    summary: "Delete a join token; nodes that joined with it stay",
    role: "admin",
    scope: "cluster",
    params: { joinToken: JoinTokenId },
    body: null,
    answer: Removed,
    verb: "delete",
    draft: async ({ context, params }) => {
      const { marks, joinToken } = await readJoinToken(context.store, params.joinToken);
      if (joinToken === null) throw new BerthError("not_found", `there is no join token ${params.joinToken}`, { reason: "joinToken" });
      return {
        marks,
        // No guard on its rev: each use moves it, and deleting stays right.
        changes: [{ op: "delete", table: "joinTokens", keys: [{ id: joinToken.id }] }],
        audit: {
          namespace: null,
          object: `joinToken/${joinToken.id}`,
          detail: `used ${joinToken.uses} of ${counted(joinToken.usesMax, "time")}`,
        },
        answer: { removed: joinToken.id, notes: [] },
      };
    },
  }),
];
