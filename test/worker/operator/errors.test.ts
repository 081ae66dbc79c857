import { describe, expect, test } from "vitest";
import { ErrorBody } from "../../../shared/api/resources.ts";
import { ROUTES } from "../../../worker/routes/operator/table.ts";
import { appSpec, World } from "./world.ts";

describe("every refusal has the one form", () => {
  test.each([
    ["an unknown path", "GET", "/v1/nothing", 404, "route"],
    ["an unknown path outside the API", "GET", "/favicon.ico", 404, "route"],
    ["a trailing slash", "GET", "/v1/nodes/", 404, "route"],
    ["a wrong method", "PUT", "/v1/nodes", 405, "method"],
    ["a method nobody knows", "PROPFIND", "/v1/nodes", 405, "method"],
    ["a missing body", "POST", "/v1/sites", 400, "body"],
    ["a missing thing", "GET", "/v1/nodes/nobody", 404, "node"],
  ])("%s", async (_, method, path, status, reason) => {
    const world = await World.start();
    const answer = await world.call(method, path);
    expect(answer.status).toBe(status);
    expect(answer.headers.get("content-type")).toContain("application/json");
    expect(ErrorBody.strict().parse(answer.body).error.reason).toBe(reason);
    expect(answer.body.error.message.length).toBeGreaterThan(10);
  });

  test("405 says what is allowed", async () => {
    const world = await World.start();
    expect((await world.call("PUT", "/v1/sites")).headers.get("allow")).toBe("GET, HEAD, POST");
  });

  test("a schema's refusal names each place", async () => {
    const world = await World.start();
    const { status, body } = await world.call("POST", "/v1/join-tokens", { body: { site: "NO", uses: 0, extra: 1 } });
    expect(status).toBe(400);
    expect(body.error.details.map(({ path }) => path).sort()).toEqual(["", "site", "uses"]);
  });

  test("a defect is a 500 that keeps its text to itself, and is logged", async () => {
    const world = await World.start();
    world.context.store.database.read = () => Promise.reject(new Error("secret detail of the database"));
    const { status, text } = await world.get("/v1/nodes", {});
    expect(status).toBe(500);
    expect(text).not.toContain("secret detail");
    expect(JSON.stringify(world.plane.log.lines)).toContain("secret detail");
    expect(JSON.stringify(world.plane.log.lines)).not.toContain(world.admin);
    expect((await world.get("/healthz", { token: null })).status).toBe(200);
    expect((await world.get("/readyz", { token: null })).status).toBe(503);
  });

  test("what is stored and does not fit its schema is a defect, not the caller's mistake", async () => {
    const world = await World.start();
    await world.deploy(appSpec("shop"));
    const app = await world.get<{ id: string }>("/v1/namespaces/default/apps/shop");
    await world.plane.commit({
      changes: [{ op: "insert", table: "explanations", rows: [{ appId: app.body.id, service: "web", body: `{"odd":1}`, atMs: 1 }] }],
    });
    const { status, body } = await world.get("/v1/namespaces/default/apps/shop/why");
    expect([status, body.error.code]).toEqual([500, "internal"]);
    expect(world.plane.log.lines.filter(({ level }) => level === "error").length).toBe(1);
  });

  test("no answer may be kept by a cache", async () => {
    const world = await World.start();
    for (const path of ["/v1/nodes", "/v1/whoami", "/v1/tokens"])
      expect((await world.get(path)).headers.get("cache-control")).toBe("no-store");
  });
});

describe("documentation", () => {
  interface Document {
    openapi: string;
    paths: Record<string, Record<string, { operationId: string; responses: Record<string, unknown> }>>;
    components: { securitySchemes: object };
  }

  test("has every route, once, under its own name", async () => {
    const world = await World.start();
    const { body } = await world.get<Document>("/openapi.json", { token: null });
    expect(body.openapi).toBe("3.1.0");
    const operations = Object.entries(body.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ key: `${method} ${path}`, ...operation })),
    );
    expect(operations.map(({ key }) => key).sort()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
    for (const { responses } of operations) expect(Object.keys(responses)).toContain("default");
  });

  test("the page stands alone: no script, nothing from elsewhere", async () => {
    const world = await World.start();
    const { text, headers } = await world.get("/docs", { token: null });
    expect(text).not.toMatch(/<script|https?:\/\/|@import|url\(/i);
    expect(headers.get("content-security-policy")).toContain("default-src 'none'");
    for (const { path } of ROUTES) expect(text.replaceAll("<wbr>", "")).toContain(path);
  });

  test("the schema of x-berth is served without a token", async () => {
    const world = await World.start();
    const { status, body } = await world.get<{ properties: object }>("/v1/schemas/x-berth.json", { token: null });
    expect(status).toBe(200);
    expect(Object.keys(body.properties)).toContain("constraints");
  });

  test("the join script is served without a token", async () => {
    const world = await World.start();
    const { status, text } = await world.get("/join.sh", { token: null });
    expect([status, text.startsWith("#!/bin/sh")]).toEqual([200, true]);
    expect((await world.get("/agent/v1/dist/agent.mjs", { token: null })).status).toBe(503);
    expect((await world.get("/agent/v1/dist/passwd", { token: null })).status).toBe(404);
  });
});
