import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { z } from "zod";
import { PROTOCOL_VERSION } from "../../shared/wire/version.ts";

/** When a message changes after the first release, PROTOCOL_VERSION rises, gets its line in version.ts, and this hash moves with it. */
const HASH_OF_VERSION: Record<number, string> = { 1: "ba5935bb3d8972eb" };

const folder = fileURLToPath(new URL("../../shared/wire/", import.meta.url));

async function schemas(): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith(".ts")) continue;
    const module: Record<string, unknown> = await import(`${folder}${file}`);
    for (const [name, value] of Object.entries(module)) {
      if (value instanceof z.ZodType) found[`${file}/${name}`] = z.toJSONSchema(value, { io: "input", unrepresentable: "any" });
    }
  }
  return found;
}

test("the wire's schemas are those of the protocol version", async () => {
  const hash = createHash("sha256")
    .update(JSON.stringify(await schemas()))
    .digest("hex")
    .slice(0, 16);
  expect({ [PROTOCOL_VERSION]: hash }).toEqual({ [PROTOCOL_VERSION]: HASH_OF_VERSION[PROTOCOL_VERSION] });
});

test("every message has a schema", async () => {
  const names = Object.keys(await schemas());
  for (const message of ["Manifest", "PollRequest", "PollAnswer", "ReportRequest", "EnrollRequest", "SessionPayload", "KeySet"]) {
    expect(names.some((name) => name.endsWith(`/${message}`))).toBe(true);
  }
});
