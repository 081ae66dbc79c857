import type { Machine } from "./machine.ts";
import { macOf, Segment } from "./segment.ts";

export type RouterGround = {
  machine: Machine;
  /** Where the router's own outside is plugged in. */
  outside: Segment;
  port: string;
  /** The first three numbers of the inside's /24. */
  insidePrefix: string;
};

/** As a home's or a shop's: many inside share the one outside address; outside reaches nothing inside. */
const RULES = [
  ["-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE"],
  ["-P", "FORWARD", "DROP"],
  ["-A", "FORWARD", "-i", "lan", "-j", "ACCEPT"],
  ["-A", "FORWARD", "-i", "wan", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"],
];

/** A site's router with NAT. */
export class Router {
  readonly name: string;
  /** Its address outside: what the control plane sees of the whole site. */
  readonly address: string;
  readonly #ground: RouterGround;
  #inside: Segment | undefined;

  constructor(ground: RouterGround) {
    this.name = ground.machine.name;
    this.address = ground.machine.address;
    this.#ground = ground;
  }

  async start(): Promise<void> {
    const { machine, outside, port, insidePrefix } = this.#ground;
    await machine.boot();
    const plug = { address: this.address, mac: macOf(port) };
    await outside.plug(machine.pid, port, plug, { interface: "wan" });
    const enter = ["nsenter", "-t", String(machine.pid), "--net"];
    const inside = new Segment({ bridge: "lan", prefix: insidePrefix, enter });
    await inside.create();
    for (const rule of RULES) await machine.run(["iptables", "-w", ...rule]);
    await machine.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
    this.#inside = inside;
  }

  get inside(): Segment {
    if (this.#inside === undefined) throw new Error(`The router ${this.name} has not been started.`);
    return this.#inside;
  }

  /** The site's uplink goes dead; inside, links stay up and packets leave for nowhere. */
  async cutOff(): Promise<void> {
    await this.#ground.outside.setCable(this.#ground.port, "out");
  }

  async reconnect(): Promise<void> {
    await this.#ground.outside.setCable(this.#ground.port, "in");
  }
}
