/** Every `berth …` and `npm start -- …` that the documents name is there, with every option they give it. */
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { expect, test } from "vitest";
import { buildProgram } from "../../cli/program/program.ts";
import { documents } from "./documents.ts";

const program = buildProgram(() => {
  throw new Error("no command is run here");
});

interface Mention {
  readonly place: string;
  readonly words: readonly string[];
}

/** Code spans and lines of blocks, from "berth" on, up to where a shell or a sentence goes on. */
async function mentions(): Promise<Mention[]> {
  const found: Mention[] = [];
  for (const path of await documents()) {
    let isBlock = false;
    for (const [at, line] of (await readFile(path, "utf8")).split("\n").entries()) {
      if (line.startsWith("```")) isBlock = !isBlock;
      for (const code of isBlock ? [line] : [...line.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text))
        for (const [, before = "", rest = ""] of code.matchAll(/(^|npx |[$#] |: |with: )(?:berth|npm start --)((?: [^|;`&)]+)+)/g)) {
          const isStart = code.includes("npm start --") && !code.includes("berth ");
          // A sentence that berth prints begins so too: "berth: …" never matches, "berth runs …" is told apart by its prompt.
          if (isBlock && before === "") continue;
          const words = rest.trim().split(/\s+/);
          found.push({ place: `${path}:${at + 1}`, words: isStart ? ["up", ...words] : words });
        }
    }
  }
  return found;
}

const shown = (command: Command): readonly Command[] => command.createHelp().visibleCommands(command);
const flagsOf = (command: Command): readonly string[] => {
  const help = command.createHelp();
  return [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)].flatMap(({ short, long }) => [short ?? "", long ?? ""]);
};

/** What is wrong with it, in words; null when all of it is there. */
function wrongWith(words: readonly string[]): string | null {
  let command = program;
  let at = 0;
  for (; at < words.length; at++) {
    const next = shown(command).find((candidate) => candidate.name() === words[at]);
    if (next === undefined) break;
    command = next;
  }
  const word = words[at] ?? "";
  if (shown(command).length > 0 && /^[a-z]/.test(word)) return `there is no \`${[command.name(), word].join(" ")}\``;
  const flags = flagsOf(command);
  for (const flag of words.filter((text) => /^-{1,2}[a-z]/i.test(text)).map((text) => text.replace(/[=,.:].*$/, "")))
    if (!flags.includes(flag)) return `\`${command.name()}\` has no ${flag}`;
  return null;
}

test("what the documents name is in the help", async () => {
  const all = await mentions();
  expect(all.length).toBeGreaterThan(20);
  expect(
    all.flatMap(({ place, words }) => (wrongWith(words) === null ? [] : [`${place}: ${words.join(" ")}: ${wrongWith(words)}`])),
  ).toEqual([]);
});

test.each([
  ["a command that is not there", ["rollout", "shop"]],
  ["a subcommand that is not there", ["node", "drain", "h1"]],
  ["an option that is not there", ["deploy", "--force"]],
  ["an option of another command", ["ps", "--build"]],
])("%s is noticed", (_name, words) => {
  expect(wrongWith(words)).not.toBeNull();
});
