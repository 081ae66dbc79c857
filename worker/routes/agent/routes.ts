/**
 * `/agent/v1`: everything an agent asks. Every answer, errors and 204 included, carries the nonce for the next request.
 * Refusals are thrown; whoever mounts this answers them (`toResponse`).
 */
import { Hono } from "hono";
import type { KeysAnswer } from "../../../shared/wire/keys.ts";
import { ERA_HEADER, NONCE_HEADER, PROTOCOL_HEADER, PROTOCOL_VERSION } from "../../../shared/wire/version.ts";
import type { Context } from "../../context.ts";
import { Manifests } from "../../manifest.ts";
import { NODE_SESSIONS, RateLimit } from "../../rate-limit.ts";
import { body } from "./bodies.ts";
import { channelWithoutUpgrade } from "./channels.ts";
import { credentials } from "./credentials.ts";
import { Enrolments } from "./enroll.ts";
import { poll } from "./poll.ts";
import { report } from "./report.ts";
import { openSession } from "./session.ts";

export function agentRoutes(context: Context): Hono {
  const { shard, signer } = context;
  const manifests = new Manifests(context.store, signer);
  const enrolments = new Enrolments(context);
  const sessions = new RateLimit(context.clock, NODE_SESSIONS);
  const app = new Hono();

  // Set beforehand and passed through, so that no frame of this waits while a poll is held.
  app.use("*", async (c, next) => {
    c.header(NONCE_HEADER, await signer.nonce());
    c.header(ERA_HEADER, shard.cluster.era);
    c.header(PROTOCOL_HEADER, String(PROTOCOL_VERSION));
    return next();
  });

  app.get("/keys", async (c) => {
    const answer: KeysAnswer = { keySet: shard.cluster.keySet, serverNonce: await signer.nonce() };
    return c.json(answer, 200, { "cache-control": "no-store" });
  });
  app.post("/enroll", (c) => enrolments.handle(c));
  app.post("/session", (c) => openSession(context, sessions, c));
  app.post("/poll", (c) => poll(context, manifests, c));
  app.post("/report", (c) => report(context, c));
  app.get("/bodies/:hash", (c) => body(context, c));
  app.get("/credentials/:namespace/:registry", (c) => credentials(context, c));
  app.get("/channels/:id", (c) => channelWithoutUpgrade(context, c));
  return app;
}
