// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are substitutions of Compose, not of JavaScript
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Problems } from "../../../shared/compose/problem.ts";
import { toData } from "../../../shared/compose/tree.ts";
import { parseYaml, plainValue } from "../../../shared/compose/yaml.ts";
import { quickly, read, refusedWith, shown, web } from "./project.ts";

function parse(text: string): { values: unknown[]; errors: string[] } {
  const problems = new Problems();
  const trees = parseYaml({ file: "f.yaml", base: "/", text }, problems);
  return {
    values: trees.map((tree) => JSON.parse(JSON.stringify(toData(tree)))),
    errors: problems.list().map((error) => `${error.line}:${error.column} ${error.code}`),
  };
}

describe("scalars are typed as Compose types them", () => {
  test.each([
    ["", null],
    ["~", null],
    ["null", null],
    ["true", true],
    ["FALSE", false],
    ["yes", "yes"],
    ["no", "no"],
    ["on", "on"],
    ["y", "y"],
    ["1", 1],
    ["-1", -1],
    ["+1", 1],
    ["0x1F", 31],
    ["0o17", 15],
    ["017", 15],
    ["0b11", 3],
    ["08", 8],
    ["1.5", 1.5],
    [".5", 0.5],
    ["1.", 1],
    ["1e3", 1000],
    ["1.10", 1.1],
    ["9007199254740993", "9007199254740993"],
    ["1:30", "1:30"],
    ["1_000", "1_000"],
    ["0x", "0x"],
    ["-", "-"],
    ["1e999", "1e999"],
    ["1.2.3", "1.2.3"],
    ["nan", "nan"],
  ] as const)("%s", (text, value) => {
    expect(plainValue(text)).toBe(value);
  });

  test("quotes and tags make strings, and a tag undoes quotes", () => {
    expect(parse("a: '1'\nb: !!str 1\nc: !!int '1'\nd: \"true\"\ne: |\n  1\n").values).toEqual([
      { a: "1", b: "1", c: 1, d: "true", e: "1\n" },
    ]);
  });
});

describe("merge keys, anchors and documents", () => {
  test.each([
    [
      "own keys win, wherever they stand",
      "a: &a {x: 1, y: 1}\nb: {y: 2, <<: *a}\nc: {<<: *a, y: 3}",
      { b: { y: 2, x: 1 }, c: { y: 3, x: 1 } },
    ],
    ["of several, the first wins", "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}", { c: { x: 1, y: 2 } }],
    ["merged mappings may have merged", "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}", { c: { x: 1, y: 2 } }],
    ["an anchor defined again counts from there", "a: &n 1\nb: *n\nc: &n 2\nd: *n", { b: 1, d: 2 }],
    ["a quoted << is a key", "c: {'<<': 1}", { c: { "<<": 1 } }],
    ["numbers and null as keys are their text", "1: a\n~: b", { 1: "a", "~": "b" }],
  ])("%s", (_, text, expected) => {
    const { values, errors } = parse(text);
    expect(errors).toEqual([]);
    expect(values[0]).toMatchObject(expected);
  });

  test("several documents are merged in order, as several files are", () => {
    const result = read(`${web("user: a", "hostname: h")}\n---\n${web("user: b")}`);
    expect(result.ok && result.app.services.web?.workload).toMatchObject({ user: "b", hostname: "h" });
  });

  test("a byte order mark and carriage returns are no matter", () => {
    expect(parse("\uFEFFa: 1\r\nb: 2\r\n").values).toEqual([{ a: 1, b: 2 }]);
  });
});

describe("what is no YAML is told with its place", () => {
  test.each([
    ["a tab", "a:\n\tb: 1", "2:1 yaml_syntax"],
    ["an open quote", "a: 'x\n", "2:1 yaml_syntax"],
    ["an open bracket", "a: [1, 2\n", "2:1 yaml_syntax"],
    ["a key twice", "a: 1\nb: 2\na: 3", "3:1 yaml_duplicate_key"],
    ["a key twice in an alias's mapping", "a: {x: 1, x: 2}", "1:11 yaml_duplicate_key"],
    ["an unknown anchor", "a: *b", "1:4 yaml_syntax"],
    ["an anchor before its definition", "a: *b\nb: &b 1", "1:4 yaml_syntax"],
    ["an anchor within itself", "a: &a\n  b: *a", "2:6 yaml_syntax"],
    ["a merge of something else", "a: {<<: [1]}", "1:10 yaml_syntax"],
    ["an unknown tag", "a: !!python/object x", "1:20 yaml_syntax"],
    ["a list as a key", "? [a]\n: 1", "1:3 yaml_syntax"],
    ["NUL", "a: 1\nb: \0", "2:1 yaml_syntax"],
    ["NUL by escape", 'a: "\\0"', "1:4 yaml_syntax"],
    ["half a character", 'a: "\\ud800"', "1:4 yaml_syntax"],
    ["half a character in a key", '"\\ud800": 1', "1:1 yaml_syntax"],
    ["bytes that were no UTF-8", "a: \ud800", "1:1 yaml_syntax"],
  ])("%s", (_, text, expected) => {
    expect(parse(text).errors).toContain(expected);
  });

  test("a list or a word instead of a project", () => {
    expect(refusedWith("- a").map(shown)).toContain("compose.yaml:1:1 wrong_type ");
    expect(refusedWith("hello").map((error) => error.code)).toContain("wrong_type");
    expect(refusedWith("").map((error) => error.code)).toEqual(["no_services"]);
  });
});

