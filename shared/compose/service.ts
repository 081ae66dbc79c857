/** One service of the merged project → a service of the app. */
import type { AppSpecInput, Workload } from "../model/app.ts";
import { environmentOf, labelsOf } from "./environment.ts";
import { healthcheckOf } from "./healthcheck.ts";
import type { Loading } from "./files.ts";
import { mountsOf } from "./mounts.ts";
import { networkModeOf } from "./network.ts";
import { placementOf } from "./placement.ts";
import { portsOf } from "./ports.ts";
import { limitsOf, reservationOf } from "./resources.ts";
import { restartOf } from "./restart.ts";
import type { Found, Section } from "./section.ts";
import type { Stores } from "./stores.ts";
import { scalarText } from "./tree.ts";
import { modeOf, updateOf } from "./update.ts";
import { splitWords } from "./words.ts";
import type { BerthExtension } from "./x-berth.ts";

type ServiceInput = AppSpecInput["services"][string];
type WorkloadInput = ServiceInput["workload"];

export type ServiceContext = {
  name: string;
  extension: BerthExtension;
  stores: Stores;
  loading: Loading;
  variables: ReadonlyMap<string, string>;
  aliases: readonly string[];
  dependsOn: NonNullable<ServiceInput["dependsOn"]>;
};

export function serviceOf(service: Section, context: ServiceContext): ServiceInput {
  return {
    ...modeOf(service),
    workload: workloadOf(service, context),
    reservation: reservationOf(service),
    placement: placementOf(service, context.extension),
    update: updateOf(service, context.extension),
    dependsOn: context.dependsOn,
  };
}

function workloadOf(service: Section, context: ServiceContext): WorkloadInput {
  const sources = { variables: context.variables, loading: context.loading };
  const networkMode = networkModeOf(service);
  const stopGraceMs = service.durationMs("stop_grace_period")?.value;
  return {
    image: service.text("image")?.value ?? "",
    ...given("pullPolicy", pullPolicyOf(service)),
    ...given("entrypoint", commandOf(service, "entrypoint")),
    ...given("command", commandOf(service, "command")),
    env: environmentOf(service, sources),
    labels: labelsOf(service, sources),
    ...texts(service),
    ...flags(service),
    ...lists(service),
    ...namespaces(service),
    ...given("sysctls", record(service, "sysctls")),
    ...given("ulimits", ulimitsOf(service)),
    devices: devicesOf(service),
    ...given("shmBytes", service.bytes("shm_size")?.value),
    ...given("oomScoreAdj", service.integer("oom_score_adj")?.value),
    extraHosts: extraHostsOf(service),
    networkMode,
    // Told of where they are written: names of its own are of no use to it.
    aliases: networkMode === "app" ? [...context.aliases] : [],
    mounts: mountsOf(service, { service: context.name, stores: context.stores, loading: context.loading }),
    ports: portsOf(service),
    ...given("healthcheck", healthcheckOf(service)),
    restart: restartOf(service),
    ...given("stopGraceMs", stopGraceMs),
    limits: limitsOf(service),
    ...given("logging", loggingOf(service)),
  };
}

/** `{[key]: value}`, or nothing where there is no value: the model's defaults then hold. */
const given = <Key extends string, Value>(key: Key, value: Value | undefined): { [K in Key]?: Value } =>
  value === undefined ? {} : ({ [key]: value } as { [K in Key]?: Value });

const TEXTS = {
  user: "user",
  hostname: "hostname",
  domainname: "domainname",
  working_dir: "workingDir",
  runtime: "runtime",
  stop_signal: "stopSignal",
} as const;
const FLAGS = {
  init: "init",
  tty: "tty",
  stdin_open: "stdinOpen",
  read_only: "readOnly",
  privileged: "privileged",
  oom_kill_disable: "oomKillDisable",
} as const;

function texts(service: Section): Record<string, string> {
  return Object.fromEntries(
    Object.entries(TEXTS).flatMap(([key, field]) => {
      const found = service.text(key);
      return found === undefined ? [] : [[field, found.value]];
    }),
  );
}

function flags(service: Section): Record<string, boolean> {
  return Object.fromEntries(
    Object.entries(FLAGS).flatMap(([key, field]) => {
      const value = service.boolean(key);
      return value === undefined ? [] : [[field, value]];
    }),
  );
}

const capability = (text: string): string => text.toUpperCase().replace(/^CAP_/, "");
const words = (found: readonly Found<string>[]): string[] => [...new Set(found.map(({ value }) => value))];

function lists(service: Section): Partial<Workload> {
  for (const option of service.strings("security_opt")) {
    if (/^seccomp[=:](?!unconfined$)/.test(option.value))
      service.refuse(option, "seccomp profiles from files are not there yet", "use seccomp:unconfined or the engine's default");
  }
  return {
    capAdd: words(service.strings("cap_add")).map(capability),
    capDrop: words(service.strings("cap_drop")).map(capability),
    groupAdd: words(service.strings("group_add")),
    securityOpt: words(service.strings("security_opt")),
    dns: words(service.strings("dns")),
    dnsSearch: words(service.strings("dns_search")),
    dnsOptions: words(service.strings("dns_opt")),
  };
}

const NAMESPACES = {
  ipc: { field: "ipc", values: ["private", "shareable", "host", "none"] },
  pid: { field: "pid", values: ["host"] },
  uts: { field: "uts", values: ["host"] },
  cgroup: { field: "cgroupns", values: ["host", "private"] },
} as const;

