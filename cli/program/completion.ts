/** `berth completion`, and what its scripts ask. */
import type { Command } from "commander";
import type { ShellOf } from "./options.ts";

export function addCompletion(program: Command, shellOf: ShellOf): void {
  program
    .command("completion")
    .description("print the completion script of a shell: source <(berth completion bash)")
    .argument("<shell>", "bash, zsh or fish")
    .action(async (name: string, _options: object, command: Command) =>
      (await import("../commands/completion.ts")).completion(shellOf(command), name),
    );
  program
    .command("__complete", { hidden: true })
    .argument("[words...]")
    .allowUnknownOption()
    .action(async (words: string[], _options: object, command: Command) =>
      (await import("../commands/completion.ts")).complete(shellOf(command), program, words),
    );
}
