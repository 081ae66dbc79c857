// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are substitutions of Compose, not of JavaScript
import { describe, expect, test } from "vitest";
import { quickly } from "./project.ts";
import { parseDotenv } from "../../../shared/compose/dotenv.ts";

const outer = new Map([["OUT", "outer"]]);
const rows: readonly (readonly [string, string, Record<string, string>])[] = [
  ["a pair", "A=1", { A: "1" }],
  ["spaces around", "  A = 1  ", { A: "1" }],
  ["export", "export A=1", { A: "1" }],
  ["an empty value", "A=", { A: "" }],
  ["comments and empty lines", "# x\n\n  # y\nA=1", { A: "1" }],
  ["a comment after a value needs a space", "A=1 # c\nB=1#c", { A: "1", B: "1#c" }],
  ["single quotes take all as it is", "A='a $OUT \\n # b'", { A: "a $OUT \\n # b" }],
  ["double quotes know escapes", 'A="a\\tb\\nc \\"d\\" \\\\ \\$OUT"', { A: 'a\tb\nc "d" \\ $OUT' }],
  ["quotes span lines", "A=\"x\ny\"\nB='p\nq'", { A: "x\ny", B: "p\nq" }],
  ["variables of the environment", 'A=$OUT\nB="${OUT}-${NO:-d}"', { A: "outer", B: "outer-d" }],
  ["variables of earlier lines", "A=1\nB=${A}2", { A: "1", B: "12" }],
  ["the environment wins over earlier lines", "OUT=inner\nB=$OUT", { OUT: "inner", B: "outer" }],
  ["a bare name takes the environment's value", "OUT\nNOT_THERE", { OUT: "outer" }],
  ["later lines win", "A=1\nA=2", { A: "2" }],
  ["equals signs in the value", "A=b=c==", { A: "b=c==" }],
  ["carriage returns", "A=1\r\nB=2\r\n", { A: "1", B: "2" }],
  ["a byte order mark", "\uFEFFA=1", { A: "1" }],
  ["the YAML form", "A: 1", { A: "1" }],
  ["a dollar sign doubled", "A=a$$b", { A: "a$b" }],
  ["__proto__ is a name", "__proto__=1", { ["__proto__"]: "1" }],
];

describe("env files", () => {
  test.each(rows)("%s", (_, text, expected) => {
    const parsed = parseDotenv(text, outer);
    expect(parsed.problems).toEqual([]);
    expect([...parsed.variables]).toEqual(Object.entries(expected));
  });

  test.each([
    ["no name", "=1", 1],
    ["a name with a space", "A=1\nB C=2", 2],
    ["an open quote", 'A=1\n\nB="x\ny', 3],
    ["text after a quote", "A='x' y", 1],
    ["a broken substitution", "A=${", 1],
    ["a required variable", "A=${NO:?x}", 1],
  ])("%s is told with its line", (_, text, line) => {
    expect(parseDotenv(text, outer).problems.map((problem) => problem.line)).toContain(line);
  });

  test("format raw takes every line as it is", () => {
    expect([...parseDotenv("A='x' # y $OUT\nB\n#c\n", outer, "raw").variables]).toEqual([["A", "'x' # y $OUT"]]);
  });

  test("a megabyte of lines or of quotes is read in no time", () => {
    quickly(() => {
      parseDotenv("A=$A\n".repeat(60_000), outer);
      parseDotenv('A="\n'.repeat(80_000), outer);
      parseDotenv(`A=${" ".repeat(1_000_000)}`, outer);
      parseDotenv(`${"export ".repeat(140_000)}`, outer);
    });
  });
});
