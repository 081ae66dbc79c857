import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mergeFirst, mergeTrees } from "../../../shared/compose/merge.ts";
import { Problems } from "../../../shared/compose/problem.ts";
import { type Mapping, toData, type Tree } from "../../../shared/compose/tree.ts";
import { parseYaml } from "../../../shared/compose/yaml.ts";

function tree(text: string): Mapping {
  const problems = new Problems();
  const [parsed] = parseYaml({ file: "f", base: "/", text }, problems);
  expect(problems.list()).toEqual([]);
  if (parsed?.kind !== "mapping") throw new Error("no mapping");
  return parsed;
}

const plain = (value: Tree | undefined): unknown => JSON.parse(JSON.stringify(value === undefined ? null : toData(value)));
/** What `services.web` is after merging these in order. */
function merged(...texts: string[]): unknown {
  let result: Tree | undefined;
  for (const text of texts) result = mergeTrees(result, tree(`services: {web: ${text}}`));
  return (plain(result) as { services: { web: unknown } }).services.web;
}

const rows: readonly (readonly [string, string, string, unknown])[] = [
  ["a scalar is replaced", "{image: a}", "{image: b}", { image: "b" }],
  ["a missing key is kept", "{image: a, user: u}", "{image: b}", { image: "b", user: "u" }],
  [
    "mappings merge",
    "{healthcheck: {interval: 1s, retries: 3}}",
    "{healthcheck: {retries: 4}}",
    { healthcheck: { interval: "1s", retries: 4 } },
  ],
  ["lists are appended", "{x-l: [a, b]}", "{x-l: [b, c]}", { "x-l": ["a", "b", "b", "c"] }],
  ["command is replaced", "{command: [a, b]}", "{command: [c]}", { command: ["c"] }],
  ["command changes its form", "{command: a b}", "{command: [c]}", { command: ["c"] }],
  ["entrypoint is replaced", "{entrypoint: [a]}", "{entrypoint: [b]}", { entrypoint: ["b"] }],
  [
    "healthcheck.test is replaced",
    "{healthcheck: {test: [CMD, a]}}",
    "{healthcheck: {test: [CMD, b]}}",
    { healthcheck: { test: ["CMD", "b"] } },
  ],
  [
    "environment merges by name, across forms",
    "{environment: [A=1, B=2]}",
    "{environment: {B: 3, C: 4}}",
    { environment: { A: "1", B: 3, C: 4 } },
  ],
  ["environment of one file: the later wins", "{environment: [A=1, A=2]}", "{environment: []}", { environment: { A: "2" } }],
  ["labels merge by key", "{labels: {a: 1}}", "{labels: [a=2, b]}", { labels: { a: "2", b: null } }],
  ["sysctls merge by key", "{sysctls: {a.b: 1}}", "{sysctls: [c.d=2]}", { sysctls: { "a.b": 1, "c.d": "2" } }],
  [
    "extra_hosts merge by host, with = or :",
    "{extra_hosts: ['a=1.1.1.1']}",
    "{extra_hosts: ['b:2.2.2.2']}",
    { extra_hosts: { a: "1.1.1.1", b: "2.2.2.2" } },
  ],
  ["extra_hosts: an IPv6 address keeps its colons", "{}", "{extra_hosts: ['a=::1', 'b:[::2]']}", { extra_hosts: { a: "::1", b: "[::2]" } }],
  [
    "depends_on merges by name, across forms",
    "{depends_on: [a]}",
    "{depends_on: {a: {condition: service_healthy}, b: {condition: service_started}}}",
    { depends_on: { a: { condition: "service_healthy" }, b: { condition: "service_started" } } },
  ],
  ["cap_add has no repeats", "{cap_add: [A, B]}", "{cap_add: [B, C]}", { cap_add: ["A", "B", "C"] }],
  ["dns: one string joins a list", "{dns: 1.1.1.1}", "{dns: [8.8.8.8]}", { dns: ["1.1.1.1", "8.8.8.8"] }],
  [
    "volumes: one for each place",
    "{volumes: ['a:/x:ro', 'b:/y']}",
    "{volumes: [{type: volume, source: c, target: /x}]}",
    { volumes: [{ type: "volume", source: "c", target: "/x" }, "b:/y"] },
  ],
  [
    "ports: equal ones once",
    "{ports: ['80:80', '81:81']}",
    "{ports: [{target: 80, published: 80}]}",
    { ports: [{ target: 80, published: 80 }, "81:81"] },
  ],
  ["ports: another protocol is another port", "{ports: ['53:53']}", "{ports: ['53:53/udp']}", { ports: ["53:53", "53:53/udp"] }],
  ["configs: one for each target", "{configs: [a]}", "{configs: [{source: b, target: a}]}", { configs: [{ source: "b", target: "a" }] }],
  ["devices: one for each place", "{devices: ['/dev/a:/dev/x']}", "{devices: ['/dev/b:/dev/x']}", { devices: ["/dev/b:/dev/x"] }],
  [
    "env_file: one for each path",
    "{env_file: a.env}",
    "{env_file: [{path: a.env, required: false}, b.env]}",
    { env_file: [{ path: "a.env", required: false }, "b.env"] },
  ],
  [
    "logging options of another driver are dropped",
    "{logging: {driver: a, options: {x: 1}}}",
    "{logging: {driver: b, options: {y: 2}}}",
    { logging: { driver: "b", options: { y: 2 } } },
  ],
  [
    "logging options of the same driver merge",
    "{logging: {driver: a, options: {x: 1}}}",
    "{logging: {options: {y: 2}}}",
    { logging: { driver: "a", options: { x: 1, y: 2 } } },
  ],
  ["build: a string is its context", "{build: ./a}", "{build: {target: t}}", { build: { context: "./a", target: "t" } }],
  ["ulimits: a number replaces a pair", "{ulimits: {nofile: {soft: 1, hard: 2}}}", "{ulimits: {nofile: 3}}", { ulimits: { nofile: 3 } }],
  ["an empty value takes nothing away", "{ports: ['80:80'], user: u}", "{ports: , user: }", { ports: ["80:80"], user: "u" }],
  ["!reset takes a key away", "{ports: ['80:80'], user: u}", "{ports: !reset [], user: !reset null}", {}],
  ["!reset inside a mapping", "{environment: {A: 1, B: 2}}", "{environment: {A: !reset null}}", { environment: { B: 2 } }],
  ["!override replaces a list", "{ports: ['80:80']}", "{ports: !override ['81:81']}", { ports: ["81:81"] }],
  [
    "!override replaces a mapping, across forms",
    "{environment: {A: 1, B: 2}}",
    "{environment: !override [C=3]}",
    { environment: { C: "3" } },
  ],
];

