/** `networks`, `network_mode`, `links` and `container_name`: by which names a service is known inside its app. */
import type { Workload } from "../model/app.ts";
import { nameFrom } from "./app-names.ts";
import type { Section } from "./section.ts";
import { child, type Mapping, type Mark } from "./tree.ts";

export function networkModeOf(service: Section): Workload["networkMode"] {
  const mode = service.text("network_mode");
  if (mode === undefined) return "app";
  if (service.has("networks")) service.wrong(mode, "network_mode and networks exclude each other", "keep one of the two");
  if (mode.value === "host" || mode.value === "none") {
    const ports = service.tree("ports");
    if (ports !== undefined)
      service.wrong(
        ports,
        `with network_mode: ${mode.value} no ports can be published`,
        mode.value === "host" ? "remove ports:; the container's ports are the node's" : "remove ports: or network_mode:",
      );
    return mode.value;
  }
  const isKnown = mode.value === "bridge" || /^(?:service|container):/.test(mode.value);
  if (isKnown)
    service.refuse(
      mode,
      `network_mode ${mode.value} is not supported`,
      mode.value === "bridge"
        ? "remove network_mode: every app has a bridge of its own"
        : "give the service a network of its own, by removing network_mode",
    );
  else service.wrong(mode, `"${mode.value}" is no network mode`, "write host or none, or remove it");
  return "app";
}

/** Names besides the service's own, by service. */
export class Aliases {
  readonly #names = new Map<string, Set<string>>();
  readonly #services: ReadonlySet<string>;

  constructor(services: ReadonlySet<string>) {
    this.#services = services;
  }

  of(service: string): string[] {
    return [...(this.#names.get(service) ?? [])];
  }

  /** True when `alias` now stands for the service; false where it cannot. */
  add(service: string, alias: string): boolean {
    const name = nameFrom(alias);
    if (name === undefined || name !== alias.toLowerCase()) return false;
    if (name === service) return true;
    if (this.#services.has(name)) return false;
    this.#names.set(service, (this.#names.get(service) ?? new Set<string>()).add(name));
    return true;
  }
}

/** Notes every further name that `service` gives itself or, by links, others. */
export function collectAliases(name: string, service: Section, to: { aliases: Aliases; project: Mapping }): void {
  const { aliases, project } = to;
  for (const network of service.named("networks")) {
    if (network.name !== "default") {
      const place = { at: network.at, path: network.section.path };
      service.refusedElsewhere(place, "Custom networks are not there yet.");
      const declared = topLevelHas(project, network.name);
      // A declared custom network is refused where it is declared, once.
      if (!declared)
        service.complain("undefined_reference", place, {
          message: `there is no network "${network.name}"`,
          mend: "remove it; services of one app reach each other by name without it",
        });
      continue;
    }
    for (const alias of network.section.strings("aliases")) {
      if (!aliases.add(name, alias.value))
        service.wrong(
          alias,
          `"${alias.value}" cannot be a further name of ${name}`,
          "use lower-case letters, digits, '-' and '.', and no other service's name",
        );
    }
  }
  const container = service.text("container_name");
  const mode = service.text("network_mode")?.value;
  if (container !== undefined && (mode === "host" || mode === "none"))
    service.approximated(container, `No effect: berth names the containers, and with network_mode: ${mode} it has no DNS name.`);
  else if (container !== undefined && !aliases.add(name, container.value))
    service.approximated(container, "No effect: berth names the containers, and this cannot be a further DNS name of the service.");
}

const topLevelHas = (project: Mapping, network: string): boolean => {
  const networks = child(project, "networks");
  return networks?.kind === "mapping" && networks.entries.has(network);
};

/** `links`: `SERVICE[:ALIAS]` → the services linked to, each given its alias. */
export function linksOf(service: Section, aliases: Aliases): { service: string; at: Mark; path: string }[] {
  return service.strings("links").map((link) => {
    const [target = "", alias] = link.value.split(":");
    if (alias !== undefined && alias !== target && !aliases.add(target, alias))
      service.wrong(
        link,
        `"${alias}" cannot be a further name of ${target}`,
        "use lower-case letters, digits, '-' and '.', and no other service's name",
      );
    return { service: target, at: link.at, path: link.path };
  });
}

/** The top-level network default takes no options of its own. */
export function checkDefaultNetwork(root: Section): void {
  for (const { name, section } of root.named("networks")) {
    if (name !== "default") continue;
    const driver = section.text("driver");
    if (driver !== undefined && driver.value !== "bridge" && driver.value !== "overlay")
      section.refuse(driver, `the network driver ${driver.value} is not supported`, "remove driver:");
    const ipv4 = section.text("enable_ipv4");
    if (ipv4 !== undefined && section.boolean("enable_ipv4") === false)
      section.refuse(ipv4, "an app's network carries IPv4", "remove enable_ipv4");
  }
}
