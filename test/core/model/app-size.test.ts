import { describe, expect, test } from "vitest";
import { AppSpec, type AppSpecInput } from "../../../shared/model/app.ts";
import { APP_BYTES_MAX, tooLarge } from "../../../shared/model/app-size.ts";
import { deployErrors } from "../../../shared/model/deploy-errors.ts";

const app = (configs: Record<string, string>, env: Record<string, string> = {}) =>
  AppSpec.parse({
    name: "shop",
    services: { web: { workload: { image: "nginx:1", env } } },
    configs: Object.fromEntries(Object.entries(configs).map(([name, content]) => [name, { content }])),
  } satisfies AppSpecInput);

const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value)).byteLength;

describe("the size of an app", () => {
  test("to the byte: the largest that fits, and one more", () => {
    const spare = APP_BYTES_MAX - bytesOf(app({ site: "" }));
    expect(tooLarge(app({ site: "a".repeat(spare) }))).toBeNull();
    expect(tooLarge(app({ site: "a".repeat(spare + 1) }))?.path).toBe("configs.site");
  });

  test.each(["\n", "ä", "€", "😀", '"'])("counts %j as it is sent", (character) => {
    const large = app({
      site: character.repeat(500_000 / (bytesOf(character) - 2)),
      rest: "b".repeat(600_000),
    });
    expect(tooLarge(large)?.message).toContain(`the app has ${bytesOf(large)} bytes`);
  });

  test("leaves room for the longest message in one body of the API", () => {
    const spare = APP_BYTES_MAX - bytesOf(app({ site: "" }));
    const body = { spec: app({ site: "a".repeat(spare) }), message: "\u0001".repeat(256) };
    expect(bytesOf(body)).toBeLessThanOrEqual(1_000_000);
  });

  test("names the biggest part, config or service, and is refused at deploy", () => {
    expect(tooLarge(app({ a: "x".repeat(400_000), b: "x".repeat(500_000), c: "x".repeat(300_000) }))?.message).toContain(
      "biggest part is config b with 500",
    );
    const variables = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`KEY_${i}`, "x".repeat(30_000)]));
    expect(tooLarge(app({ a: "x".repeat(1_000) }, variables))?.path).toBe("services.web");
    expect(deployErrors(app({ a: "x".repeat(999_000) })).map(({ code, path }) => [code, path])).toEqual([["app_too_large", "configs.a"]]);
  });
});
