/**
 * The control plane as one app object: operator API, agent API, downloads and documentation. What it needs from the world
 * it is given, so the same object runs under every entry and in tests.
 */
import { type Context as Request, Hono } from "hono";
import { z } from "zod";
import { errorText } from "./error-text.ts";
import { XBerth } from "../shared/compose/x-berth.ts";
import { Authenticator, authorize } from "./auth.ts";
import { parseJson, readBody } from "./body.ts";
import type { Context } from "./context.ts";
import { DIST_FILES, type Downloads } from "./downloads.ts";
import { DOCS_POLICY, docsPage } from "./docs-page.ts";
import { BerthError, toResponse } from "./errors.ts";
import { Flights, PREVIEWS, REQUESTS } from "./flights.ts";
import { JOIN_SCRIPT } from "./join-script.ts";
import { openApiDocument } from "./openapi.ts";
import { RateLimit, SHARE_REQUESTS } from "./rate-limit.ts";
import { Revocation } from "./revocation.ts";
import { agentRoutes } from "./routes/agent/routes.ts";
import type { Route } from "./routes/operator/route.ts";
import { ROUTES } from "./routes/operator/table.ts";
import { shareOf } from "./share.ts";
import { checkText } from "./text-check.ts";
import { Watchers } from "./watch.ts";

/** `downloads`: null where machines do not get the agent from here. */
export function createApp(context: Context, downloads: Downloads | null = null): Hono {
  const app = new Hono();
  app.onError(toResponse(context.log));
  app.notFound((c) => {
    throw new BerthError(
      "not_found",
      `there is nothing at ${c.req.method} ${c.req.path.slice(0, 200)}; /openapi.json lists what there is`,
      { reason: "route" },
    );
  });
  app.use("*", async (c, next) => {
    await next();
    c.res.headers.set("x-content-type-options", "nosniff");
  });
  mountHealth(app, context);
  mountDocs(app);
  mountDownloads(app, downloads);
  app.route("/agent/v1", agentRoutes(context));
  mountOperator(app, context);
  return app;
}

function mountHealth(app: Hono, { store, log }: Context): void {
  app.get("/healthz", (c) => c.json({ ok: true }));
  app.get("/readyz", async (c) => {
    try {
      const { rev } = await store.marks();
      return c.json({ ok: true, rev });
    } catch (error) {
      log.warn({ error: errorText(error) }, "not ready: the database does not answer");
      throw new BerthError("unavailable", "the database does not answer; the control plane's log says why", { retryAfterS: 1 });
    }
  });
}

function mountDocs(app: Hono): void {
  // Made at the first request: building it takes longer than starting should.
  let made: { json: string; html: string; xBerth: string } | null = null;
  const documents = () => {
    if (made === null) {
      const document = openApiDocument();
      const xBerth = JSON.stringify(z.toJSONSchema(XBerth, { io: "input" }));
      made = { json: JSON.stringify(document), html: docsPage(document), xBerth };
    }
    return made;
  };
  app.get("/openapi.json", () => new Response(documents().json, { headers: { "content-type": "application/json" } }));
  app.get(
    "/docs",
    () =>
      new Response(documents().html, {
        headers: { "content-type": "text/html; charset=utf-8", "content-security-policy": DOCS_POLICY, "referrer-policy": "no-referrer" },
      }),
  );
  app.get("/v1/schemas/x-berth.json", () => new Response(documents().xBerth, { headers: { "content-type": "application/schema+json" } }));
}

