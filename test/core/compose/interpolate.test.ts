// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are substitutions of Compose, not of JavaScript
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { interpolate } from "../../../shared/compose/interpolate.ts";
import { quickly, accepted, read, refusedWith, shown, web, workload } from "./project.ts";

const variables = new Map([
  ["SET", "value"],
  ["EMPTY", ""],
  ["DOLLAR", "$SET"],
  ["_x9", "u"],
]);

const texts: readonly (readonly [string, string])[] = [
  ["plain", "plain"],
  ["$SET", "value"],
  ["${SET}", "value"],
  ["a$SET.b", "avalue.b"],
  ["${SET}${SET}", "valuevalue"],
  ["$_x9", "u"],
  ["$$SET", "$SET"],
  ["$$$SET", "$value"],
  ["$$$$", "$$"],
  ["${UNSET:-default}", "default"],
  ["${EMPTY:-default}", "default"],
  ["${SET:-default}", "value"],
  ["${UNSET-default}", "default"],
  ["${EMPTY-default}", ""],
  ["${UNSET:-}", ""],
  ["${SET:+other}", "other"],
  ["${EMPTY:+other}", ""],
  ["${EMPTY+other}", "other"],
  ["${UNSET+other}", ""],
  ["${SET:?message}", "value"],
  ["${EMPTY?message}", ""],
  ["${UNSET:-${SET}}", "value"],
  ["${UNSET:-${ALSO:-${SET:-x}}}", "value"],
  ["${UNSET:-a$SET-b$$c}", "avalue-b$c"],
  ["${SET:+${EMPTY:-${SET}}}", "value"],
  ["${UNSET:-{json: 1}", "{json: 1"],
  ["${UNSET:-http://host:80/?a=b}", "http://host:80/?a=b"],
  ["${UNSET:-:-}", ":-"],
  // A value is not read again, whatever it holds.
  ["$DOLLAR", "$SET"],
  ["${UNSET:-$DOLLAR}", "$SET"],
  // The side that is not taken is not missed.
  ["${SET:-${NEEDED:?gone}}", "value"],
  ["${UNSET:+${NEEDED:?gone}}", ""],
];

const broken: readonly (readonly [string, number])[] = [
  ["$", 0],
  ["a$", 1],
  ["$ x", 0],
  ["${", 0],
  ["${}", 0],
  ["${SET", 0],
  ["${9}", 0],
  ["$9", 0],
  ["${SET!x}", 0],
  ["${SET:x}", 0],
  ["${SET:-${}", 7],
  ["${UNSET:-open", 13],
  ["ok ${SET} but ${-", 14],
];

describe("interpolation", () => {
  test.each(texts)("%s → %s", (text, expected) => {
    expect(interpolate(text, variables)).toMatchObject({ kind: "text", text: expected });
  });

  test.each(broken)("%s is a mistake", (text, offset) => {
    expect(interpolate(text, variables)).toMatchObject({ kind: "syntax", offset });
  });

  test.each([
    ["${UNSET:?set it}", "set it"],
    ["${EMPTY:?}", ""],
    ["${UNSET?needs $SET}", "needs value"],
  ])("%s misses a required variable", (text, message) => {
    expect(interpolate(text, variables)).toMatchObject({ kind: "required", message });
  });

  test("an unset variable without a default is told, once, and only where its value is used", () => {
    expect(interpolate("$A${A} ${B} ${C:-$D} ${SET:-$E} ${SET:+$F}", variables)).toEqual({
      kind: "text",
      text: "   value ",
      unset: ["A", "B", "D", "F"],
    });
  });

  const plain = fc.string({ unit: "binary" }).filter((text) => !text.includes("$"));
  const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,8}$/);

  test("property: text without dollars is itself, and doubling dollars protects any text", () => {
    fc.assert(
      fc.property(plain, (text) => {
        expect(interpolate(text, variables)).toMatchObject({ text });
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(interpolate(text.replaceAll("$", "$$$$"), variables)).toMatchObject({ kind: "text", text });
      }),
    );
  });

  test("property: any value comes through whole, and the parts around it are untouched", () => {
    fc.assert(
      fc.property(plain, name, fc.string({ unit: "binary" }), plain, (before, variable, value, after) => {
        expect(interpolate(`${before}\${${variable}}${after}`, new Map([[variable, value]]))).toMatchObject({
          text: before + value + after,
          unset: [],
        });
      }),
    );
  });

  test("property: each operator follows its definition, for set, empty and unset alike", () => {
    const right = plain.filter((text) => !text.includes("}"));
    fc.assert(
      fc.property(
        name,
        fc.option(fc.string(), { nil: undefined }),
        right,
        fc.constantFrom(":-", "-", ":+", "+"),
        (variable, value, other, operator) => {
          const counts = operator.startsWith(":") ? value !== undefined && value !== "" : value !== undefined;
          const expected = operator.endsWith("-") ? (counts ? value : other) : counts ? other : "";
          expect(interpolate(`\${${variable}${operator}${other}}`, new Map(value === undefined ? [] : [[variable, value]]))).toMatchObject({
            text: expected,
          });
        },
      ),
    );
  });

  test("property: any text at all is answered, and never thrown at", () => {
    const hostile = fc
      .array(fc.constantFrom("$", "{", "}", ":", "-", "?", "+", "A", "SET", "$$", "${", ":-"), { maxLength: 60 })
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(hostile, (text) => {
        expect(["text", "syntax", "required"]).toContain(interpolate(text, variables).kind);
      }),
      { numRuns: 2_000 },
    );
  });

  test("depth, size and repetition are bounded, in time too", () => {
    quickly(() => {
      expect(interpolate("${A:-".repeat(200_000), new Map())).toMatchObject({ kind: "syntax", reason: expect.stringContaining("nested") });
      expect(interpolate("$A".repeat(100_000), new Map([["A", "x".repeat(10_000)]]))).toMatchObject({
        kind: "syntax",
        reason: expect.stringContaining("longer"),
      });
      expect(interpolate(`\${A:-${"x".repeat(900_000)}}`, new Map())).toMatchObject({ kind: "text" });
      expect(interpolate("$$".repeat(400_000), new Map())).toMatchObject({ kind: "text" });
    });
  });
});

describe("interpolation of a project", () => {
  test("values are interpolated, keys are not", () => {
    expect(workload(web("environment:", "  $KEY: $KEY"), { env: { KEY: "v" } }).env).toEqual({ $KEY: "v" });
  });

  test("numbers and booleans may come from variables", () => {
    const compose = web("init: $INIT", "stop_grace_period: ${GRACE}s", "oom_score_adj: ${ADJ}", "deploy: {replicas: '${N}'}");
    const { app } = accepted(compose, { env: { INIT: "true", GRACE: "5", ADJ: "-3", N: "4" } });
    expect(app.services.web).toMatchObject({ replicas: 4, workload: { init: true, stopGraceMs: 5_000, oomScoreAdj: -3 } });
  });

  test("an unset variable is a warning with its place", () => {
    const result = read(web("hostname: h$NOPE"));
    expect(result.ok && result.warnings).toEqual([
      { code: "variable_unset", message: expect.stringContaining("NOPE"), file: "/projects/shop/compose.yaml", line: 4, column: 15 },
    ]);
  });

  test("a mistake and a missing variable are errors with their places", () => {
    expect(refusedWith(web("hostname: ${", "user: ${WHO:?tell me}")).map(shown)).toEqual([
      "compose.yaml:4:15 interpolation_syntax services.web.hostname",
      "compose.yaml:5:11 variable_required services.web.user",
    ]);
  });
});
