/** What checkers read of a spec, each body once. */
import type { Rows } from "./rows.ts";

export interface HostPort {
  readonly port: number;
  readonly protocol: string;
  /** Empty: every address. */
  readonly hostIp: string;
}

interface Restart {
  readonly condition: "no" | "on-failure" | "always";
  readonly delayMs: number;
  readonly attemptsMax?: number;
}

export interface SpecFacts {
  readonly cpuMillis: number;
  readonly memoryMiB: number;
  /** Of the host. */
  readonly ports: readonly HostPort[];
  readonly image: string;
  readonly restart: Restart;
  /** Hashes of the config bodies that it names. */
  readonly configs: readonly string[];
}

interface Body {
  readonly reservation: { readonly cpuMillis: number; readonly memoryMiB: number };
  readonly configs?: Readonly<Record<string, string>>;
  readonly workload: {
    readonly image: string;
    readonly ports: readonly { readonly published?: number; readonly protocol: string; readonly hostIp?: string }[];
    readonly restart: Restart;
  };
}

/** Of a body that is not stored: that is said by whoever looks for it. */
const NOTHING: SpecFacts = { cpuMillis: 0, memoryMiB: 0, ports: [], image: "", restart: { condition: "no", delayMs: 0 }, configs: [] };

export class Specs {
  readonly #rows: Rows;
  readonly #known = new Map<string, SpecFacts>();

  constructor(rows: Rows) {
    this.#rows = rows;
  }

  of(hash: string): SpecFacts {
    const known = this.#known.get(hash);
    if (known !== undefined) return known;
    const text = this.#rows.get("bodies", hash)?.body;
    if (text === undefined) return NOTHING;
    const { reservation, workload, configs = {} } = JSON.parse(text) as Body;
    const spec = {
      cpuMillis: reservation.cpuMillis,
      memoryMiB: reservation.memoryMiB,
      ports: workload.ports.flatMap(({ published: port, protocol, hostIp = "" }) =>
        port === undefined ? [] : [{ port, protocol, hostIp }],
      ),
      image: workload.image,
      restart: workload.restart,
      configs: Object.values(configs),
    };
    this.#known.set(hash, spec);
    return spec;
  }
}

const EVERY = new Set(["", "0.0.0.0", "::"]);
export const clash = (a: HostPort, b: HostPort): boolean =>
  a.port === b.port && a.protocol === b.protocol && (a.hostIp === b.hostIp || EVERY.has(a.hostIp) || EVERY.has(b.hostIp));
