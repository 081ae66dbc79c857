/** Counted devices: which of them a replica gets. Held by index, so that two replicas never share one. */
import type { ReplicaRecord } from "../shared/converge/record.ts";
import { hasEnded } from "../shared/converge/record.ts";
import type { Reservation } from "../shared/model/app.ts";
import type { DeviceRequestBody } from "./engine/create-body.ts";
import { EngineError } from "./engine/engine.ts";
import type { Policy } from "./policy.ts";
import { Unmet } from "./step-failure.ts";

export interface AllocatedDevices {
  /** Kind → indices, for the record. */
  readonly held: Readonly<Record<string, number[]>>;
  readonly requests: readonly DeviceRequestBody[];
  readonly paths: readonly string[];
}

export function allocateDevices(input: {
  readonly reservation: Reservation;
  readonly policy: Policy;
  readonly records: ReadonlyMap<string, ReplicaRecord>;
  readonly replica: string;
}): AllocatedDevices {
  const held: Record<string, number[]> = {};
  const requests: DeviceRequestBody[] = [];
  const paths: string[] = [];
  for (const [kind, count] of Object.entries(input.reservation.devices)) {
    const declared = input.policy.devices[kind];
    if (declared === undefined) throw new EngineError("invalid", `device "${kind}" is not declared on this node`);
    const taken = new Set<number>();
    for (const [id, record] of input.records)
      if (id !== input.replica && !hasEnded(record)) for (const index of record.devices[kind] ?? []) taken.add(index);
    // What an earlier try was given comes first: its container may be there, with just these.
    const before = input.records.get(input.replica)?.devices[kind] ?? [];
    const free = Array.from({ length: declared.count }, (_, index) => index)
      .filter((index) => !taken.has(index))
      .sort((a, b) => Number(before.includes(b)) - Number(before.includes(a)));
    if (declared.count < count)
      throw new EngineError("invalid", `${count} of device "${kind}" are wanted, this node has ${declared.count}`);
    if (free.length < count)
      throw new Unmet("deviceTaken", `${count} of device "${kind}" are wanted, ${free.length} of ${declared.count} are free`);
    const mine = free.slice(0, count);
    held[kind] = mine;
    if (declared.paths === undefined)
      requests.push({ Driver: declared.driver, DeviceIDs: mine.map(String), Capabilities: [declared.capabilities] });
    else paths.push(...mine.flatMap((index) => declared.paths?.[index] ?? []));
  }
  return { held, requests, paths };
}
