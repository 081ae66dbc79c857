/** Changes to an app that is there. */
import type { Command } from "commander";
import { waitOptions, whole, type ShellOf } from "./options.ts";

export function addChanges(program: Command, shellOf: ShellOf): void {
  waitOptions(
    program.command("scale").description("change numbers of replicas").argument("<app/service=number...>", "e.g. shop/web=5"),
  ).action(async (counts: string[], options: import("../commands/change.ts").ChangeOptions, command: Command) =>
    (await import("../commands/change.ts")).appScale(shellOf(command), counts, options),
  );
  waitOptions(
    program
      .command("rollback")
      .description("go back to an earlier revision")
      .argument("<app>")
      .option("--to <revision>", "default: the newest before this one that did not fail", whole(1, Number.MAX_SAFE_INTEGER)),
  ).action(async (app: string, options: import("../commands/change.ts").ChangeOptions & { to?: number }, command: Command) =>
    (await import("../commands/change.ts")).appRollback(shellOf(command), app, options),
  );
  program
    .command("revisions")
    .description("revisions of an app, newest first")
    .argument("<app>")
    .action(async (app: string, _options: object, command: Command) =>
      (await import("../commands/change.ts")).appRevisions(shellOf(command), app),
    );
}
