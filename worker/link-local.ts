import { BlockList } from "node:net";

/** Addresses that hold on one wire alone (RFC 3927, RFC 4291), IPv4-mapped ones among them. Clouds answer there with a machine's secrets. */
export const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet("169.254.0.0", 16, "ipv4");
LINK_LOCAL.addSubnet("fe80::", 10, "ipv6");
