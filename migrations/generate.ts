/**
 * `node migrations/generate.ts`: writes 0001_initial.sql from worker/store/schema.ts while no release has shipped it,
 * then embeds. After the first release a migration is never edited: write the next file by hand and run embed.ts.
 */
import { writeFileSync } from "node:fs";
import { generateSQLiteDrizzleJson, generateSQLiteMigration } from "drizzle-kit/api";
import * as schema from "../worker/store/schema.ts";
import { embed } from "./embed.ts";

const empty = await generateSQLiteDrizzleJson({});
const statements = await generateSQLiteMigration(empty, await generateSQLiteDrizzleJson(schema));
writeFileSync(new URL("0001_initial.sql", import.meta.url), `${statements.join("\n--> statement-breakpoint\n")}\n`);
embed();
