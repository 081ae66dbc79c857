// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are substitutions of Compose, not of JavaScript
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ComposeFilesOptions, type ComposeFilesResult, readComposeFiles, readPath } from "../../../cli/compose-files.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "compose-"));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function write(files: Readonly<Record<string, string | Uint8Array>>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), content);
  }
}

const read = (options: Partial<ComposeFilesOptions> = {}): ComposeFilesResult =>
  readComposeFiles({ files: [], directory: root, environment: {}, projectName: "app", ...options });
const image = (result: ComposeFilesResult): string | undefined =>
  result.ok ? result.app.services.web?.workload.image : JSON.stringify(result.errors);
const project = (tag: string): string => `services: {web: {image: "${tag}"}}`;

describe("finding the files", () => {
  test.each([
    [
      "compose.yaml before the others",
      { "compose.yaml": project("a"), "compose.yml": project("b"), "docker-compose.yml": project("c") },
      "a",
      ["compose.yaml"],
    ],
    ["docker-compose.yml", { "docker-compose.yml": project("c") }, "c", ["docker-compose.yml"]],
    [
      "the override file",
      { "compose.yml": project("a"), "compose.override.yml": project("o") },
      "o",
      ["compose.yml", "compose.override.yml"],
    ],
    [
      "another name's override file is not taken",
      { "compose.yml": project("a"), "docker-compose.override.yml": project("o") },
      "a",
      ["compose.yml"],
    ],
  ])("%s", (_, files, expected, used) => {
    write(files);
    const result = read();
    expect(image(result)).toBe(expected);
    expect(result.files).toEqual(used);
  });

  test("the nearest directory above", () => {
    write({ "compose.yaml": project("up"), "a/b/x": "" });
    expect(image(read({ directory: path.join(root, "a/b") }))).toBe("up");
  });

  test("-f in order, without the override file, relative to the working directory", () => {
    write({ "compose.yaml": project("a"), "compose.override.yaml": project("o"), "sub/two.yaml": project("two") });
    expect(image(read({ files: ["compose.yaml"] }))).toBe("a");
    expect(image(read({ files: ["compose.yaml", "sub/two.yaml"] }))).toBe("two");
  });

  test("COMPOSE_FILE, from the environment or .env, with its separator", () => {
    write({ "one.yaml": project("one"), "two.yaml": project("two"), ".env": "COMPOSE_FILE=one.yaml" });
    expect(image(read())).toBe("one");
    expect(image(read({ environment: { COMPOSE_FILE: "one.yaml,two.yaml", COMPOSE_PATH_SEPARATOR: "," } }))).toBe("two");
  });

  test("none at all", () => {
    const result = read();
    expect(result.ok ? [] : result.errors.map((error) => error.code)).toEqual(["file_missing"]);
  });
});

describe("variables and profiles", () => {
  test("the environment wins over --env-file, later over earlier, and .env is then not read", () => {
    write({ "compose.yaml": project("${A}-${B}-${C}-${D:-none}"), ".env": "D=dotenv", "1.env": "A=1\nB=1\nC=1", "2.env": "B=2\nC=2" });
    expect(image(read({ envFiles: ["1.env", "2.env"], environment: { C: "e" } }))).toBe("1-2-e-none");
    expect(image(read({ environment: { A: "a", B: "b", C: "c" } }))).toBe("a-b-c-dotenv");
    expect(image(read({ environment: { COMPOSE_ENV_FILES: "1.env,2.env", D: "d" } }))).toBe("1-2-2-d");
  });

  test("a missing or broken env file is an error", () => {
    write({ "compose.yaml": project("a"), "bad.env": "A=1\nB C" });
    const codes = (envFile: string): unknown => {
      const result = read({ envFiles: [envFile] });
      return result.ok || result.errors.map((error) => `${error.file}:${error.line} ${error.code}`);
    };
    expect(codes("no.env")).toEqual(["no.env:1 file_missing"]);
    expect(codes("bad.env")).toEqual(["bad.env:2 env_file_syntax"]);
  });

  test("COMPOSE_PROFILES, and --profile before it", () => {
    write({ "compose.yaml": "services: {web: {image: x}, a: {image: x, profiles: [a]}, b: {image: x, profiles: [b]}}" });
    const names = (result: ComposeFilesResult): string[] => (result.ok ? Object.keys(result.app.services).sort() : []);
    expect(names(read({ environment: { COMPOSE_PROFILES: "a,b" } }))).toEqual(["a", "b", "web"]);
    expect(names(read({ environment: { COMPOSE_PROFILES: "a" }, profiles: ["b"] }))).toEqual(["b", "web"]);
  });
});

describe("what files name", () => {
  test("include, extends, env files and bound files are read from their places", () => {
    write({
      "compose.yaml":
        "include: [lib/compose.yaml]\nservices:\n  web:\n    extends: {file: base/b.yaml, service: b}\n    volumes: ['./run.sh:/run.sh:ro']\n",
      "lib/compose.yaml": "services: {db: {image: 'db:${V}'}}",
      "lib/.env": "V=7",
      "base/b.yaml": "services: {b: {image: b, env_file: b.env}}",
      "base/b.env": "B=1",
      "run.sh": "#!/bin/sh\n",
    });
    chmodSync(path.join(root, "run.sh"), 0o755);
    const result = read();
    expect(result.ok && result.app.services).toMatchObject({
      db: { workload: { image: "db:7" } },
      web: { workload: { image: "b", env: { B: "1" }, mounts: [{ kind: "config", mode: 0o555 }] } },
    });
  });

  test("errors have paths from the working directory", () => {
    write({ "sub/compose.yaml": "services: {web: {image: x, bogus: 1, volumes: ['./dir:/d']}}", "sub/dir/x": "" });
    const result = read({ files: ["sub/compose.yaml"] });
    expect(result.ok ? [] : result.errors.map((error) => `${error.file}:${error.line}:${error.column} ${error.code}`)).toEqual([
      "sub/compose.yaml:1:28 unknown_key",
      "sub/compose.yaml:1:48 refused",
    ]);
  });

  test("a large file, bytes, a directory, a pipe, nothing", () => {
    write({ large: new Uint8Array(1_000_001).fill(97), bytes: new Uint8Array([0xff, 0xfe, 0x00]), "dir/x": "", text: "\uFEFFhi" });
    execFileSync("mkfifo", [path.join(root, "pipe")]);
    expect(["large", "bytes", "dir", "pipe", "none", "text"].map((name) => readPath(path.join(root, name)).kind)).toEqual([
      "too-large",
      "binary",
      "directory",
      "unreadable",
      "missing",
      "text",
    ]);
    const result = read({ files: ["large", "bytes", "dir"] });
    expect(result.ok ? [] : result.errors.map((error) => error.code)).toEqual(["file_too_large", "file_not_text", "file_unreadable"]);
  });
});
