/** Colocated services as one: what a node needs to hold the whole group. */
import type { Demand } from "../schedule/fleet.ts";
import type { ServicePlanning, ServiceState } from "./snapshot.ts";

type Toleration = ServicePlanning["tolerations"][number];

/** A stand-in service for the scheduler: the members' constraints together, and only what all of them tolerate. */
export function jointService(members: readonly ServiceState[]): ServiceState {
  const first = members[0]!;
  return {
    ...first,
    name: "",
    mode: "replicated",
    replicas: 1,
    planning: {
      ...first.planning,
      constraints: members.flatMap((member) => member.planning.constraints),
      tolerations: jointTolerations(members.map((member) => member.planning.tolerations)),
      volumes: members.flatMap((member) => member.planning.volumes),
      spreadBy: [],
      maxPerNode: null,
      strategy: members.some((member) => member.planning.strategy === "binpack") ? "binpack" : "spread",
    },
  };
}

/** What all replicas of all members set aside together. */
export function jointDemand(members: readonly ServiceState[]): Demand {
  const devices = new Map<string, number>();
  let cpuMillis = 0;
  let memoryMiB = 0;
  for (const { replicas, reservation } of members) {
    cpuMillis += replicas * reservation.cpuMillis;
    memoryMiB += replicas * reservation.memoryMiB;
    for (const [kind, count] of Object.entries(reservation.devices)) devices.set(kind, (devices.get(kind) ?? 0) + replicas * count);
  }
  return {
    replicas: members.reduce((sum, member) => sum + member.replicas, 0),
    cpuMillis,
    memoryMiB,
    devices: [...devices].sort(([a], [b]) => (a < b ? -1 : 1)),
    hostPorts: members.flatMap((member) => (member.replicas > 0 ? member.planning.hostPorts : [])),
  };
}

/** A toleration holds for the group when every member has it or a wider one. */
function jointTolerations(lists: readonly (readonly Toleration[])[]): Toleration[] {
  const covers = (wide: Toleration, narrow: Toleration) =>
    wide.key === narrow.key && (wide.value === undefined || wide.value === narrow.value);
  return lists.flat().filter((candidate) => lists.every((list) => list.some((toleration) => covers(toleration, candidate))));
}