function mountDownloads(app: Hono, downloads: Downloads | null): void {
  app.get(
    "/join.sh",
    () => new Response(JOIN_SCRIPT, { headers: { "content-type": "text/x-shellscript; charset=utf-8", "cache-control": "no-store" } }),
  );
  app.get("/agent/v1/dist/:file", async (c) => {
    const asked = c.req.param("file");
    const file = DIST_FILES.find((name) => asked === name || asked === `${name}.sha256`);
    if (file === undefined)
      throw new BerthError(
        "not_found",
        `there is no download of this name; there are ${DIST_FILES.join(", ")}, each also with .sha256 behind it`,
        { reason: "file" },
      );
    if (downloads === null)
      throw new BerthError("unavailable", "this control plane hands out no agent; install it from the release page", {
        reason: "downloads",
      });
    try {
      if (asked !== file) return c.text(await downloads.sum(file));
      const { bytes, stream } = await downloads.open(file);
      return new Response(stream, { headers: { "content-type": "application/octet-stream", "content-length": String(bytes) } });
    } catch (cause) {
      throw new BerthError("unavailable", cause instanceof Error ? cause.message : `${file} cannot be had here`, {
        reason: "downloads",
        cause,
      });
    }
  });
}

/** Headers by which some frameworks let a request pose as another method. */
const OVERRIDES = ["x-http-method-override", "x-http-method", "x-method-override"];

function mountOperator(app: Hono, context: Context): void {
  const { store, clock, shard } = context;
  const authenticator = new Authenticator({ store, clock, rev: () => shard.rev });
  const watchers = new Watchers(context, authenticator);
  const revocation = new Revocation(context);
  const limit = new RateLimit(clock, SHARE_REQUESTS);
  const flights = new Flights(REQUESTS);
  const previews = new Flights(PREVIEWS);
  const handle = (route: Route) => async (c: Request) => {
    const request = c.req.raw;
    const override = OVERRIDES.find((name) => request.headers.has(name));
    if (override !== undefined)
      throw new BerthError("invalid", `${override} is not accepted; send the method itself`, { reason: "headers" });
    const principal = await authenticator.authenticate(request.headers);
    const share = shareOf(principal);
    limit.take(share);
    return await flights.run(share, async (place) => {
      const params = c.req.param() as Record<string, string>;
      authorize(principal, route, params.namespace ?? null);
      const query = queryOf(request.url);
      checkText(params);
      checkText(query);
      return await route.handle({
        context,
        watchers,
        place,
        previews,
        revocation,
        principal,
        params,
        query,
        body: await bodyOf(route, request),
        request,
      });
    });
  };

  const paths = new Map<string, Route[]>();
  for (const route of ROUTES) paths.set(route.path, [...(paths.get(route.path) ?? []), route]);
  for (const [path, routes] of paths) {
    const pattern = path.replace(/\{([A-Za-z]+)\}/g, ":$1");
    for (const route of routes) app.on(route.method.toUpperCase(), pattern, handle(route));
    const allowed = [...new Set(routes.flatMap(({ method }) => (method === "get" ? ["GET", "HEAD"] : [method.toUpperCase()])))].join(", ");
    app.all(pattern, (c) => {
      const error = new BerthError("method_not_allowed", `${path} takes ${allowed}, not ${c.req.method.slice(0, 16)}`, {
        reason: "method",
      });
      return c.json(error.toBody(), 405, { allow: allowed });
    });
  }
}

/** Throws `invalid` when a key comes twice: which of them counts, no two readers agree on. */
function queryOf(url: string): Record<string, string> {
  const query: Record<string, string> = {};
  for (const [key, value] of new URL(url).searchParams) {
    if (Object.hasOwn(query, key)) throw new BerthError("invalid", `the query has ${key.slice(0, 64)} twice`, { reason: "query" });
    Object.defineProperty(query, key, { value, enumerable: true });
  }
  return query;
}

async function bodyOf(route: Route, request: globalThis.Request): Promise<unknown> {
  if (route.method === "get") return null;
  const bytes = await readBody(request);
  if (route.body === null) {
    if (bytes.length > 0) throw new BerthError("invalid", "this request takes no body", { reason: "body" });
    return null;
  }
  if (bytes.length === 0) throw new BerthError("invalid", "this request needs a JSON body", { reason: "body" });
  const body = parseJson(bytes);
  checkText(body);
  return body;
}
