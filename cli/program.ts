/**
 * Every command with its arguments and options. What a command does is loaded when it runs, so that `berth ps` does not
 * pay for reading Compose files.
 */
import { Command, InvalidArgumentError, Option } from "commander";
import manifest from "../package.json" with { type: "json" };
import { ROLES } from "./roles.ts";
import { splitPlace } from "./commands/place.ts";
import { NAMESPACE_DEFAULT, OUTPUT_FORMATS, type Shell } from "./shell.ts";

export type ShellOf = (command: Command) => Shell;

const collect = (value: string, before: readonly string[]): string[] => [...before, value];
const many = (flags: string, text: string): Option => new Option(flags, text).argParser(collect).default([]);

const whole =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`a whole number from ${min} to ${max}`);
    return value;
  };

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
function durationMs(text: string): number {
  const match = /^([0-9]{1,6})([smhd])$/.exec(text);
  if (match === null) throw new InvalidArgumentError("write 90s, 5m, 2h or 7d");
  return Number(match[1]) * (UNITS[match[2] ?? "s"] ?? 1_000);
}

const FOOTER = `
Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 control plane not reached or token not known,
4 still going on when --wait ended, 130 interrupted. \`deploy --plan\`: 0 nothing to do, 1 changes, 255 error.
Where to go: --context, BERTH_URL with BERTH_TOKEN, a cluster in this directory (.berth/), the chosen context.`;

export function buildProgram(shellOf: ShellOf): Command {
  const program = new Command("berth")
    .description("Runs containers on machines that nobody can reach.")
    .addOption(new Option("-o, --output <format>", "how to print").choices(OUTPUT_FORMATS).default("table"))
    .option("-n, --namespace <name>", `namespace (BERTH_NAMESPACE, else ${NAMESPACE_DEFAULT})`)
    .option("--context <name>", "which cluster (BERTH_CONTEXT)")
    .version(manifest.version, "-V, --version")
    .addHelpText("after", FOOTER)
    .helpCommand(false)
    .showSuggestionAfterError()
    .showHelpAfterError("next: berth --help")
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "berth: ")) })
    .exitOverride();
  program.commandsGroup("Begin:");
  addBegin(program, shellOf);
  program.commandsGroup("Apps:");
  addApps(program, shellOf);
  addChanges(program, shellOf);
  addLooks(program, shellOf);
  program.commandsGroup("Machines:");
  addNodes(program, shellOf);
  addSites(program, shellOf);
  addJoinTokens(program, shellOf);
  program.commandsGroup("Access:");
  addAccess(program, shellOf);
  addContexts(program, shellOf);
  program.commandsGroup("Shell:");
  addCompletion(program, shellOf);
  settle(program);
  return program;
}

/** Settings that commander does not hand down to subcommands, and help without "(default: false)" on every switch. */
function settle(command: Command): void {
  for (const option of command.options)
    if (option.defaultValue === false || Array.isArray(option.defaultValue)) option.defaultValue = undefined;
  for (const child of command.commands) {
    child.copyInheritedSettings(command).helpCommand(false).configureHelp({ showGlobalOptions: true });
    settle(child);
  }
}

