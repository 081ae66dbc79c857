/** Where a replica's ports can be reached. */
import { hostname } from "node:os";
import type { Replica } from "../../shared/api/resources.ts";

/** Ports that by custom speak HTTP in the container; for the rest an address without a scheme is shown. */
const HTTP_PORTS: ReadonlySet<number> = new Set([80, 3000, 5000, 8000, 8008, 8080, 8081, 8088, 8888, 9000, 9090]);
const HTTPS_PORTS: ReadonlySet<number> = new Set([443, 8443]);

export interface Address {
  readonly replica: string;
  readonly name: string;
  readonly url: string;
}

const isAny = (ip: string): boolean => ip === "" || ip === "0.0.0.0" || ip === "::";
const bracketed = (ip: string): string => (ip.includes(":") ? `[${ip}]` : ip);

/** Name of a replica as people write it: app/service/slot; a global service's slot is its node. */
export const replicaName = (replica: Pick<Replica, "app" | "service" | "slot" | "node">): string =>
  `${replica.app}/${replica.service}/${slotName(replica)}`;
export const slotName = (replica: Pick<Replica, "slot" | "node">): string =>
  replica.slot === replica.node.id ? replica.node.name : replica.slot;

/**
 * Bound on every IPv4 and every IPv6 address, a port may have two numbers: the IPv4 one is shown, and the other only where
 * there is no such one. `isLocal`: the node is this machine.
 */
export function addressesOf(replica: Replica, isLocal: boolean): Address[] {
  const urls = new Set<string>();
  for (const port of replica.ports) {
    const { target, protocol, hostIp, hostPort } = port;
    const isTwin = (other: typeof port) => other.target === target && other.protocol === protocol && !other.hostIp.includes(":");
    if (hostIp === "::" && replica.ports.some(isTwin)) continue;
    const host = isAny(hostIp) ? anyHost(replica.node, { isLocal, isV6: hostIp === "::" }) : hostIp;
    const place = `${bracketed(host)}:${hostPort}`;
    const scheme = protocol !== "tcp" ? "udp " : HTTP_PORTS.has(target) ? "http://" : HTTPS_PORTS.has(target) ? "https://" : "";
    urls.add(`${scheme}${place}`);
  }
  return [...urls].map((url) => ({ replica: replica.id, name: replicaName(replica), url }));
}

/** An address of the node in the family that is bound; its name where it has none. */
function anyHost(node: Replica["node"], { isLocal, isV6 }: { readonly isLocal: boolean; readonly isV6: boolean }): string {
  if (isLocal) return isV6 ? "::1" : "127.0.0.1";
  return node.addresses.find((address) => address.includes(":") === isV6) ?? node.name;
}

/** With a control plane on this machine's loopback, a node with this machine's name is this machine. */
export const isThisMachine = (nodeName: string, isLoopbackControlPlane: boolean): boolean =>
  isLoopbackControlPlane && nodeName === hostname().toLowerCase();
