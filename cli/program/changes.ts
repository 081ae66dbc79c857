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
  addRollout(program, shellOf);
  program
    .command("revisions")
    .description("revisions of an app, newest first")
    .argument("<app>")
    .action(async (app: string, _options: object, command: Command) =>
      (await import("../commands/change.ts")).appRevisions(shellOf(command), app),
    );
}

const VERBS = {
  pause: "begin nothing new of the deployment that runs; what has begun is finished",
  resume: "go on with a deployment that was paused",
  promote: "let the canaries take over, and update the rest",
  abort: "fail the deployment that runs, and go back to the revision before it",
} as const;

function addRollout(program: Command, shellOf: ShellOf): void {
  for (const verb of ["pause", "resume", "promote", "abort"] as const) {
    const command = program.command(verb).description(VERBS[verb]).argument("<app>");
    if (verb === "promote") command.option("--force", "although its canaries are not all healthy");
    if (verb === "abort") command.option("-y, --yes", "do not ask");
    command.action(async (app: string, options: { force?: boolean; yes?: boolean }, called: Command) =>
      (await import("../commands/rollout.ts")).appRollout(shellOf(called), app, { ...options, verb }),
    );
  }
  program
    .command("lock")
    .description("keep an app as it is: nobody deploys, scales, rolls back or removes it")
    .argument("<app>")
    .requiredOption("-m, --message <why>", "shown to whoever tries")
    .action(async (app: string, options: { message: string }, command: Command) =>
      (await import("../commands/rollout.ts")).appLock(shellOf(command), app, options),
    );
  program
    .command("unlock")
    .description("lift a lock, whoever took it")
    .argument("<app>")
    .action(async (app: string, _options: object, command: Command) =>
      (await import("../commands/rollout.ts")).appUnlock(shellOf(command), app),
    );
  program
    .command("diff")
    .description("what differs between two revisions of an app")
    .argument("<app>")
    .option("--from <revision>", "default: the one before --to", whole(1, Number.MAX_SAFE_INTEGER))
    .option("--to <revision>", "default: the current one", whole(1, Number.MAX_SAFE_INTEGER))
    .action(async (app: string, options: { from?: number; to?: number }, command: Command) =>
      (await import("../commands/rollout.ts")).appDiff(shellOf(command), app, options),
    );
}