function addBegin(program: Command, shellOf: ShellOf): void {
  program
    .command("up")
    .description("start a cluster on this machine with an example in it: what `npm start` runs")
    .option("--port <port>", "port of the control plane", whole(1, 65_535), 7420)
    .option("--down", "remove what it made")
    .option("--delete-data", "with --down: also remove other apps and their volumes")
    .action(async (options: { port: number; down?: true; deleteData?: true }, command: Command) =>
      (await import("./commands/up.ts")).up(shellOf(command), {
        port: options.port,
        down: options.down === true,
        deleteData: options.deleteData === true,
      }),
    );
  program
    .command("server")
    .description("run the control plane")
    .option("--listen <address:port>", "where to listen; anything but loopback speaks TLS", "127.0.0.1:7420")
    .option("--data-dir <directory>", "database and keys", ".berth")
    .option("--cert <file>", "certificate chain in PEM, instead of its own under the cluster's root key")
    .option("--key <file>", "its private key in PEM")
    .option("--behind-proxy", "speak plain HTTP: a proxy in front ends TLS")
    .option("--url <url>", "address that machines and people use, when it is not the one listened on")
    .addOption(many("--plain-registry <host:port>", "image registry that speaks plain HTTP; may be repeated"))
    .action(async (options: import("./commands/server.ts").ServerOptions, command: Command) =>
      (await import("./commands/server.ts")).server(shellOf(command), options),
    );
  program
    .command("agent")
    .description("run the agent of this machine")
    .option("--join <token>", "join token, at the first start (better: --join-file, or BERTH_JOIN_TOKEN)")
    .option("--join-file <file>", "file that holds the join token")
    .option("--data-dir <directory>", "identity and ledger", "/var/lib/berth")
    .option("--name <name>", "name of this node; default: the host name")
    .option("--engine <socket>", "socket of the container engine; default: DOCKER_HOST, else /var/run/docker.sock")
    .action(async (options: import("./commands/agent.ts").AgentOptions, command: Command) =>
      (await import("./commands/agent.ts")).agent(shellOf(command), options),
    );
  const cluster = program.command("cluster").description("the cluster itself");
  cluster
    .command("info")
    .description("version, root key and counts")
    .action(async (_options: object, command: Command) => (await import("./commands/cluster.ts")).clusterInfo(shellOf(command)));
}

const waitOptions = (command: Command): Command =>
  command
    .option("-y, --yes", "do not ask", false)
    .option("--detach", "do not wait for the result", false)
    .option("--wait <time>", "wait at most this long (exit code 4 after it); default: until it ends", durationMs);

function addApps(program: Command, shellOf: ShellOf): void {
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
  ).action(async (files: string[], options: import("./commands/deploy.ts").DeployOptions, command: Command) =>
    (await import("./commands/deploy.ts")).deploy(shellOf(command), files, options),
  );
  program
    .command("ls")
    .description("apps and how they are")
    .action(async (_options: object, command: Command) => (await import("./commands/apps.ts")).appLs(shellOf(command)));
  program
    .command("ps")
    .description("replicas, where they are and how")
    .argument("[app]", "only this app, or APP/SERVICE")
    .argument("[service]", "only this service")
    .option("-a, --all", "also those that have ended", false)
    .action(async (app: string | undefined, service: string | undefined, options: { all: boolean }, command: Command) =>
      (await import("./commands/apps.ts")).appPs(shellOf(command), splitPlace(app, service), options),
    );
  program
    .command("rm")
    .description("remove an app; its volumes stay unless told otherwise")
    .argument("<app>")
    .option("-y, --yes", "do not ask", false)
    .option("--delete-data", "remove its volumes with all their data", false)
    .option("--detach", "do not wait until it is gone", false)
    .action(async (app: string, options: import("./commands/apps.ts").RmOptions, command: Command) =>
      (await import("./commands/apps.ts")).appRm(shellOf(command), app, options),
    );
}

function addChanges(program: Command, shellOf: ShellOf): void {
  waitOptions(
    program.command("scale").description("change numbers of replicas").argument("<app/service=number...>", "e.g. shop/web=5"),
  ).action(async (counts: string[], options: import("./commands/change.ts").ChangeOptions, command: Command) =>
    (await import("./commands/change.ts")).appScale(shellOf(command), counts, options),
  );
  waitOptions(
    program
      .command("rollback")
      .description("go back to an earlier revision")
      .argument("<app>")
      .option("--to <revision>", "default: the newest before this one that did not fail", whole(1, Number.MAX_SAFE_INTEGER)),
  ).action(async (app: string, options: import("./commands/change.ts").ChangeOptions & { to?: number }, command: Command) =>
    (await import("./commands/change.ts")).appRollback(shellOf(command), app, options),
  );
  program
    .command("revisions")
    .description("revisions of an app, newest first")
    .argument("<app>")
    .action(async (app: string, _options: object, command: Command) =>
      (await import("./commands/change.ts")).appRevisions(shellOf(command), app),
    );
}

