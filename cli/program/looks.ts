/** Looking at apps: logs, reasons, events, everything about one thing. */
import type { Command } from "commander";
import { splitPlace } from "../commands/place.ts";
import { whole, type ShellOf } from "./options.ts";

export function addLooks(program: Command, shellOf: ShellOf): void {
  program
    .command("logs")
    .description("log lines of all replicas of an app, from all nodes")
    .argument("<app>", "APP or APP/SERVICE")
    .argument("[service]", "only this service")
    .option("-f, --follow", "go on with new lines", false)
    .option("--tail <lines>", "lines of each replica", whole(0, 10_000), 100)
    .option("--since <time>", "only lines younger than 90s, 5m, 2h, …")
    .option("-t, --timestamps", "with the time of each line", false)
    .option("--slot <slot>", "only this slot")
    .action(async (app: string, service: string | undefined, options: import("../commands/logs.ts").LogsOptions, command: Command) =>
      (await import("../commands/logs.ts")).logs(shellOf(command), splitPlace(app, service), options),
    );
  program
    .command("why")
    .description("why replicas are where they are, or nowhere")
    .argument("<app>", "APP or APP/SERVICE")
    .argument("[service]", "only this service")
    .action(async (app: string, service: string | undefined, _options: object, command: Command) =>
      (await import("../commands/look.ts")).why(shellOf(command), splitPlace(app, service)),
    );
  program
    .command("events")
    .description("what happened")
    .argument("[app]", "only this app")
    .option("-f, --follow", "go on with new ones", false)
    .option("-A, --all", "of all namespaces, with nodes", false)
    .action(async (app: string | undefined, options: import("../commands/look.ts").EventsOptions, command: Command) =>
      (await import("../commands/look.ts")).events(shellOf(command), app, options),
    );
  program
    .command("audit")
    .description("who changed what, over the whole cluster")
    .option("--verify", "recompute the chain of all rows and check its signature; names the first row at which it breaks", false)
    .action(async (options: { verify: boolean }, command: Command) =>
      (await import("../commands/audit.ts")).audit(shellOf(command), options),
    );
  program
    .command("inspect")
    .description("everything about one thing")
    .argument(
      "<thing>",
      "name or id of an app, node, site, service (app/service), replica (app/service/slot) or deployment; KIND/NAME to be exact",
    )
    .action(async (thing: string, _options: object, command: Command) =>
      (await import("../commands/look.ts")).inspect(shellOf(command), thing),
    );
}
