import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const FOLDERS = ["shared", "worker", "agent", "cli"] as const;
type Folder = (typeof FOLDERS)[number];

/** Which folders a folder may import from. `cli` starts the server and the agent, through their entries alone. */
const MAY_IMPORT: Record<Folder, readonly Folder[]> = {
  shared: ["shared"],
  worker: ["shared", "worker"],
  agent: ["shared", "agent"],
  cli: ["shared", "cli"],
};
const CLI_ENTRIES: ReadonlySet<string> = new Set(["worker/node.ts", "agent/main.ts"]);

/** Each third-party client is imported by the one file that implements its port; everything else stays replaceable. */
const ONE_FILE: Record<string, readonly string[]> = {
  dockerode: ["agent/engine/docker.ts"],
  pino: ["worker/node.ts", "agent/main.ts"],
};
/** Files that implement ports, and so may touch Node. */
const PORT_FILES: readonly RegExp[] = [
  /^worker\/(?:node|tls|dist|keys|key-files|registry|registry-fetch|link-local|local-addresses)\.ts$/,
  /^worker\/routes\/agent\/upgrade\.ts$/,
  /^worker\/store\/database-embedded\.ts$/,
  /^agent\/(?:main|node-[a-z-]+|unit)\.ts$/,
  /^agent\/link\/(?:http|websocket)\.ts$/,
  /^agent\/engine\/docker(?:-[a-z]+)?\.ts$/,
];

const sources = FOLDERS.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => ({ folder, path: `${folder}/${name}`, text: readFileSync(join(root, folder, name), "utf8") })),
);

/** Every module specifier of a file: static, dynamic and type imports, and re-exports. */
const importsOf = (text: string): string[] =>
  [...text.matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)["']([^"']+)["']/g)].map((match) => match[1] ?? "");

const arrows = sources.flatMap(({ folder, path, text }) => importsOf(text).map((specifier) => ({ folder, path, specifier })));

describe("imports", () => {
  test("go one way: shared ← worker, shared ← agent, shared ← cli", () => {
    const wrong = arrows.filter(({ folder, path, specifier }) => {
      if (!specifier.startsWith(".")) return false;
      const target = normalize(join(dirname(path), specifier));
      const targetFolder = target.split("/")[0] as Folder;
      if (folder === "cli" && CLI_ENTRIES.has(target)) return false;
      return !MAY_IMPORT[folder].includes(targetFolder) && relative(".", target) !== "package.json";
    });
    expect(wrong.map(({ path, specifier }) => `${path} → ${specifier}`)).toEqual([]);
  });

  test("of Node stay out of shared/, and out of worker/ and agent/ but for the files that implement ports", () => {
    const wrong = arrows.filter(
      ({ folder, path, specifier }) =>
        specifier.startsWith("node:") && folder !== "cli" && !PORT_FILES.some((pattern) => pattern.test(path)),
    );
    expect(wrong.map(({ path, specifier }) => `${path} → ${specifier}`)).toEqual([]);
  });

  test("of drizzle stay in worker/store", () => {
    const wrong = arrows.filter(({ path, specifier }) => specifier.startsWith("drizzle-orm") && !path.startsWith("worker/store/"));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  test("of a third-party client stand in the one file of its port", () => {
    const wrong = arrows.filter(({ path, specifier }) => specifier in ONE_FILE && !ONE_FILE[specifier]?.includes(path));
    expect(wrong.map(({ path, specifier }) => `${path} → ${specifier}`)).toEqual([]);
  });

  test("are seen: the scan finds the arrows that are there", () => {
    expect(
      importsOf('import x from "a";\nexport * from "./b.ts";\nconst c = await import("c");\nimport "d";\ntype E = import("e").E;'),
    ).toEqual(["a", "./b.ts", "c", "d", "e"]);
    expect(arrows.length).toBeGreaterThan(50);
  });
});

describe("names", () => {
  test("no drawer called utils or helpers", () => {
    expect(sources.map((source) => source.path).filter((path) => /(?:^|\/)(?:utils?|helpers?|common|misc)(?:\/|\.)/.test(path))).toEqual(
      [],
    );
  });
});
