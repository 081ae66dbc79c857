import { createHash } from "node:crypto";
import { execute, mustExecute } from "./command.ts";

/** Whether a machine's network cable is in its socket. */
export type Cable = "in" | "out";

export type Plug = { address: string; mac: string };

/** Addresses below this are the gateway's and the lab's own. */
const FIRST_HOST_NUMBER = 11;

/** A wire that machines are plugged into: a Linux bridge, with the way out at `gatewayIp`. */
export class Segment {
  readonly bridge: string;
  readonly gatewayIp: string;
  readonly subnet: string;
  readonly #prefix: string;
  /** Put before a command, runs it in the namespace that holds the bridge. */
  readonly #enter: readonly string[];
  #nextNumber = FIRST_HOST_NUMBER;

  /** @param prefix the first three numbers of the segment's /24, as "10.1.2" */
  constructor({ bridge, prefix, enter }: { bridge: string; prefix: string; enter: readonly string[] }) {
    this.bridge = bridge;
    this.gatewayIp = `${prefix}.1`;
    this.subnet = `${prefix}.0/24`;
    this.#prefix = prefix;
    this.#enter = enter;
  }

  async create(): Promise<void> {
    await this.#batch([
      // Without an address of its own a bridge takes the lowest of its ports': a host that goes off would
      // change the gateway's, and the others would talk to the old one until their ARP entries age.
      `link add ${this.bridge} address ${macOf(this.subnet)} type bridge forward_delay 0 mcast_snooping 0`,
      `addr add ${this.gatewayIp}/24 dev ${this.bridge}`,
      `link set ${this.bridge} up`,
    ]);
  }

  allocate(): string {
    if (this.#nextNumber > 254) throw new Error(`${this.subnet} has no address left.`);
    return `${this.#prefix}.${this.#nextNumber++}`;
  }

  /** Gives the namespace of process `pid` an `interface` here, with its address and default route. */
  async plug(pid: number, port: string, { address, mac }: Plug, { interface: nic = "eth0", cable = "in" as Cable } = {}) {
    await this.#batch([
      `link add ${port} type veth peer name ${nic} address ${mac} netns ${pid}`,
      `link set ${port} master ${this.bridge} ${cable === "in" ? "up" : "down"}`,
    ]);
    await batch(
      ["nsenter", "-t", String(pid), "-n"],
      [`addr add ${address}/24 dev ${nic}`, `link set ${nic} up`, `route add default via ${this.gatewayIp} dev ${nic}`],
    );
  }

  /** The far end is set, so that the machine sees its carrier go and come, as with a real cable. */
  async setCable(port: string, cable: Cable): Promise<void> {
    await mustExecute([...this.#enter, "ip", "link", "set", port, cable === "in" ? "up" : "down"]);
  }

  /** Takes both ends away at once: a dead namespace's own end can linger. */
  async unplug(port: string): Promise<void> {
    await execute([...this.#enter, "ip", "link", "delete", port]);
  }

  #batch(lines: string[]): Promise<void> {
    return batch(this.#enter, lines);
  }
}

/** The same name has the same address in every run and after every reboot. It is locally administered. */
export function macOf(name: string): string {
  const bytes = createHash("sha256").update(name).digest().subarray(0, 5);
  return ["02", ...Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))].join(":");
}

async function batch(enter: readonly string[], lines: readonly string[]): Promise<void> {
  await mustExecute([...enter, "ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}
