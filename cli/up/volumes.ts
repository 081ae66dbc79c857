/** The volumes of this cluster on an engine that other clusters may use too. */
import { type EngineApi, filters } from "./engine-api.ts";

interface EngineVolume {
  readonly Name: string;
  readonly Labels: Readonly<Record<string, string>> | null;
}

/** Names of those that one of these nodes made: each carries its node's id. */
export async function volumesOf(engine: EngineApi, nodes: readonly string[]): Promise<string[]> {
  const answer = await engine.get<{ Volumes: EngineVolume[] | null }>(`/volumes?${filters({ label: ["berth.app", "berth.node"] })}`);
  return (answer?.Volumes ?? []).filter(({ Labels }) => nodes.includes(Labels?.["berth.node"] ?? "")).map(({ Name }) => Name);
}
