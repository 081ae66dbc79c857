// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are substitutions of Compose, not of JavaScript
import { describe, expect, test } from "vitest";
import { quickly, accepted, refusedWith, shown, web, workload } from "./project.ts";

describe("extends", () => {
  const common =
    "services:\n  base:\n    image: base\n    environment: {A: '1', B: '1'}\n    volumes: [./conf.ini:/etc/conf.ini:ro]\n    env_file: base.env\n";

  test("own keys are merged over the base's, whose paths start from its own file", () => {
    const spec = accepted(web("extends: {file: lib/common.yaml, service: base}", "environment: {B: '2'}"), {
      disk: { "lib/common.yaml": common, "lib/conf.ini": "from lib", "lib/base.env": "C=3" },
    });
    const { image, env, mounts } = spec.app.services.web?.workload ?? {};
    expect({ image, env, mounts }).toMatchObject({
      image: "nginx",
      env: { A: "1", B: "2", C: "3" },
      mounts: [{ kind: "config", config: "lib-conf.ini" }],
    });
    expect(spec.app.configs["lib-conf.ini"]).toEqual({ content: "from lib" });
  });

  test("a service of the same file, short form, in a chain", () => {
    const compose =
      "services:\n  a: {image: x, user: u, labels: {l: a}}\n  b: {extends: a, hostname: h, labels: {l: b}}\n  web: {extends: b, user: w}\n";
    expect(workload(compose)).toMatchObject({ image: "x", user: "w", hostname: "h", labels: { l: "b" } });
  });

  test("!reset and !override work on what is inherited", () => {
    const compose =
      "services:\n  a: {image: x, user: u, ports: ['80:80'], cap_add: [CHOWN]}\n  web: {extends: a, user: !reset null, ports: !override ['81:81']}\n";
    expect(workload(compose)).toMatchObject({ ports: [{ target: 81 }], capAdd: ["CHOWN"] });
    expect(workload(compose).user).toBeUndefined();
  });

  test("the extended file is interpolated, and only what is extended counts", () => {
    const disk = { "c.yaml": "services: {base: {image: 'x:${TAG}'}, other: {nonsense: 1}}" };
    expect(workload("services: {web: {extends: {file: c.yaml, service: base}}}", { disk, env: { TAG: "9" } }).image).toBe("x:9");
  });

  test.each([
    ["itself", "services: {web: {image: x, extends: web}}", {}, "compose.yaml:1:28 extends_cycle services.web.extends"],
    ["a circle of two", "services: {a: {image: x, extends: b}, b: {extends: a}}", {}, "compose.yaml:1:43 extends_cycle services.b.extends"],
    [
      "a circle over files",
      "services: {web: {image: x, extends: {file: b.yaml, service: b}}}",
      {
        "b.yaml": "services: {b: {extends: {file: compose.yaml, service: web}}}",
        "compose.yaml": "services: {web: {image: x, extends: {file: b.yaml, service: b}}}",
      },
      "b.yaml:1:16 extends_cycle services.b.extends",
    ],
    ["no such service", "services: {web: {image: x, extends: nope}}", {}, "compose.yaml:1:37 extends_missing services.web.extends"],
    [
      "no such file",
      "services: {web: {image: x, extends: {file: no.yaml, service: b}}}",
      {},
      "compose.yaml:1:37 file_missing services.web.extends",
    ],
    ["another form", "services: {web: {image: x, extends: [a]}}", {}, "compose.yaml:1:37 wrong_type services.web.extends"],
  ])("%s is an error with its place", (_, compose, disk, expected) => {
    expect(refusedWith(compose, { disk }).map(shown)).toContain(expected);
  });

  test("a chain longer than the bound is told, however it is made", () => {
    const services = Array.from({ length: 40 }, (_, index) => `s${index}: {extends: s${index + 1}}`).join(", ");
    expect(refusedWith(`services: {${services}, s40: {image: x}}`).some((error) => error.code === "extends_cycle")).toBe(true);
  });

  test("three hundred services that extend one large file read it once", () => {
    const large = `services:\n  base: {image: x}\n${Array.from({ length: 1_500 }, (_, index) => `  f${index}: {image: x, user: u${index}}`).join("\n")}`;
    quickly(() => {
      accepted(
        `services:\n${Array.from({ length: 300 }, (_, index) => `  s${index}: {extends: {file: big.yaml, service: base}}`).join("\n")}`,
        { disk: { "big.yaml": large } },
      );
    });
  });
});

