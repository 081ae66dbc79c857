/** Links of the documents lead somewhere, and nothing names a path of the machine that it was written on. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, extname, join, relative } from "node:path";
import { expect, test } from "vitest";
import { documents, files, root } from "./documents.ts";

/** As the usual Markdown renderers make it from a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[`*]/g, "")
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

async function anchorsOf(path: string): Promise<string[]> {
  const text = (await readFile(path, "utf8")).replace(/^```[\s\S]*?^```/gm, "");
  return [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = ""]) => anchorOf(heading.trim()));
}

test("relative links lead to files and headings that are there", async () => {
  const broken: string[] = [];
  let count = 0;
  for (const path of await documents()) {
    const text = (await readFile(path, "utf8")).replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "");
    for (const [, target = ""] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      count++;
      const [file = "", anchor] = target.split("#", 2);
      const found = file === "" ? path : join(dirname(path), file);
      const isThere = existsSync(found) && (anchor === undefined || extname(found) !== ".md" || (await anchorsOf(found)).includes(anchor));
      if (!isThere) broken.push(`${relative(root, path)}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
  expect(count).toBeGreaterThan(5);
});

const TEXT = new Set([".md", ".ts", ".mts", ".mjs", ".js", ".json", ".sh", ".sql", ".yaml", ".html", ".css"]);
/** Where somebody's working copy stands; the home of a reader, /home/you, is nobody's. */
const PRIVATE = /(?<![\w.})-])\/(?:work|home\/(?!you\/|\$)[a-z]\w*|Users\/\w+)\//g;

test("no file names a path of somebody's machine", async () => {
  const found: string[] = [];
  for (const path of (await files()).filter((name) => TEXT.has(extname(name)) && name !== "package-lock.json")) {
    if (path === "test/docs/links.test.ts" || path.startsWith("test/core/compose/")) continue;
    for (const [at, line] of (await readFile(join(root, path), "utf8")).split("\n").entries())
      for (const [text] of line.matchAll(PRIVATE)) found.push(`${path}:${at + 1}: ${text}`);
  }
  expect(found).toEqual([]);
});
