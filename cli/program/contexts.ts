/** `berth context …` */
import type { Command } from "commander";
import type { ShellOf } from "./options.ts";

export function addContexts(program: Command, shellOf: ShellOf): void {
  const load = () => import("../commands/contexts.ts");
  const context = program.command("context").description("the clusters this account knows");
  context
    .command("ls")
    .description("contexts, and where commands go from here")
    .action(async (_options: object, command: Command) => (await load()).contextLs(shellOf(command)));
  context
    .command("show")
    .description("where commands go from here, and as whom")
    .action(async (_options: object, command: Command) => (await load()).contextShow(shellOf(command)));
  context
    .command("add")
    .description("keep a cluster; the token is asked for, or BERTH_TOKEN")
    .argument("<name>")
    .requiredOption("--url <url>", "address of the control plane")
    .option("--root <thumbprint>", "pin the cluster's root key")
    .option("--spki <hash>", "pin the key of its certificate")
    .option("--token-file <file>", "read the token from this file")
    .option("--token-stdin", "read the token from standard input", false)
    .action(async (name: string, options: import("../commands/contexts.ts").ContextAddOptions, command: Command) =>
      (await load()).contextAdd(shellOf(command), name, options),
    );
  context
    .command("use")
    .description("choose the cluster that commands go to")
    .argument("<context>")
    .action(async (name: string, _options: object, command: Command) => (await load()).contextUse(shellOf(command), name));
  context
    .command("rm")
    .description("forget a cluster here")
    .argument("<context>")
    .action(async (name: string, _options: object, command: Command) => (await load()).contextRm(shellOf(command), name));
}
