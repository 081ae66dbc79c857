/** The OpenAPI 3.1 document, from the same schemas that parse the requests. */
import { OpenAPIHono, z } from "@hono/zod-openapi";
import { ErrorBody } from "../shared/api/resources.ts";
import { ERROR_CODES } from "./errors.ts";
import { ROUTES } from "./routes/operator/table.ts";
import type { Route } from "./routes/operator/route.ts";
import { VERSION } from "./version.ts";

/** What is read of the document to show it. */
export interface OpenApiDocument {
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, OpenApiOperation>>>>;
}
export interface OpenApiOperation {
  readonly operationId: string;
  readonly tags?: readonly string[];
  readonly summary?: string;
  readonly description?: string;
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly schema?: unknown;
    readonly description?: string;
  }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema?: unknown }>> };
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content?: Readonly<Record<string, { readonly schema?: unknown }>> }>
  >;
}

const DESCRIPTION = `Errors are \`{ error: { code, message, reason, details, retryable } }\` with one of these codes: ${Object.keys(ERROR_CODES).join(", ")}. The message says what to do about it.`;
const IDEMPOTENCY_KEY = z
  .string()
  .describe(
    "<unix milliseconds>-<random>, or a UUID of version 7: the same key again within a day changes nothing and gets the same answer.",
  );

export function openApiDocument(): OpenApiDocument {
  const app = new OpenAPIHono();
  app.openAPIRegistry.registerComponent("securitySchemes", "token", {
    type: "http",
    scheme: "bearer",
    description: "A berth token: berth_…",
  });
  for (const route of ROUTES) app.openAPIRegistry.registerPath(describe(route));
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "berth", version: VERSION, description: DESCRIPTION },
    security: [{ token: [] }],
  });
  return document as unknown as OpenApiDocument;
}

/** `get /v1/namespaces/{namespace}/apps` → `getNamespaceApps`. */
export function operationId({ method, path }: Pick<Route, "method" | "path">): string {
  const words = path.split("/").filter((part) => part !== "" && part !== "v1" && !part.startsWith("{"));
  const name = words.flatMap((word) => word.split(/[-.]/)).map((word) => `${word[0]?.toUpperCase()}${word.slice(1)}`);
  return `${method}${name.join("")}${path.endsWith("}") ? "One" : ""}`;
}

function describe(route: Route): Parameters<OpenAPIHono["openAPIRegistry"]["registerPath"]>[0] {
  const { method, path, tag, summary, role, scope, status } = route;
  const reach = { namespace: "in this namespace", cluster: "over all namespaces", any: "in any namespace" }[scope];
  const error = { description: "refused", content: { "application/json": { schema: ErrorBody } } };
  return {
    method,
    path,
    operationId: operationId(route),
    tags: [tag],
    summary,
    description: [route.description, `Needs the role ${role} ${reach}.`].filter((text) => text !== undefined).join(" "),
    request: {
      params: z.object(route.params),
      query: z.object(route.query),
      ...(route.kind === "mutation" ? { headers: z.object({ "idempotency-key": IDEMPOTENCY_KEY.optional() }) } : {}),
      ...(route.body === null ? {} : { body: { required: true, content: { "application/json": { schema: route.body } } } }),
    },
    responses: {
      [status]: { description: status === 201 ? "made" : "done", content: { [route.contentType]: { schema: route.answer } } },
      default: error,
    },
  };
}
