/** `berth registry …` */
import type { Command } from "commander";
import type { ShellOf } from "./options.ts";

export function addRegistries(program: Command, shellOf: ShellOf): void {
  const registries = () => import("../commands/registries.ts");
  const registry = program.command("registry").description("credentials of image registries");
  registry
    .command("login")
    .description("keep credentials for a registry, sealed")
    .argument("<registry>", "e.g. ghcr.io or registry.example.com:5000")
    .option("-u, --username <name>", "user name; asked for when it is not given")
    .option("--password-stdin", "read the password from standard input", false)
    .option("--password <password>", "the password; everybody on this machine can see it while this runs")
    .action(async (name: string, options: { username?: string; password?: string; passwordStdin: boolean }, command: Command) =>
      (await registries()).registryLogin(shellOf(command), name, options),
    );
  registry
    .command("ls")
    .description("registries with credentials")
    .action(async (_options: object, command: Command) => (await registries()).registryLs(shellOf(command)));
  registry
    .command("rm")
    .description("forget credentials")
    .argument("<registry>")
    .action(async (name: string, _options: object, command: Command) => (await registries()).registryRm(shellOf(command), name));
}
