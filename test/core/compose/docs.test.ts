import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { composeDocument } from "../../../shared/compose/docs.ts";
import { KEY_ROWS } from "../../../shared/compose/keys.ts";
import { XBerth, xBerthJsonSchema } from "../../../shared/compose/x-berth.ts";
import { accepted } from "./project.ts";

const page = readFileSync(new URL("../../../docs/compose.md", import.meta.url), "utf8");

describe("docs/compose.md", () => {
  test("is what the code generates (node docs/generate-compose.ts)", () => {
    expect(page).toBe(composeDocument());
  });

  test("has a line for every key", () => {
    expect(KEY_ROWS.filter((row) => !page.includes(`| \`${row.path}\` | ${row.status} |`)).map((row) => row.path)).toEqual([]);
  });

  test("its x-berth example is accepted as it stands", () => {
    const example = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? "";
    expect(XBerth.safeParse((parse(example) as { "x-berth": unknown })["x-berth"]).success).toBe(true);
    const { app } = accepted(example);
    expect(app.services.sensor?.placement.tolerations).toEqual([{ key: "edge" }]);
    expect(app.services.sensor?.placement.constraints).toHaveLength(4);
  });

  test("the served JSON Schema names every word and allows no other", () => {
    const schema = xBerthJsonSchema();
    expect(Object.keys(schema.properties as object)).toEqual(Object.keys(XBerth.shape));
    expect(schema.additionalProperties).toBe(false);
  });
});
