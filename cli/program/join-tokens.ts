/** `berth join-token …` */
import type { Command } from "commander";
import { many, whole, type ShellOf } from "./options.ts";

export function addJoinTokens(program: Command, shellOf: ShellOf): void {
  const load = () => import("../commands/tokens.ts");
  const join = program.command("join-token").description("what machines join with");
  join
    .command("create")
    .description("print the line to paste on the machine that shall join")
    .requiredOption("--site <site>", "site that it joins")
    .addOption(many("-l, --label <key=value>", "label of the nodes; may be repeated"))
    .option("--name-pattern <pattern>", "names that may join, e.g. till-*")
    .option("--needs-approval", "each waits for `berth node approve`", false)
    .option("--uses <count>", "how many machines", whole(1, 10_000), 1)
    .option("--expires <time>", "how long it is good for", "24h")
    .option("--address <url>", "address the machines shall use, when it differs from yours")
    .action(async (options: import("../commands/tokens.ts").JoinTokenOptions, command: Command) =>
      (await load()).joinTokenCreate(shellOf(command), options),
    );
  join
    .command("ls")
    .description("join tokens")
    .action(async (_options: object, command: Command) => (await load()).joinTokenLs(shellOf(command)));
  join
    .command("rm")
    .description("make a join token worthless")
    .argument("<join-token>")
    .action(async (id: string, _options: object, command: Command) => (await load()).joinTokenRm(shellOf(command), id));
}
