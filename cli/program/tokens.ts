/** `berth token …` */
import { type Command, Option } from "commander";
import { ROLES } from "../roles.ts";
import type { ShellOf } from "./options.ts";

export function addTokens(program: Command, shellOf: ShellOf): void {
  const tokens = () => import("../commands/tokens.ts");
  const token = program.command("token").description("tokens of people and programs");
  token
    .command("create")
    .description("make a token and print it, once")
    .argument("<name>", "whom it is for")
    .addOption(new Option("--role <role>", "what it may do").choices(ROLES).default("deployer"))
    .option("--all-namespaces", "of all namespaces, not of one", false)
    .option("--expires <time>", "how long it is good for; default: for ever")
    .action(async (name: string, options: Parameters<typeof import("../commands/tokens.ts").tokenCreate>[2], command: Command) =>
      (await tokens()).tokenCreate(shellOf(command), name, options),
    );
  token
    .command("ls")
    .description("tokens, without their secrets")
    .action(async (_options: object, command: Command) => (await tokens()).tokenLs(shellOf(command)));
  token
    .command("rm")
    .description("make a token worthless")
    .argument("<token>")
    .action(async (id: string, _options: object, command: Command) => (await tokens()).tokenRm(shellOf(command), id));
}