describe("merging", () => {
  test.each(rows)("%s", (_, first, second, expected) => {
    expect(merged(first, second)).toEqual(expected);
  });

  test("a tag in the first file is spent too", () => {
    expect(merged("{user: !reset u, image: a, ports: !override ['1:1']}")).toEqual({ image: "a", ports: ["1:1"] });
  });

  test("what a file resets, a later one may set again", () => {
    expect(merged("{user: a}", "{user: !reset null}", "{user: b}")).toEqual({ user: "b" });
  });

  test("a key called __proto__ merges like any other", () => {
    const both = mergeTrees(tree("x-a: {__proto__: {a: 1}}"), tree("x-a: {__proto__: {b: 2}}"));
    const inner = (both as Mapping).entries.get("x-a")?.value as Mapping;
    expect(plain(inner.entries.get("__proto__")?.value)).toEqual({ a: 1, b: 2 });
    expect(({} as { a?: number }).a).toBeUndefined();
  });
});

/** Services whose values come from small sets, so that two of them often meet in the same key. */
const word = fc.constantFrom("a", "b", "c");
const service = fc
  .record(
    {
      image: word,
      command: fc.oneof(fc.array(word, { maxLength: 2 }), word),
      environment: fc.oneof(
        fc.dictionary(word, word, { maxKeys: 3 }),
        fc.uniqueArray(
          fc.tuple(word, word).map((pair) => pair.join("=")),
          { maxLength: 3 },
        ),
      ),
      labels: fc.dictionary(word, word, { maxKeys: 2 }),
      ports: fc.array(fc.constantFrom("80:80", "81:80", "80:80/udp", "90"), { maxLength: 3 }),
      volumes: fc.array(fc.constantFrom("a:/x", "b:/x", "c:/y:ro"), { maxLength: 3 }),
      cap_add: fc.array(word, { maxLength: 3 }),
      dns: fc.oneof(word, fc.array(word, { maxLength: 2 })),
      depends_on: fc.oneof(fc.uniqueArray(word, { maxLength: 2 }), fc.dictionary(word, fc.record({ condition: word }), { maxKeys: 2 })),
      deploy: fc.record({ replicas: fc.nat(3), labels: fc.dictionary(word, word, { maxKeys: 2 }) }, { requiredKeys: [] }),
    },
    { requiredKeys: [] },
  )
  .map((web) => tree(JSON.stringify({ services: { web } })));

describe("merging, for any services", () => {
  test("is associative: (a + b) + c is a + (b + c)", () => {
    fc.assert(
      fc.property(service, service, service, (a, b, c) => {
        const left = mergeTrees(mergeTrees(mergeFirst(a), b), c);
        const right = mergeTrees(mergeFirst(a), mergeTrees(mergeFirst(b), c) as Tree);
        expect(plain(left)).toEqual(plain(right));
      }),
      { numRuns: 200 },
    );
  });

  test("nothing is its neutral element", () => {
    const nothing = tree("services: {web: {}}");
    fc.assert(
      fc.property(service, (a) => {
        expect(plain(mergeTrees(mergeFirst(a), nothing))).toEqual(plain(mergeFirst(a)));
        expect(plain(mergeTrees(mergeFirst(nothing), a))).toEqual(plain(mergeFirst(a)));
      }),
    );
  });

  test("merging the same again changes nothing", () => {
    fc.assert(
      fc.property(service, (a) => {
        expect(plain(mergeTrees(mergeFirst(a), a))).toEqual(plain(mergeFirst(a)));
      }),
    );
  });

  test("the later file's scalars win, and no key of either is lost", () => {
    fc.assert(
      fc.property(service, service, (a, b) => {
        const [first, second, both] = [a, b, mergeTrees(mergeFirst(a), b)].map(
          (side) => (plain(side) as { services: { web: { [key: string]: unknown } } }).services.web,
        );
        for (const key of [...Object.keys(first ?? {}), ...Object.keys(second ?? {})]) expect(both).toHaveProperty(key);
        if (second?.image !== undefined) expect(both?.image).toBe(second.image);
      }),
    );
  });
});
