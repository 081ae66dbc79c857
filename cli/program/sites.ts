/** `berth site …` */
import type { Command } from "commander";
import { many, type ShellOf } from "./options.ts";

export function addSites(program: Command, shellOf: ShellOf): void {
  const load = () => import("../commands/sites.ts");
  const site = program.command("site").description("the places machines stand in");
  site
    .command("ls")
    .description("sites")
    .action(async (_options: object, command: Command) => (await load()).siteLs(shellOf(command)));
  site
    .command("create")
    .description("make a site")
    .argument("<name>")
    .addOption(many("-l, --label <key=value>", "label; may be repeated"))
    .action(async (name: string, options: { label: string[] }, command: Command) =>
      (await load()).siteCreate(shellOf(command), name, options),
    );
  site
    .command("label")
    .description("set and remove labels")
    .argument("<site>")
    .argument("<label...>", "key=value sets, key- removes")
    .action(async (name: string, labels: string[], _options: object, command: Command) =>
      (await load()).siteLabel(shellOf(command), name, labels),
    );
  site
    .command("rm")
    .description("remove an empty site")
    .argument("<site>")
    .option("-y, --yes", "do not ask", false)
    .action(async (name: string, options: { yes: boolean }, command: Command) => (await load()).siteRm(shellOf(command), name, options));
}
