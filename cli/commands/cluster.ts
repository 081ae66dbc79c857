/** `berth cluster info`. */
import type { ClusterInfo } from "../../shared/api/resources.ts";
import { emit, printFields } from "../render/output.ts";
import { visible } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";

export async function clusterInfo(shell: Shell): Promise<void> {
  const info = await shell.client().get<ClusterInfo>("/v1/cluster");
  const { url, pins } = shell.target();
  await emit(shell, info, () => {
    printFields(shell, [
      ["address", url],
      ["version", info.version],
      ["cluster", info.clusterId],
      ["era", info.era],
      ["rev", info.rev],
      ["root key", info.rootThumbprint],
      ["nodes", info.nodes],
      ["apps", info.apps],
      ["API docs", `${url}/docs`],
    ]);
    if (!url.startsWith("https:")) return;
    line(shell.terminal, "\nFrom another machine, with a token of `berth token create`:");
    line(
      shell.terminal,
      `  berth context add NAME --url ${visible(url)} --root ${visible(info.rootThumbprint)}${pins.spki === null ? "" : ` --spki ${visible(pins.spki)}`}`,
    );
  });
}
