/** What the planner reads of replica specs, kept by hash: bodies never change, so one read of each is enough. */
import { z } from "zod";
import { canonicalAddress } from "../../shared/model/host-port.ts";
import type { SpecInfo } from "./replica-columns.ts";
import type { Store } from "./store.ts";

const HASHES_A_READ = 2_000;

/** Only what is read here, and leniently: the whole body was checked when it was stored. */
const Part = z.object({
  image: z.string(),
  reservation: z.object({ cpuMillis: z.number(), memoryMiB: z.number(), devices: z.record(z.string(), z.number()) }),
  ports: z.array(z.object({ published: z.number().optional(), protocol: z.enum(["tcp", "udp"]), hostIp: z.string().optional() })),
});

const SQL = `select json_group_array(json_array(b.hash, json_object('image', b.body->>'$.workload.image', 'reservation', b.body->'$.reservation', 'ports', b.body->'$.workload.ports')))
  from json_each(?) h join bodies b on b.hash = h.value where b.kind = 'spec'`;

export class SpecInfos {
  readonly #store: Store;
  #known = new Map<string, SpecInfo>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Info of a spec that `load` has been told of. A body that is not there occupies nothing: it cannot run either. */
  get(hash: string): SpecInfo {
    return this.#known.get(hash) ?? { hash, imageReference: "", cpuMillis: 0, memoryMiB: 0, hostPorts: [], devices: {} };
  }

  async load(hashes: Iterable<string>): Promise<void> {
    const missing = [...new Set(hashes)].filter((hash) => !this.#known.has(hash));
    for (let from = 0; from < missing.length; from += HASHES_A_READ) {
      const { results } = await this.#store.readRaw([{ sql: SQL, args: [JSON.stringify(missing.slice(from, from + HASHES_A_READ))] }]);
      for (const [hash, part] of JSON.parse(String(results[0]!.rows[0]![0])) as [string, unknown][])
        this.#known.set(hash, infoOf(hash, Part.parse(part)));
    }
  }

  /** Forgets all but these, so that a year of deployments is not kept in memory. */
  retain(hashes: ReadonlySet<string>): void {
    this.#known = new Map([...this.#known].filter(([hash]) => hashes.has(hash)));
  }

  get size(): number {
    return this.#known.size;
  }
}

function infoOf(hash: string, { image, reservation, ports }: z.infer<typeof Part>): SpecInfo {
  const hostPorts = ports.flatMap(({ published, protocol, hostIp }) =>
    published === undefined ? [] : [{ port: published, protocol, hostIp: canonicalAddress(hostIp ?? "") }],
  );
  const { cpuMillis, memoryMiB, devices } = reservation;
  return { hash, imageReference: image, cpuMillis, memoryMiB, hostPorts, devices };
}
