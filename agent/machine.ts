/** What this machine is, as its control plane plans with it. Not a port: it only asks ports. */
import type { NodeFacts } from "../shared/wire/report.ts";
import { PROTOCOL_VERSION } from "../shared/wire/version.ts";
import type { EngineInfo } from "./engine/engine.ts";
import type { Policy } from "./policy.ts";
import type { Host } from "./ports.ts";

export async function describeNode(input: {
  readonly host: Host;
  readonly engine: EngineInfo | null;
  readonly policy: Policy;
  readonly agentVersion: string;
}): Promise<NodeFacts> {
  const { policy, engine } = input;
  const machine = await input.host.describe();
  return {
    ...machine,
    cpuMillis: Math.min(machine.cpuMillis, policy.cpuMillisMax ?? Number.POSITIVE_INFINITY),
    memoryMiB: Math.min(machine.memoryMiB, policy.memoryMiBMax ?? Number.POSITIVE_INFINITY),
    addresses: [...machine.addresses],
    devices: Object.fromEntries(Object.entries(policy.devices).map(([kind, { count }]) => [kind, count])),
    labels: policy.labels,
    engine: {
      version: engine?.version ?? "unknown",
      apiVersion: engine?.apiVersion ?? "",
      cgroup: engine?.cgroup ?? "",
      storage: engine?.storage ?? "",
    },
    agentVersion: input.agentVersion,
    protocol: PROTOCOL_VERSION,
  };
}
