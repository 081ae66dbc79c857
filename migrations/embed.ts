/**
 * `node migrations/embed.ts`: writes the SQL files of this folder into worker/store/migrations.ts, because a control
 * plane on an edge platform has no file system to read them from.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = new URL(".", import.meta.url);
const target = new URL("../worker/store/migrations.ts", import.meta.url);

/** Text of the generated module. A statement ends at drizzle's `--> statement-breakpoint`. */
export function embedded(): string {
  const files = readdirSync(folder)
    .filter((name) => /^[0-9]{4}_[a-z0-9_]+\.sql$/.test(name))
    .sort();
  const entries = files.map((name) => {
    const text = readFileSync(new URL(name, folder), "utf8");
    const statements = text.split("--> statement-breakpoint").map((part) => part.trim());
    const lines = statements.filter((part) => part !== "").map((part) => `      ${JSON.stringify(part)},`);
    return `  {\n    id: ${JSON.stringify(name.replace(/\.sql$/, ""))},\n    statements: [\n${lines.join("\n")}\n    ],\n  },`;
  });
  return [
    "/** Generated from migrations/*.sql by `node migrations/embed.ts`. Do not edit. */",
    "export interface Migration {",
    "  readonly id: string;",
    "  readonly statements: readonly string[];",
    "}",
    "",
    "export const MIGRATIONS: readonly Migration[] = [",
    ...entries,
    "];",
    "",
  ].join("\n");
}

export function embed(): void {
  writeFileSync(target, embedded());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) embed();
