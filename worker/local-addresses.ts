/**
 * The addresses under which other machines reach this one, of those that last: the server's certificate is made for them,
 * and made anew for each that is new.
 */
import type { networkInterfaces } from "node:os";
import { isIPv4 } from "node:net";
import { LINK_LOCAL } from "./link-local.ts";

/** Of the engines' networks. `br-` and twelve digits is docker's; a router's own bridge is `br-lan`. */
const CONTAINER_BRIDGE = /^(?:docker\d+|docker_gwbridge|br-[0-9a-f]{12}|veth.*|cni\d+|podman\d+)$/;
/** `IFA_F_TEMPORARY` of linux/if_addr.h: an address of RFC 8981, gone within days. */
const TEMPORARY = 0x01;

/** IPv4 first: it is what people type. */
export function externalAddresses(interfaces: ReturnType<typeof networkInterfaces>, temporary: ReadonlySet<string>): string[] {
  const external = Object.entries(interfaces)
    .filter(([name]) => !CONTAINER_BRIDGE.test(name))
    .flatMap(([, addresses]) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !temporary.has(address))
    .filter(({ address, family }) => !LINK_LOCAL.check(address, family === "IPv4" ? "ipv4" : "ipv6"))
    .map(({ address }) => address);
  return [...external.filter(isIPv4), ...external.filter((address) => !isIPv4(address))];
}

/** Of `/proc/net/if_inet6`, which says what `networkInterfaces` leaves out: 32 digits, index, prefix, scope, flags, name. */
export function temporaryAddresses(list: string): ReadonlySet<string> {
  const temporary = new Set<string>();
  for (const [, digits = "", flags = ""] of list.matchAll(/^([0-9a-f]{32}) \S+ \S+ \S+ ([0-9a-f]+) /gm))
    if ((Number.parseInt(flags, 16) & TEMPORARY) !== 0) temporary.add(shortened(digits));
  return temporary;
}

/** As `networkInterfaces` writes it. */
const shortened = (digits: string): string => new URL(`http://[${digits.match(/.{4}/g)!.join(":")}]`).hostname.slice(1, -1);
