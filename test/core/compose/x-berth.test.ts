import { describe, expect, test } from "vitest";
import { parseConstraint } from "../../../shared/compose/x-berth.ts";
import { Constraint } from "../../../shared/model/app.ts";
import { quickly, accepted, refusedWith, shown, web } from "./project.ts";

describe("conditions", () => {
  test.each([
    ["node.labels.a = b", { key: "node.labels.a", operator: "=", values: ["b"] }],
    ["node.labels.a==b", { key: "node.labels.a", operator: "=", values: ["b"] }],
    ["node.labels.a != b c", { key: "node.labels.a", operator: "!=", values: ["b c"] }],
    ["site.labels.ram > 3.5", { key: "site.labels.ram", operator: ">", values: ["3.5"] }],
    ["node.labels.ram<-1", { key: "node.labels.ram", operator: "<", values: ["-1"] }],
    ["node.site in berlin, hamburg", { key: "node.site", operator: "in", values: ["berlin", "hamburg"] }],
    ["node.site notIn berlin", { key: "node.site", operator: "notIn", values: ["berlin"] }],
    ["node.labels.gpu exists", { key: "node.labels.gpu", operator: "exists", values: [] }],
    ["node.labels.gpu notExists", { key: "node.labels.gpu", operator: "notExists", values: [] }],
    ["node.labels.in = x", { key: "node.labels.in", operator: "=", values: ["x"] }],
    ["node.labels.example.com/rack in a", { key: "node.labels.example.com/rack", operator: "in", values: ["a"] }],
  ])("%s", (text, expected) => {
    expect(parseConstraint(text)).toEqual(expected);
    expect(Constraint.safeParse(expected).success).toBe(true);
  });

  test.each([
    "node.labels.a",
    "",
    "= b",
    "node.labels.a ~ b",
    "node.role = manager",
    "node.labels.a > many",
    "node.labels.a exists x",
    "node.site in",
    "node.labels.a =",
  ])("%s is none", (text) => {
    const errors = refusedWith(web("x-berth:", `  constraints: ["${text}"]`));
    expect(errors.map(shown)).toEqual(["compose.yaml:5:21 wrong_value services.web.x-berth.constraints[0]"]);
  });

  test("hostile texts are answered at once", () => {
    quickly(() => {
      for (const text of [" ".repeat(100_000), "a".repeat(100_000), "a ".repeat(50_000), `a${"=".repeat(100_000)}`, "in ".repeat(50_000)])
        parseConstraint(text);
    });
  });
});

