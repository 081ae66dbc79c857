/** The ports of one machine's addresses, as its engine takes them for containers. */
import { EngineError } from "../../agent/engine/engine.ts";
import type { PortBinding } from "../../shared/wire/report.ts";

type Bindings = Readonly<Record<string, readonly { readonly HostIp: string; readonly HostPort: string }[]>>;

/** Where the engine begins to look for a port that nobody named. */
const FIRST_FREE_PORT = 32_768;
const EVERY = new Set(["", "0.0.0.0", "::"]);

const overlaps = (one: PortBinding, protocol: string, hostIp: string, hostPort: number): boolean =>
  one.hostPort === hostPort && one.protocol === protocol && (one.hostIp === hostIp || EVERY.has(one.hostIp) || EVERY.has(hostIp));

export class HostPorts {
  #next = FIRST_FREE_PORT;

  /** What these bindings come to beside those that are taken. Throws as the engine refuses a start. */
  bind(bindings: Bindings, taken: readonly PortBinding[]): PortBinding[] {
    const bound: PortBinding[] = [];
    for (const [key, wanted] of Object.entries(bindings)) {
      const [target = "", protocol] = key.split("/");
      if (protocol !== "tcp" && protocol !== "udp") continue;
      for (const { HostIp, HostPort } of wanted) {
        const isFree = (port: number) => ![...taken, ...bound].some((one) => overlaps(one, protocol, HostIp, port));
        let hostPort = Number(HostPort);
        if (hostPort === 0) {
          while (!isFree(this.#next)) this.#next++;
          hostPort = this.#next++;
        } else if (!isFree(hostPort)) {
          throw new EngineError("failed", `Bind for ${HostIp || "0.0.0.0"}:${hostPort} failed: port is already allocated`, { status: 500 });
        }
        // Without an address it is taken in both families.
        for (const hostIp of HostIp === "" ? ["0.0.0.0", "::"] : [HostIp])
          bound.push({ target: Number(target), protocol, hostIp, hostPort });
      }
    }
    return bound;
  }
}
