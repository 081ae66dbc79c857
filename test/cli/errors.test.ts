import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";

/** The command as it is installed, where no cluster is known. */
const berth = (...words: string[]) =>
  spawnSync(process.execPath, [join(import.meta.dirname, "../../cli/berth.mjs"), ...words], {
    encoding: "utf8",
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"], HOME: "/nowhere" },
  });

test.each<["json" | "yaml", (text: string) => unknown]>([
  ["json", JSON.parse],
  ["yaml", parse],
])("-o %s: an error is an object on standard error", (format, read) => {
  const unknown = berth("ps", "-o", format);
  expect([unknown.status, unknown.stdout]).toEqual([3, ""]);
  expect(read(unknown.stderr)).toMatchObject({ error: { message: "no cluster is known here", exitCode: 3, next: expect.any(String) } });
  const wrong = berth("ps", "--nope", `--output=${format}`);
  expect([wrong.status, wrong.stdout]).toEqual([2, ""]);
  expect(read(wrong.stderr)).toMatchObject({ error: { message: "unknown option '--nope'", exitCode: 2 } });
});

test("what is wrong with a command line names that command's help", () => {
  const { status, stderr } = berth("node", "cordon");
  expect([status, stderr.trim().split("\n").at(-1)]).toEqual([2, "next: berth node cordon --help"]);
});