describe("hostile files", () => {
  test("a bomb of aliases is stopped", () => {
    const levels = Array.from(
      "abcdefghi",
      (name, index) =>
        `${name}: &${name} [${Array(10)
          .fill(index === 0 ? "x" : `*${"abcdefghi"[index - 1]}`)
          .join(",")}]`,
    );
    quickly(() => expect(parse(levels.join("\n")).errors.map((error) => error.split(" ")[1])).toEqual(["yaml_limit"]));
  });

  test("a bomb of merge keys is stopped", () => {
    const levels = Array.from(
      { length: 20 },
      (_, index) => `x-${index}: &m${index} {${index === 0 ? "a: 1" : `p: *m${index - 1}, q: *m${index - 1}`}}`,
    );
    quickly(() => expect(parse(levels.join("\n")).errors.length).toBeGreaterThan(0));
  });

  test("many aliases of one anchor cost what they are", () => {
    quickly(() => expect(parse(`a: &a x\nb:\n${"- *a\n".repeat(20_000)}`).errors).toEqual([]));
  });

  test.each([
    ["[", 20_000],
    ["{a: ", 20_000],
    ["- ", 20_000],
    ["? ", 20_000],
    ["a:\n ", 50],
  ])("%j again and again is too deep, not a crash", (part, times) => {
    const text = part === "a:\n " ? Array.from({ length: times }, (_, depth) => `${" ".repeat(depth)}a:`).join("\n") : part.repeat(times);
    quickly(() => expect(parse(text).errors.map((error) => error.split(" ")[1])).toContain("yaml_limit"));
  });

  test("a file over the limit is not parsed", () => {
    expect(parse(`a: ${"x".repeat(1_000_000)}`).errors).toEqual(["1:1 yaml_limit"]);
  });

  test("20,000 keys, 1,000 services, 5,000 ports", () => {
    quickly(() => expect(parse(Array.from({ length: 20_000 }, (_, index) => `k${index}: 1`).join("\n")).errors).toEqual([]));
    quickly(() =>
      expect(read(`services:\n${Array.from({ length: 1_000 }, (_, index) => `  s${index}: {image: x}`).join("\n")}`).ok).toBe(false),
    );
    quickly(() => expect(read(web(`ports: [${Array.from({ length: 5_000 }, (_, index) => `"${index + 1}"`).join(",")}]`)).ok).toBe(false));
  });

  test.each(["__proto__", "constructor", "prototype", "toString", "hasOwnProperty"])(
    "%s as a name anywhere is data or an error",
    (name) => {
      for (const compose of [
        `services: {${name}: {image: x}}`,
        web(`environment: {${name}: x}`),
        web(`labels: {${name}: x}`),
        web(`${name}: x`),
        web(`depends_on: {${name}: {condition: service_started}}`),
        web(`sysctls: {${name}: x}`),
        web(`volumes: ["${name}:/x"]`),
        `${web()}\nvolumes: {${name}: {}}`,
        `${web()}\nconfigs: {${name}: {content: x}}`,
        `${web()}\nx-a: {${name}: {polluted: yes}}`,
        `name: ${name}\n${web()}`,
      ]) {
        const result = read(compose, { env: { [name]: "v" } });
        if (result.ok && compose.includes("environment"))
          expect(Object.entries(result.app.services.web?.workload.env ?? {})).toEqual([[name, "x"]]);
        expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
      }
      expect(read(`services: {__proto__: {image: x}, web: {image: x}}`).ok).toBe(false);
      expect(read(web("environment: {__proto__: x}")).ok).toBe(false);
    },
  );

  test("control and direction characters in a message are shown, not sent", () => {
    const [error] = refusedWith(web('"evil\\e[31m\\u202e": 1'));
    expect(error?.message).toContain("\\u{1b}[31m\\u{202e}");
  });

  test("property: any text is answered with a result, never an exception", () => {
    const piece = fc.constantFrom(
      "services:",
      "\n",
      "  ",
      "web:",
      "image: x",
      "- ",
      "&a ",
      "*a",
      "<<: ",
      "{",
      "}",
      "[",
      "]",
      ": ",
      "'",
      '"',
      "|",
      "!reset ",
      "${A}",
      "#",
      "x-",
      "ports:",
      "8080:80",
      "\t",
      "---",
      "?",
      "include:",
      "extends: web",
      "deploy:",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        expect(typeof read(pieces.join("")).ok).toBe("boolean");
      }),
      { numRuns: 600 },
    );
  });
});
