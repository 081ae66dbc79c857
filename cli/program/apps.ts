/** Deploying, listing and removing apps. */
import type { Command } from "commander";
import { splitPlace } from "../commands/place.ts";
import { many, waitOptions, type ShellOf } from "./options.ts";

export function addApps(program: Command, shellOf: ShellOf): void {
  waitOptions(
    program
      .command("deploy")
      .description("show what Compose files would change, ask, and do it")
      .argument("[file...]", "Compose files, or a directory that holds one; default: compose.yaml here or above")
      .addOption(many("-f, --file <file>", "Compose file; may be repeated"))
      .option("-p, --project-name <name>", "name of the app")
      .option("--project-directory <directory>", "where relative paths start")
      .addOption(many("--env-file <file>", "variables; may be repeated"))
      .addOption(many("--profile <name>", "profile to enable; may be repeated"))
      .option("--build", "build and push the images of services with build:", false)
      .option("--plan", "only show the plan: exit code 0 nothing to do, 1 changes, 255 error", false)
      .option("-m, --message <text>", "why, kept with the revision")
      .option("--report", "say what becomes of every key of the files", false),
  ).action(async (files: string[], options: import("../commands/deploy.ts").DeployOptions, command: Command) =>
    (await import("../commands/deploy.ts")).deploy(shellOf(command), files, options),
  );
  program
    .command("ls")
    .description("apps and how they are")
    .action(async (_options: object, command: Command) => (await import("../commands/apps.ts")).appLs(shellOf(command)));
  program
    .command("ps")
    .description("replicas, where they are and how")
    .argument("[app]", "only this app, or APP/SERVICE")
    .argument("[service]", "only this service")
    .option("-a, --all", "also those that have ended", false)
    .action(async (app: string | undefined, service: string | undefined, options: { all: boolean }, command: Command) =>
      (await import("../commands/apps.ts")).appPs(shellOf(command), splitPlace(app, service), options),
    );
  program
    .command("rm")
    .description("remove an app; its volumes stay unless told otherwise")
    .argument("<app>")
    .option("-y, --yes", "do not ask", false)
    .option("--delete-data", "remove its volumes with all their data", false)
    .option("--detach", "do not wait until it is gone", false)
    .action(async (app: string, options: import("../commands/apps.ts").RmOptions, command: Command) =>
      (await import("../commands/apps.ts")).appRm(shellOf(command), app, options),
    );
}