describe("x-berth", () => {
  test("every word arrives", () => {
    const { app, report } = accepted(
      web(
        "x-berth:",
        "  constraints: ['node.labels.ram > 4', {key: node.site, operator: in, values: [a, b]}]",
        "  tolerations: [edge, 'gpu=yes', {key: slow}]",
        "  strategy: binpack",
        "  spreadBy: [node.site, node.labels.rack]",
        "  order: stop-first",
        "  minHealthy: 20s",
        "  healthyDeadline: 2m",
        "  progressDeadline: 5m",
        "  maxSurge: 2",
        "  maxUnavailable: 3",
        "  canaries: 0",
      ),
    );
    expect(app.services.web).toMatchObject({
      placement: {
        constraints: [
          { key: "node.labels.ram", operator: ">", values: ["4"] },
          { key: "node.site", operator: "in", values: ["a", "b"] },
        ],
        tolerations: [{ key: "edge" }, { key: "gpu", value: "yes" }, { key: "slow" }],
        strategy: "binpack",
        spreadBy: ["node.site", "node.labels.rack"],
      },
      update: {
        order: "stop-first",
        minHealthyMs: 20_000,
        healthyDeadlineMs: 120_000,
        progressDeadlineMs: 300_000,
        maxSurge: 2,
        maxUnavailable: 3,
        canaries: 0,
      },
    });
    expect(report.filter((line) => line.path.startsWith("services.web.x-berth.")).map((line) => line.status)).toEqual(
      Array(11).fill("applied"),
    );
  });

  test("it adds to deploy, and its word on the rollout wins", () => {
    const compose = web(
      "deploy: {placement: {constraints: [node.labels.a==b]}, update_config: {order: start-first, monitor: 5s}}",
      "x-berth: {constraints: ['node.labels.c = d'], order: auto, minHealthy: 7s}",
    );
    expect(accepted(compose).app.services.web).toMatchObject({
      placement: { constraints: [{ key: "node.labels.a" }, { key: "node.labels.c" }] },
      update: { order: "auto", minHealthyMs: 7_000 },
    });
  });

  test("at the top it holds for every service: lists of conditions add up, of the rest the service's word wins", () => {
    const compose =
      "x-berth: {constraints: ['node.labels.a = b'], tolerations: [t], strategy: binpack, spreadBy: [node.site]}\nservices:\n  one: {image: x}\n  two: {image: x, x-berth: {constraints: ['node.labels.c = d'], strategy: spread}}";
    const { one, two } = accepted(compose).app.services;
    expect(one?.placement).toMatchObject({
      constraints: [{ key: "node.labels.a" }],
      tolerations: [{ key: "t" }],
      strategy: "binpack",
      spreadBy: ["node.site"],
    });
    expect(two?.placement).toMatchObject({
      constraints: [{ key: "node.labels.a" }, { key: "node.labels.c" }],
      strategy: "spread",
      spreadBy: ["node.site"],
    });
  });

  test("an architecture is compared in the nodes' words", () => {
    const { app } = accepted(web("x-berth: {constraints: ['node.arch in amd64, aarch64', 'node.arch != x86_64']}"));
    expect(app.services.web?.placement.constraints.map(({ values }) => values)).toEqual([["x64", "arm64"], ["x64"]]);
  });

  test("Swarm's names and Linux are understood", () => {
    const { app } = accepted(web("x-berth: {constraints: [node.platform.arch = amd64, 'node.platform.os == Linux', node.os = linux]}"));
    expect(app.services.web?.placement.constraints).toEqual([
      { key: "node.arch", operator: "=", values: ["x64"] },
      { key: "node.os", operator: "=", values: ["linux"] },
      { key: "node.os", operator: "=", values: ["linux"] },
    ]);
  });

  test.each([
    ["node.os = debian", "no node's node.os is debian: agents run on Linux only"],
    ["node.os != linux", "every node's node.os is linux"],
    ["node.arch in amd64, riscv64", "no node's node.arch is riscv64: agents run on amd64 and arm64 only"],
    ["node.arch notIn x64, arm64", "every node's node.arch is x64 or arm64"],
    ["node.name notExists", "every node has a node.name"],
    ["node.hostname > 4", "node.hostname is not a number"],
    ["engine.labels.disk = ssd", "nodes have no engine.labels.disk"],
    ["node.role = worker", "nodes have no node.role"],
  ])("what holds for no node is refused in a sentence: %s", (condition, sentence) => {
    const [problem] = refusedWith(web(`x-berth: {constraints: ['${condition}']}`));
    expect(problem).toMatchObject({
      code: "wrong_value",
      path: "services.web.x-berth.constraints[0]",
      message: expect.stringContaining(sentence),
    });
  });

  test("a later file merges into it", () => {
    const { app } = accepted([
      web("x-berth: {strategy: binpack, spreadBy: [node.site]}"),
      "services: {web: {x-berth: {strategy: spread}}}",
    ]);
    expect(app.services.web?.placement).toMatchObject({ strategy: "spread", spreadBy: ["node.site"] });
  });

  test.each([
    ["an unknown word", "x-berth: {spread: a}", "compose.yaml:4:15 unknown_key services.web.x-berth"],
    ["another strategy", "x-berth: {strategy: random}", "compose.yaml:4:15 wrong_value services.web.x-berth.strategy"],
    ["no duration", "x-berth: {minHealthy: long}", "compose.yaml:4:15 wrong_value services.web.x-berth.minHealthy"],
    [
      "a key to spread over that nodes lack",
      "x-berth: {spreadBy: [node.role]}",
      "compose.yaml:4:26 wrong_value services.web.x-berth.spreadBy.0",
    ],
    ["a toleration that is none", "x-berth: {tolerations: ['=x']}", "compose.yaml:4:29 wrong_value services.web.x-berth.tolerations[0]"],
    ["a list", "x-berth: [a]", "compose.yaml:4:14 wrong_value services.web.x-berth"],
    ["nothing", "x-berth:", "compose.yaml:4:5 wrong_value services.web.x-berth"],
  ])("%s is an error with its place", (_, line, expected) => {
    expect(refusedWith(web(line)).map(shown)).toEqual([expected]);
  });
});
