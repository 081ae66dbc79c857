import type { NetworkInterfaceInfo } from "node:os";
import { expect, test } from "vitest";
import { externalAddresses, temporaryAddresses } from "../../../worker/local-addresses.ts";

const info = (address: string, over: { internal?: boolean } = {}): NetworkInterfaceInfo =>
  ({
    address,
    family: address.includes(":") ? "IPv6" : "IPv4",
    internal: false,
    netmask: "",
    mac: "02:00:00:00:00:01",
    cidr: null,
    ...over,
  }) as NetworkInterfaceInfo;

test("what lasts and leads elsewhere: IPv4 first, nothing internal, link-local, temporary, or of a container bridge", () => {
  const interfaces = {
    lo: [info("127.0.0.1", { internal: true })],
    eth0: [info("2001:db8::2"), info("2001:db8::9f1c:3"), info("fe80::1"), info("febf::1"), info("192.0.2.2"), info("169.254.7.7")],
    "br-lan": [info("192.168.1.1")],
    docker0: [info("172.17.0.1")],
    docker_gwbridge: [info("172.19.0.1")],
    "br-0123456789ab": [info("172.18.0.1"), info("fd00:18::1")],
    veth12ab: [info("10.9.9.9")],
    cni0: [info("10.88.0.1")],
    podman1: [info("10.89.0.1")],
    none: undefined,
  };
  expect(externalAddresses(interfaces, new Set(["2001:db8::9f1c:3"]))).toEqual(["192.0.2.2", "192.168.1.1", "2001:db8::2"]);
});

test("the kernel's list marks the temporary ones", () => {
  const list = [
    "20010db8000000000000000000000002 04 40 00 82     eth0",
    "20010db80000000000000000 9f1c0003 bad line",
    "20010db800000000000000009f1c0003 04 40 00 01     eth0",
    "fe8000000000000000fc00fffe000001 04 40 20 80     eth0",
  ].join("\n");
  expect([...temporaryAddresses(list)]).toEqual(["2001:db8::9f1c:3"]);
  expect([...temporaryAddresses("")]).toEqual([]);
});
