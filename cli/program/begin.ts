/** Commands that begin: a cluster on this machine, a control plane, an agent. */
import type { Command } from "commander";
import { many, whole, type ShellOf } from "./options.ts";

export function addBegin(program: Command, shellOf: ShellOf): void {
  program
    .command("up")
    .description("start a cluster on this machine with an example in it: what `npm start` runs")
    .option("--port <port>", "port of the control plane", whole(1, 65_535), 7420)
    .option("--down", "remove what it made")
    .option("--delete-data", "with --down: also remove other apps and their volumes")
    .action(async (options: { port: number; down?: true; deleteData?: true }, command: Command) =>
      (await import("../commands/up.ts")).up(shellOf(command), {
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
    .action(async (options: import("../commands/server.ts").ServerOptions, command: Command) =>
      (await import("../commands/server.ts")).server(shellOf(command), options),
    );
  const agent = program
    .command("agent")
    .description("run the agent of this machine")
    .option("--join <token>", "join token, at the first start (better: --join-file, or BERTH_JOIN_TOKEN)")
    .option("--join-file <file>", "file that holds the join token")
    .option("--data-dir <directory>", "identity and ledger", "/var/lib/berth")
    .option("--name <name>", "name of this node; default: the host name")
    .option("--ca <file>", "certificate authority in PEM to trust besides the well-known ones")
    .option("--engine <socket>", "socket of the container engine; default: DOCKER_HOST, else /var/run/docker.sock")
    .action(async (options: import("../commands/agent.ts").AgentOptions, command: Command) =>
      (await import("../commands/agent.ts")).agent(shellOf(command), options),
    );
  agent
    .command("install")
    .description("run the agent of this machine as a systemd service, now and at each boot")
    .action(async (_options: object, command: Command) =>
      (await import("../commands/agent.ts")).agentInstall(
        shellOf(command),
        command.optsWithGlobals<import("../commands/agent.ts").AgentOptions>(),
      ),
    );
  agent
    .command("uninstall")
    .description("end and remove that service; containers go on running")
    .action(async (_options: object, command: Command) => (await import("../commands/agent.ts")).agentUninstall(shellOf(command)));
  const cluster = program.command("cluster").description("the cluster itself");
  cluster
    .command("info")
    .description("version, root key and counts")
    .action(async (_options: object, command: Command) => (await import("../commands/cluster.ts")).clusterInfo(shellOf(command)));
}