describe("include", () => {
  test("services, volumes and configs are added, each path from its own directory", () => {
    const { app } = accepted(`include: [infra/compose.yaml]\n${web("depends_on: [db]")}`, {
      disk: {
        "infra/compose.yaml":
          "services: {db: {image: 'pg:${V}', env_file: db.env, volumes: ['data:/d', './a.conf:/a:ro']}}\nvolumes: {data: }\n",
        "infra/.env": "V=15\nOUTER=inner",
        "infra/db.env": "A=${OUTER}",
        "infra/a.conf": "a",
      },
      env: { OUTER: "outer" },
    });
    expect(app.services.db?.workload).toMatchObject({ image: "pg:15", env: { A: "outer" } });
    expect(Object.keys(app.volumes)).toEqual(["data"]);
    expect(app.configs).toEqual({ "infra-a.conf": { content: "a" } });
  });

  test("the long form: several paths, env_file, project_directory", () => {
    const compose =
      "include:\n  - path: [sub/a.yaml, sub/b.yaml]\n    env_file: [one.env, two.env]\n    project_directory: elsewhere\nservices: {web: {image: x}}";
    const { app } = accepted(compose, {
      disk: {
        "sub/a.yaml": "services: {a: {image: '${I}', env_file: e.env}}",
        "sub/b.yaml": "services: {a: {user: '${U}'}}",
        "one.env": "I=one\nU=first",
        "two.env": "I=two",
        "elsewhere/e.env": "E=1",
      },
    });
    expect(app.services.a?.workload).toMatchObject({ image: "two", user: "first", env: { E: "1" } });
  });

  test("an override file may change what was included", () => {
    const { app } = accepted(["include: [a.yaml]\nservices: {web: {image: x}}", "services: {a: {user: me}}"], {
      disk: { "a.yaml": "services: {a: {image: a}}" },
    });
    expect(app.services.a?.workload).toMatchObject({ image: "a", user: "me" });
  });

  test("the same thing twice is no conflict, another is", () => {
    const disk = {
      "a.yaml": "include: [c.yaml]\nservices: {a: {image: a}}",
      "b.yaml": "include: [c.yaml]\nservices: {b: {image: b}}",
      "c.yaml": "services: {c: {image: c}}",
    };
    expect(Object.keys(accepted("include: [a.yaml, b.yaml]\nservices: {web: {image: x}}", { disk }).app.services).sort()).toEqual([
      "a",
      "b",
      "c",
      "web",
    ]);
    expect(refusedWith("include: [a.yaml]\nservices: {c: {image: other}}", { disk }).map(shown)).toContain(
      "compose.yaml:2:12 include_conflict services.c",
    );
  });

  test.each([
    [
      "a circle",
      "include: [a.yaml]",
      { "a.yaml": "include: [compose.yaml]", "compose.yaml": "include: [a.yaml]" },
      "a.yaml:1:11 include_cycle include[0]",
    ],
    ["itself", "include: [compose.yaml]", { "compose.yaml": "include: [compose.yaml]" }, "compose.yaml:1:11 include_cycle include[0]"],
    ["no such file", "include: [no.yaml]", {}, "compose.yaml:1:11 file_missing include[0]"],
    ["another form", "include: a.yaml", {}, "compose.yaml:1:10 wrong_type include"],
    ["an item without a path", "include: [{env_file: a}]", {}, "compose.yaml:1:11 wrong_type include[0]"],
    [
      "a mistake inside",
      "include: [a.yaml]",
      { "a.yaml": "services: {a: {image: x, bogus: 1}}" },
      "a.yaml:1:26 unknown_key services.a.bogus",
    ],
  ])("%s is an error with its place", (_, include, disk, expected) => {
    expect(refusedWith(`${include}\n${web()}`, { disk }).map(shown)).toContain(expected);
  });
});
