/** `ports`: short form `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, each a port or a range, and the long form. */
import { PortSpec } from "../model/app.ts";
import type { Found, Section } from "./section.ts";
import { scalarText, type Tree } from "./tree.ts";

/** A range as wide as all ports is a firewall, not a service. The model takes 1,024 ports a service. */
const RANGE_MAX = 1024;

type Range = { from: number; to: number };
export type ParsedPort = { hostIp?: string; published?: Range; target: Range; protocol: string };

export function portsOf(service: Section): PortSpec[] {
  const ports: PortSpec[] = [];
  for (const item of service.items("ports")) {
    const parsed = item.value.kind === "scalar" ? parseShortPort(scalarText(item.value)) : longPort(item, service);
    if (parsed === undefined) {
      service.wrong(
        item,
        `${item.value.kind === "scalar" ? `"${scalarText(item.value)}"` : "this"} is no port`,
        'write "8080:80", "127.0.0.1:8080:80/udp", "80" or the long form with target:',
      );
    } else ports.push(...expand(parsed, item, service));
  }
  return distinct(ports);
}

/** Undefined where the text is no port. */
export function parseShortPort(text: string): ParsedPort | undefined {
  const match =
    /^(?:(\[[0-9a-fA-F:.]{2,45}\]|[0-9.]{7,15}|[0-9a-fA-F:]{2,45}(?=:[0-9-]*:[0-9-]+(?:\/|$))):)?(?:([0-9]{0,5}(?:-[0-9]{1,5})?):)?([0-9]{1,5}(?:-[0-9]{1,5})?)(?:\/([a-z]{2,8}))?$/.exec(
      text,
    );
  if (match === null) return undefined;
  const [, address, host = "", container = "", protocol = "tcp"] = match;
  const target = parseRange(container);
  const published = host === "" ? undefined : parseRange(host);
  if (target === undefined || (host !== "" && published === undefined)) return undefined;
  return {
    ...(address === undefined ? {} : { hostIp: address.replace(/^\[|\]$/g, "") }),
    ...(published === undefined || published.to === 0 ? {} : { published }),
    target,
    protocol,
  };
}

function parseRange(text: string): Range | undefined {
  const match = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  return from <= to && to <= 65_535 ? { from, to } : undefined;
}

function longPort(item: Found<Tree>, service: Section): ParsedPort | undefined {
  const long = service.within(item);
  const target = parseRange(long.text("target")?.value ?? "");
  if (target === undefined) return undefined;
  const publishedText = long.text("published")?.value ?? "";
  const published = publishedText === "" ? undefined : parseRange(publishedText);
  if (publishedText !== "" && published === undefined) return undefined;
  const mode = long.text("mode");
  if (mode !== undefined && mode.value !== "host" && mode.value !== "ingress")
    long.wrong(mode, `"${mode.value}" is no mode of a port`, "write host or ingress");
  const hostIp = long.text("host_ip")?.value;
  return {
    ...(hostIp === undefined || hostIp === "" ? {} : { hostIp }),
    ...(published === undefined || published.to === 0 ? {} : { published }),
    target,
    protocol: long.text("protocol")?.value ?? "tcp",
  };
}

function expand(port: ParsedPort, item: Found<Tree>, service: Section): PortSpec[] {
  const { target, published, hostIp, protocol } = port;
  if (protocol !== "tcp" && protocol !== "udp") {
    service.refuse(item, `the protocol ${protocol} is not supported`, "use tcp or udp");
    return [];
  }
  const address = PortSpec.shape.hostIp.safeParse(hostIp);
  if (!address.success) {
    service.wrong(item, `"${hostIp}" is no IP address`, "write an address of the node, or none for all");
    return [];
  }
  const count = target.to - target.from + 1;
  if (target.from === 0 || published?.from === 0) {
    service.wrong(item, "0 is no port in a range", "use ports from 1 to 65535");
    return [];
  }
  if (count > RANGE_MAX) {
    service.wrong(item, `a range of ${count} ports; at most ${RANGE_MAX} can be published`, "use network_mode: host for so many");
    return [];
  }
  if (published !== undefined && published.to - published.from + 1 !== count) {
    if (count === 1)
      service.refuse(
        item,
        `berth does not choose a host port from ${published.from}-${published.to}`,
        `name one host port, or none ("${target.from}") and the engine chooses one`,
      );
    else
      service.wrong(item, `${published.to - published.from + 1} host ports for ${count} container ports`, "make both ranges equally long");
    return [];
  }
  return Array.from({ length: count }, (_, offset) => ({
    target: target.from + offset,
    protocol,
    ...(published === undefined ? {} : { published: published.from + offset }),
    ...(address.data === undefined ? {} : { hostIp: address.data }),
  }));
}

function distinct(ports: readonly PortSpec[]): PortSpec[] {
  const seen = new Map(ports.map((port) => [`${port.hostIp ?? ""}|${port.published ?? ""}|${port.target}|${port.protocol}`, port]));
  return [...seen.values()];
}