function addLooks(program: Command, shellOf: ShellOf): void {
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
    .action(async (app: string, service: string | undefined, options: import("./commands/logs.ts").LogsOptions, command: Command) =>
      (await import("./commands/logs.ts")).logs(shellOf(command), splitPlace(app, service), options),
    );
  program
    .command("why")
    .description("why replicas are where they are, or nowhere")
    .argument("<app>", "APP or APP/SERVICE")
    .argument("[service]", "only this service")
    .action(async (app: string, service: string | undefined, _options: object, command: Command) =>
      (await import("./commands/look.ts")).why(shellOf(command), splitPlace(app, service)),
    );
  program
    .command("events")
    .description("what happened")
    .argument("[app]", "only this app")
    .option("-f, --follow", "go on with new ones", false)
    .option("-A, --all", "of all namespaces, with nodes", false)
    .action(async (app: string | undefined, options: import("./commands/look.ts").EventsOptions, command: Command) =>
      (await import("./commands/look.ts")).events(shellOf(command), app, options),
    );
  program
    .command("audit")
    .description("who changed what, over the whole cluster")
    .option("--verify", "recompute the chain of all rows and check its signature; names the first row at which it breaks", false)
    .action(async (options: { verify: boolean }, command: Command) =>
      (await import("./commands/audit.ts")).audit(shellOf(command), options),
    );
  program
    .command("inspect")
    .description("everything about one thing")
    .argument("<thing>", "name or id of an app, node, site, replica (app/service/slot) or deployment; KIND/NAME to be exact")
    .action(async (thing: string, _options: object, command: Command) =>
      (await import("./commands/look.ts")).inspect(shellOf(command), thing),
    );
}

function addNodes(program: Command, shellOf: ShellOf): void {
  const node = program.command("node").description("the machines");
  const load = () => import("./commands/nodes.ts");
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

function addSites(program: Command, shellOf: ShellOf): void {
  const load = () => import("./commands/sites.ts");
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

function addJoinTokens(program: Command, shellOf: ShellOf): void {
  const load = () => import("./commands/tokens.ts");
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
    .action(async (options: import("./commands/tokens.ts").JoinTokenOptions, command: Command) =>
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

function addAccess(program: Command, shellOf: ShellOf): void {
  const tokens = () => import("./commands/tokens.ts");
  const token = program.command("token").description("tokens of people and programs");
  token
    .command("create")
    .description("make a token and print it, once")
    .argument("<name>", "whom it is for")
    .addOption(new Option("--role <role>", "what it may do").choices(ROLES).default("deployer"))
    .option("--all-namespaces", "of all namespaces, not of one", false)
    .option("--expires <time>", "how long it is good for; default: for ever")
    .action(async (name: string, options: Parameters<typeof import("./commands/tokens.ts").tokenCreate>[2], command: Command) =>
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

  const spaces = () => import("./commands/sites.ts");
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

  const registries = () => import("./commands/registries.ts");
  const registry = program.command("registry").description("credentials of image registries");
  registry
    .command("login")
    .description("keep credentials for a registry, sealed")
    .argument("<registry>", "e.g. ghcr.io or registry.example.com:5000")
    .requiredOption("-u, --username <name>", "user name")
    .option("--password-stdin", "read the password from standard input", false)
    .option("--password <password>", "the password; everybody on this machine can see it while this runs")
    .action(async (name: string, options: { username: string; password?: string; passwordStdin: boolean }, command: Command) =>
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

function addContexts(program: Command, shellOf: ShellOf): void {
  const load = () => import("./commands/contexts.ts");
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
    .action(async (name: string, options: import("./commands/contexts.ts").ContextAddOptions, command: Command) =>
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

function addCompletion(program: Command, shellOf: ShellOf): void {
  program
    .command("completion")
    .description("print the completion script of a shell: source <(berth completion bash)")
    .argument("<shell>", "bash, zsh or fish")
    .action(async (name: string, _options: object, command: Command) =>
      (await import("./commands/completion.ts")).completion(shellOf(command), name),
    );
  program
    .command("__complete", { hidden: true })
    .argument("[words...]")
    .allowUnknownOption()
    .action(async (words: string[], _options: object, command: Command) =>
      (await import("./commands/completion.ts")).complete(shellOf(command), program, words),
    );
}
