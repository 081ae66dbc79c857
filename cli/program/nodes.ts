/** `berth node …` */
import type { Command } from "commander";
import type { ShellOf } from "./options.ts";

export function addNodes(program: Command, shellOf: ShellOf): void {
  const node = program.command("node").description("the machines");
  const load = () => import("../commands/nodes.ts");
  node
    .command("ls")
    .description("nodes and how they are")
    .action(async (_options: object, command: Command) => (await load()).nodeLs(shellOf(command)));
  node
    .command("approve")
    .description("admit a machine that waits for it")
    .argument("<node>")
    .action(async (name: string, _options: object, command: Command) => (await load()).nodeApprove(shellOf(command), name));
  node
    .command("label")
    .description("set and remove labels")
    .argument("<node>")
    .argument("<label...>", "key=value sets, key- removes")
    .action(async (name: string, labels: string[], _options: object, command: Command) =>
      (await load()).nodeLabel(shellOf(command), name, labels),
    );
  node
    .command("taint")
    .description("keep work away that does not tolerate it")
    .argument("<node>")
    .argument("<taint...>", "key=value or key sets, key- removes")
    .action(async (name: string, taints: string[], _options: object, command: Command) =>
      (await load()).nodeTaint(shellOf(command), name, taints),
    );
  node
    .command("cordon")
    .description("place nothing new on it")
    .argument("<node>")
    .action(async (name: string, _options: object, command: Command) => (await load()).nodeCordon(shellOf(command), name, true));
  node
    .command("uncordon")
    .description("place on it again")
    .argument("<node>")
    .action(async (name: string, _options: object, command: Command) => (await load()).nodeCordon(shellOf(command), name, false));
  node
    .command("reissue")
    .description("lift the quarantine of a cloned node")
    .argument("<node>")
    .action(async (name: string, _options: object, command: Command) => (await load()).nodeReissue(shellOf(command), name));
  node
    .command("rm")
    .description("remove a machine: frees its slots and revokes its key")
    .argument("<node>")
    .option("-y, --yes", "do not ask", false)
    .option("--force", "also when it is alive, or holds volumes that exist nowhere else", false)
    .action(async (name: string, options: { yes: boolean; force: boolean }, command: Command) =>
      (await load()).nodeRm(shellOf(command), name, options),
    );
}
