import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { locate } from "../../cli/commands/completion.ts";
import { buildProgram } from "../../cli/program/program.ts";
import { shellOf } from "./terminal.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = buildProgram(() => shellOf());

const walk = (command: Command, path: string[]): { path: string; command: Command }[] =>
  command.commands
    .filter((child) => !child.name().startsWith("__"))
    .flatMap((child) => [{ path: [...path, child.name()].join(" "), command: child }, ...walk(child, [...path, child.name()])]);
const commands = walk(program, []);

describe("every command", () => {
  test.each(commands)("$path has help that says what it does", ({ command }) => {
    expect(command.description()).not.toBe("");
    const help = command.helpInformation();
    expect(help).toContain("Usage: berth");
    expect(help).toContain("--output");
    for (const option of command.options) expect(option.description, option.flags).not.toBe("");
  });

  test.each(commands.filter(({ command }) => command.commands.length === 0).map(({ path }) => path))(
    "berth %s --help exits 0 and runs nothing",
    async (path) => {
      let text = "";
      const own = buildProgram(() => {
        throw new Error("a command ran");
      });
      const quiet = (command: Command): void => {
        command.configureOutput({ writeOut: (more) => (text += more), writeErr: (more) => (text += more) });
        for (const child of command.commands) quiet(child);
      };
      quiet(own);
      const error = await own.parseAsync([...path.split(" "), "--help"], { from: "user" }).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ exitCode: 0, code: "commander.helpDisplayed" });
      expect(text).toContain(`Usage: berth ${path}`);
    },
  );

  test("is in docs/cli.md", () => {
    const page = readFileSync(join(root, "docs", "cli.md"), "utf8");
    expect(
      commands
        .filter(({ command }) => command.commands.length === 0)
        .map(({ path }) => path)
        .filter((path) => !page.includes(`\`berth ${path}`)),
    ).toEqual([]);
  });
});

/** Code spans and shell blocks of the documents that begin with `berth` or `npx berth`. */
function commandsInDocs(): { file: string; words: string[] }[] {
  const files = [
    "README.md",
    "GETTING-STARTED.md",
    ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" }).map((name) => join("docs", name)),
  ].filter((file) => file.endsWith(".md") && existsSync(join(root, file)));
  return files.flatMap((file) => {
    const text = readFileSync(join(root, file), "utf8");
    const inline = [...text.matchAll(/`(?:npx )?berth ([a-z][^`\n]*)`/g)];
    const blocks = [...text.matchAll(/^\s*(?:\$ |sudo )?(?:npx )?berth ([a-z][^\n]*)$/gm)].filter((match) => isInBlock(text, match.index));
    return [...inline, ...blocks].map((match) => ({ file, words: (match[1] ?? "").split(/\s+/) }));
  });
}
const isInBlock = (text: string, at: number): boolean => (text.slice(0, at).match(/^```/gm)?.length ?? 0) % 2 === 1;

test("every command that the documents show exists, with its options", () => {
  const unknown = commandsInDocs().flatMap(({ file, words }) => {
    let command: Command = program;
    const problems: string[] = [];
    for (const word of words) {
      const child = command.commands.find((candidate) => candidate.name() === word);
      if (child !== undefined) command = child;
      else if (/^--[a-z]/.test(word)) {
        const flag = word.split("=")[0];
        const known = [...command.options, ...program.options].some((option) => option.long === flag) || flag === "--help";
        if (!known) problems.push(`${file}: berth ${words.join(" ")}: no option ${flag}`);
      } else if (command === program) problems.push(`${file}: no command berth ${word}`);
    }
    return problems;
  });
  expect(unknown).toEqual([]);
});

describe("completion knows where a word stands", () => {
  test.each([
    [["de"], "berth", [], "de"],
    [["node", "cor"], "node", [], "cor"],
    [["node", "cordon", ""], "cordon", [], ""],
    [["scale", "shop/web=2", ""], "scale", ["shop/web=2"], ""],
    [["-n", "team", "ps", "sh"], "ps", [], "sh"],
    [["logs", "--tail", "5", "shop", ""], "logs", ["shop"], ""],
  ])("%j", (words, name, before, last) => {
    const place = locate(program, words);
    expect({ name: place.command.name(), before: place.before, last: place.last }).toEqual({ name, before, last });
  });
  test("the value of an option", () => expect(locate(program, ["ps", "-o", ""]).value).toEqual(["table", "json", "yaml"]));
});
