/** `berth namespace …` */
import type { Command } from "commander";
import type { ShellOf } from "./options.ts";

export function addNamespaces(program: Command, shellOf: ShellOf): void {
  const spaces = () => import("../commands/sites.ts");
  const namespace = program.command("namespace").description("tenants: names, tokens and apps of their own");
  namespace
    .command("ls")
    .description("namespaces")
    .action(async (_options: object, command: Command) => (await spaces()).namespaceLs(shellOf(command)));
  namespace
    .command("create")
    .description("make a namespace")
    .argument("<name>")
    .action(async (name: string, _options: object, command: Command) => (await spaces()).namespaceCreate(shellOf(command), name));
  namespace
    .command("rm")
    .description("remove an empty namespace")
    .argument("<name>")
    .option("-y, --yes", "do not ask", false)
    .action(async (name: string, options: { yes: boolean }, command: Command) =>
      (await spaces()).namespaceRm(shellOf(command), name, options),
    );
}
