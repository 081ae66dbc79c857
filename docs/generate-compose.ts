/** Writes `docs/compose.md` from `shared/compose`. Run it after changing a key's row; a test fails while the page is stale. */
import { writeFileSync } from "node:fs";
import { composeDocument } from "../shared/compose/docs.ts";

writeFileSync(new URL("./compose.md", import.meta.url), composeDocument());