function namespaces(service: Section): Partial<Workload> {
  const fields: [string, string][] = [];
  for (const [key, { field, values }] of Object.entries(NAMESPACES)) {
    const found = service.text(key);
    if (found === undefined || found.value === "") continue;
    if (values.some((value) => value === found.value)) fields.push([field, found.value]);
    else if (/^(?:service|container):/.test(found.value))
      service.refuse(
        found,
        "sharing a namespace with another container is not supported: the two may run on different nodes",
        `use ${values.join(" or ")}, or remove it`,
      );
    else service.wrong(found, `"${found.value}" is not known`, `use ${values.join(" or ")}`);
  }
  return Object.fromEntries(fields) as Partial<Workload>;
}

function commandOf(service: Section, key: "command" | "entrypoint"): string[] | undefined {
  const found = service.tree(key);
  if (found === undefined) return undefined;
  if (found.value.kind === "sequence") return service.strings(key).map(({ value }) => value);
  const line = found.value.kind === "scalar" ? scalarText(found.value) : "";
  const split = splitWords(line);
  if (split === undefined) service.wrong(found, "a quote is not closed, or a backslash ends the line", "write it as a list of words");
  return split;
}

function pullPolicyOf(service: Section): Workload["pullPolicy"] | undefined {
  const policy = service.text("pull_policy");
  switch (policy?.value) {
    case undefined:
      return undefined;
    case "always":
    case "never":
    case "missing":
      return policy?.value as Workload["pullPolicy"];
    case "if_not_present":
      return "missing";
    case "build":
      // build.ts has the say: with --build the pushed image is pulled like any other.
      if (!service.has("build")) service.wrong(policy as Found<string>, "pull_policy: build without build:", "use missing or always");
      return undefined;
    default:
      if (/^(?:daily|weekly|refresh|every_[0-9wdhms]{1,20})$/.test(policy?.value ?? ""))
        service.refuse(
          policy as Found<string>,
          "an app changes when you deploy, not by time",
          "use always or missing, and deploy again to pull a newer image",
        );
      else service.wrong(policy as Found<string>, `"${policy?.value}" is no pull policy`, "use always, never, missing or if_not_present");
      return undefined;
  }
}

function record(service: Section, key: string): Record<string, string> | undefined {
  const pairs = service.pairs(key);
  return pairs.length === 0 ? undefined : Object.fromEntries(pairs.map(({ key: name, value }) => [name, value ?? ""]));
}

function ulimitsOf(service: Section): Workload["ulimits"] | undefined {
  const limits = new Map<string, { soft: number; hard: number }>();
  for (const { name, at, section } of service.named("ulimits")) {
    const single = service.section("ulimits").integer(name);
    const soft = single ?? section.integer("soft");
    const hard = single ?? section.integer("hard");
    if (soft === undefined || hard === undefined)
      service.wrong(
        { at, path: `${service.path}.ulimits.${name}` },
        "a ulimit takes a number, or soft: and hard:",
        "write nofile: 65536, or nofile: {soft: 1024, hard: 65536}",
      );
    else limits.set(name, { soft: soft.value, hard: hard.value });
  }
  return limits.size === 0 ? undefined : Object.fromEntries(limits);
}

function devicesOf(service: Section): Workload["devices"] {
  return service.items("devices").flatMap((item) => {
    const long = service.within(item);
    const parts =
      item.value.kind === "scalar"
        ? scalarText(item.value).split(":")
        : [long.text("source")?.value ?? "", long.text("target")?.value, long.text("permissions")?.value];
    const [source = "", target, permissions] = parts;
    if (parts.length > 3 || !source.startsWith("/")) {
      if (/^[a-z0-9.-]+\/[a-z0-9.-]+=/i.test(source))
        service.refuse(item, "devices of the container device interface are not there yet", "name the device files");
      else service.wrong(item, `"${source}" is no device`, "write /dev/SOURCE[:/dev/TARGET[:rwm]]");
      return [];
    }
    // `SOURCE:rw` leaves the target out.
    const isMode = permissions === undefined && target !== undefined && /^[rwm]{1,3}$/.test(target);
    return [{ source, target: target === undefined || isMode ? source : target, permissions: permissions ?? (isMode ? target : "rwm") }];
  });
}

function extraHostsOf(service: Section): string[] {
  const found = service.tree("extra_hosts");
  if (found?.value.kind !== "mapping") return [];
  return [...found.value.entries].flatMap(([host, { value }]) => {
    const addresses = value.kind === "sequence" ? value.items : [value];
    return addresses.flatMap((address) => (address.kind === "scalar" ? [`${host}:${scalarText(address).replace(/^\[|\]$/g, "")}`] : []));
  });
}

const DRIVERS: ReadonlySet<string> = new Set(["json-file", "local", "none", "journald", "syslog", "fluentd", "gelf"]);

function loggingOf(service: Section): Workload["logging"] | undefined {
  if (!service.has("logging")) return undefined;
  const logging = service.section("logging");
  const driver = logging.text("driver");
  if (driver !== undefined && !DRIVERS.has(driver.value)) {
    logging.refuse(driver, `the logging driver ${driver.value} is not supported`, `use one of ${[...DRIVERS].join(", ")}`);
    return undefined;
  }
  if (driver === undefined && logging.has("options") && logging.at !== undefined)
    logging.approximated({ at: logging.at, path: `${logging.path}.options` }, "Passed to the driver json-file, since no driver is named.");
  return {
    driver: (driver?.value ?? "json-file") as NonNullable<Workload["logging"]>["driver"],
    options: record(logging, "options") ?? {},
  };
}
