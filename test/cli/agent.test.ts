import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { describe, expect, test } from "vitest";
import { buildProgram } from "../../cli/program/program.ts";
import { CliError } from "../../cli/exit.ts";
import { shellOf } from "./terminal.ts";

const berth = (...words: string[]): Promise<unknown> =>
  buildProgram(() => shellOf())
    .parseAsync(words, { from: "user" })
    .then(
      () => null,
      (error: unknown) => error,
    );

/** Where systemd runs, this would change the machine's services. */
describe.skipIf(existsSync("/run/systemd/system"))("berth agent install and uninstall", () => {
  test.each([
    ["install", ["agent", "install", "--data-dir", tmpdir(), "--engine", "/run/engine.sock"], /no systemd runs here; start the agent/],
    ["uninstall", ["agent", "uninstall"], /no systemd runs here, so there is no service to remove/],
  ])("%s says in a sentence that there is no systemd", async (_name, words, message) => {
    const error = await berth(...words);
    expect(error).toBeInstanceOf(CliError);
    expect(error).toMatchObject({ exitCode: 1, message: expect.stringMatching(message) });
  });
});

test("berth agent install says that this machine has not joined", async () => {
  expect(await berth("agent", "install", "--data-dir", "/nowhere")).toMatchObject({
    exitCode: 1,
    message: expect.stringMatching(/has not joined a cluster/),
    next: expect.stringContaining("berth join-token create"),
  });
});
