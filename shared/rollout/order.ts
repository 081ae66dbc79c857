/** In which order a slot changes over. Said once, because the plan shown before a deploy has to say the same. */
import type { ServicePlanning } from "../plan/snapshot.ts";

export interface UpdateOrder {
  readonly order: "start-first" | "stop-first";
  /** May stop first where no node has room for two at a time. */
  readonly mayStopFirst: boolean;
  /** A sentence for people. */
  readonly reason: string;
}

export function updateOrder({
  order,
  volumes,
  hostPorts,
  maxSurge,
  maxUnavailable,
}: Pick<ServicePlanning, "order" | "volumes" | "hostPorts" | "maxSurge" | "maxUnavailable">): UpdateOrder {
  const written = volumes.find((volume) => !volume.readOnly);
  // Two writers on one volume corrupt it: no wish overrides this.
  if (written)
    return {
      order: "stop-first",
      mayStopFirst: true,
      reason: `the old replica stops first, because two must not write volume ${written.name} at once`,
    };
  if (order === "stop-first") return { order: "stop-first", mayStopFirst: true, reason: "the old replica stops first, as the spec asks" };
  if (order === "start-first")
    return { order: "start-first", mayStopFirst: false, reason: "the new replica starts first, as the spec asks" };
  if (maxSurge === 0)
    return { order: "stop-first", mayStopFirst: true, reason: "the old replica stops first, because none may run beside it" };
  const port = hostPorts[0];
  if (port)
    return {
      order: "stop-first",
      mayStopFirst: true,
      reason: `the old replica stops first, because host port ${port.port}/${port.protocol} is free once on a node`,
    };
  if (maxUnavailable === 0)
    return { order: "start-first", mayStopFirst: false, reason: "the new replica starts first, because no slot may be without one" };
  return {
    order: "start-first",
    mayStopFirst: true,
    reason: "the new replica starts first and takes over when it is healthy; where no node has room for both, the old one stops first",
  };
}
