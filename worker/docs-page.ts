/** `/docs`: the OpenAPI document as one page with no script and nothing from elsewhere, so that it works offline. */
import type { OpenApiDocument, OpenApiOperation } from "./openapi.ts";

export const DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text: string): string => text.replace(/[&<>"']/g, (character) => ESCAPES[character] ?? "");
/** The few words of Markdown that summaries use. */
const prose = (text: string): string => escaped(text).replace(/`([^`]+)`/g, "<code>$1</code>");

export function docsPage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
  );
  const tags = [...new Set(operations.map(({ operation }) => operation.tags?.[0] ?? "Other"))];
  const nav = tags.map((tag) => `<a href="#${slug(tag)}">${escaped(tag)}</a>`).join("");
  const sections = tags.map((tag) => {
    const ofTag = operations.filter(({ operation }) => (operation.tags?.[0] ?? "Other") === tag);
    return `<section><h2 id="${slug(tag)}">${escaped(tag)}</h2>${ofTag.map(operationHtml).join("")}</section>`;
  });
  const { title, version, description = "" } = document.info;
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${escaped(title)} API</title><style>${STYLE}</style></head><body><header><h1>${escaped(title)} API <small>${escaped(version)}</small></h1><p>${prose(description)}</p><p>Every request carries <code>Authorization: Bearer berth_…</code>. The same as JSON: <a href="/openapi.json">openapi.json</a>.</p><nav>${nav}</nav></header><main>${sections.join("")}</main></body></html>`;
}

const slug = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]+/g, "-");

function operationHtml({ method, path, operation }: { method: string; path: string; operation: OpenApiOperation }): string {
  const parameters = operation.parameters ?? [];
  const rows = parameters.map(
    ({ name, in: place, required, schema, description }) =>
      `<tr><td><code>${escaped(name)}</code></td><td>${escaped(place)}${required === true ? ", required" : ""}</td><td>${escaped(briefly(schema))}${description === undefined ? "" : ` – ${prose(description)}`}</td></tr>`,
  );
  const body = Object.values(operation.requestBody?.content ?? {})[0]?.schema;
  const answers = Object.entries(operation.responses).filter(([status]) => status !== "default");
  const shown = answers.map(([status, { description, content }]) => {
    const [type, media] = Object.entries(content ?? {})[0] ?? [];
    return `<details><summary>Answer ${escaped(status)}: ${escaped(description)}${type === undefined ? "" : ` <small>${escaped(type)}</small>`}</summary>${media === undefined ? "" : schemaHtml(media.schema)}</details>`;
  });
  return `<article id="${escaped(operation.operationId)}"><h3><b class="${method.toLowerCase()}">${method}</b> <code>${escaped(path).replaceAll("/", "/<wbr>")}</code></h3><p>${prose(operation.summary ?? "")}</p>${operation.description === undefined ? "" : `<p class="more">${prose(operation.description)}</p>`}${rows.length === 0 ? "" : `<table>${rows.join("")}</table>`}${body === undefined ? "" : `<details><summary>Body</summary>${schemaHtml(body)}</details>`}${shown.join("")}</article>`;
}

const schemaHtml = (schema: unknown): string => `<pre>${escaped(outline(schema, 0))}</pre>`;

type Schema = { readonly [key: string]: unknown };
const isSchema = (value: unknown): value is Schema => typeof value === "object" && value !== null && !Array.isArray(value);
/** The deepest resource of ours nests seven levels; below, the type is enough. */
const DEPTH_MAX = 8;

/** A schema as the JSON it describes: keys with types, one a line. */
function outline(schema: unknown, depth: number): string {
  if (!isSchema(schema)) return "any";
  const indent = "  ".repeat(depth + 1);
  const alternatives = [schema.anyOf, schema.oneOf].find(Array.isArray) as unknown[] | undefined;
  if (alternatives !== undefined) return alternatives.map((option) => outline(option, depth)).join(" | ");
  if (isSchema(schema.properties) && depth < DEPTH_MAX) {
    const required = new Set(Array.isArray(schema.required) ? schema.required : []);
    const lines = Object.entries(schema.properties).map(
      ([key, value]) => `${indent}${key}${required.has(key) ? "" : "?"}: ${outline(value, depth + 1)}`,
    );
    return lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  if (isSchema(schema.items)) return `[ ${outline(schema.items, depth)} ]`;
  if (isSchema(schema.additionalProperties) && depth < DEPTH_MAX) return `{ [key]: ${outline(schema.additionalProperties, depth)} }`;
  return briefly(schema);
}

function briefly(schema: unknown): string {
  if (!isSchema(schema)) return "any";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (Array.isArray(schema.enum)) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : String(schema.type ?? "any");
  const bounds = [
    schema.minimum === undefined ? "" : `≥ ${String(schema.minimum)}`,
    schema.maximum === undefined || schema.maximum === Number.MAX_SAFE_INTEGER ? "" : `≤ ${String(schema.maximum)}`,
    schema.maxLength === undefined ? "" : `≤ ${String(schema.maxLength)} characters`,
    schema.format === undefined ? "" : String(schema.format),
    schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`,
  ].filter((text) => text !== "");
  return bounds.length === 0 ? type : `${type} (${bounds.join(", ")})`;
}

const STYLE = `:root{color-scheme:light dark;--line:#8884;--soft:#8882;--accent:#0b6e99}
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:1.5rem;font:16px/1.55 system-ui,sans-serif}
h1 small,summary small{font-weight:400;opacity:.6}nav{display:flex;flex-wrap:wrap;gap:.4rem .9rem;padding:.6rem 0;border-bottom:1px solid var(--line)}
a{color:var(--accent)}code,pre{font:13.5px/1.5 ui-monospace,monospace}pre{overflow-x:auto;background:var(--soft);padding:.8rem;border-radius:.4rem}
article{border:1px solid var(--line);border-radius:.5rem;padding:.2rem 1rem .8rem;margin:.9rem 0}h3{font-size:1rem;margin:.7rem 0 .3rem}
h3 b{display:inline-block;min-width:4.2rem;padding:.1rem .4rem;border-radius:.3rem;text-align:center;font-size:.75rem;color:#fff;background:#57606a}
h3 b.post,h3 b.put,h3 b.patch{background:#1a6b3c}h3 b.delete{background:#a3222c}p{margin:.3rem 0}.more{opacity:.75;font-size:.92em}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.9em}td{border-top:1px solid var(--line);padding:.25rem .6rem .25rem 0;vertical-align:top}summary{cursor:pointer;margin:.3rem 0}`;
