/** `berth registry …`: credentials of image registries, kept sealed in the control plane. */
import type { Removed } from "../../shared/api/resources.ts";
import { ask, readSecret } from "../ask.ts";
import { ApiError, segment } from "../client/client.ts";
import type { RegistryInfo } from "../client/resources.ts";
import { CliError, EXIT } from "../exit.ts";
import { age } from "../render/amount.ts";
import { emit, emitRemoved, printTable } from "../render/output.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";
import { inNamespace } from "./paths.ts";

const registryPath = (shell: Shell, registry: string): string => inNamespace(shell.namespace, `/registries/${segment(registry)}`);

export async function registryLogin(
  shell: Shell,
  registry: string,
  options: { username?: string; password?: string; passwordStdin: boolean },
): Promise<void> {
  const username = options.username ?? (await askUser(shell, registry));
  if (options.password !== undefined)
    shell.terminal.err("A password in a command can be seen by everybody on this machine; --password-stdin hides it.\n");
  const password = options.password ?? (await readSecret(shell, `Password of ${username} at ${registry}: `, options.passwordStdin));
  if (password === "") throw new CliError("the password is empty", { exitCode: EXIT.usage });
  const info = await shell.client().put<RegistryInfo>(registryPath(shell, registry), { username, password });
  await emit(shell, info, () =>
    line(shell.terminal, `images of ${visible(info.registry)} are pulled as ${visible(info.username)} in namespace ${shell.namespace}`),
  );
}

async function askUser(shell: Shell, registry: string): Promise<string> {
  if (!shell.terminal.canAsk)
    throw new CliError("there is no terminal to type a user name at: say it with -u", {
      exitCode: EXIT.usage,
      next: `berth registry login ${registry} -u USER --password-stdin`,
    });
  const username = await ask(shell, `User name at ${visible(registry)}: `);
  if (username === "") throw new CliError("the user name is empty", { exitCode: EXIT.usage });
  return username;
}

export async function registryLs(shell: Shell): Promise<void> {
  const client = shell.client();
  const list = await client.list<RegistryInfo>(inNamespace(shell.namespace, "/registries"));
  await emit(shell, list, () =>
    printTable(
      shell,
      [
        { header: "registry", cell: (registry) => registry.registry },
        { header: "username", cell: (registry) => registry.username },
        { header: "age", cell: (registry) => age(registry.created, client.nowMs()), align: "right" },
      ],
      list.items,
      "no registry credentials; add some with `berth registry login REGISTRY -u USER`",
    ),
  );
}

export async function registryRm(shell: Shell, registry: string): Promise<void> {
  const removed = await shell
    .client()
    .delete<Removed>(registryPath(shell, registry))
    .catch(async (error: unknown) => {
      if (!(error instanceof ApiError) || error.reason !== "registry") throw error;
      const { items } = await shell.client().list<RegistryInfo>(inNamespace(shell.namespace, "/registries"));
      const known = items.map((item) => visible(item.registry)).join(", ");
      throw new CliError(
        `there are no credentials for ${visible(registry)} in namespace ${shell.namespace}; ${known === "" ? "it has none" : `it has some for ${known}`}`,
        { cause: error, next: `berth registry ls -n ${shell.namespace}` },
      );
    });
  await emitRemoved(shell, removed, `the credentials for ${visible(registry)} are forgotten`);
}
