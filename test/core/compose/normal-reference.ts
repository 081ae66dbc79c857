/**
 * The reference's side of the comparison: what docker-compose's `config` printed → its normal form. Written apart from
 * the intake on purpose: it shares no parsing with it. DIFFERENCES in the test says where berth means to differ.
 */
import { readFileSync } from "node:fs";
import { CORPUS, PROJECT_DIRECTORY } from "./corpus.ts";
import type { NormalApp, NormalService } from "./normal.ts";

type Data = { readonly [key: string]: unknown };
const data = (value: unknown): Data => (typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Data) : {});
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]);
/** `config` doubles every dollar sign, so that its output can be read again. */
const text = (value: unknown): string => String(value).replaceAll("$$", "$");
const texts = (value: unknown): string[] => list(value).map(text);
const number = (value: unknown): number | undefined => (value === undefined || value === null ? undefined : Number(value));

export function normalReference(name: string, config: unknown): NormalApp {
  const top = data(config);
  const services = Object.entries(data(top.services));
  const linked = new Map<string, string[]>();
  for (const [, service] of services) {
    for (const link of texts(data(service).links)) {
      const [target = "", alias] = link.split(":");
      if (alias !== undefined) linked.set(target, [...(linked.get(target) ?? []), alias]);
    }
  }
  return {
    services: Object.fromEntries(
      services.map(([key, service]) => [key, normalService(data(service), { name, top, aliases: linked.get(key) ?? [], key })]),
    ),
    volumes: Object.fromEntries(
      Object.entries(data(top.volumes)).map(([key, volume]) => {
        const { external, name: engineName, labels } = data(volume);
        return [key, { ...(external === true ? { external: text(engineName ?? key) } : {}), labels: pairs(labels) }];
      }),
    ),
  };
}

type Around = { name: string; top: Data; aliases: readonly string[]; key: string };

function normalService(service: Data, around: Around): NormalService {
  const deploy = data(service.deploy);
  const placement = data(deploy.placement);
  const container = service.container_name === undefined ? [] : [text(service.container_name)];
  return {
    image: text(service.image),
    command: words(service.command),
    entrypoint: words(service.entrypoint),
    env: pairs(service.environment),
    labels: pairs(service.labels),
    ports: list(service.ports).map(portLine).sort(),
    mounts: [
      ...list(service.volumes).map((volume) => mountLine(volume, around)),
      ...texts(service.tmpfs).map((path) => `tmpfs ${path} any size`),
      ...list(service.configs).map((grant) => configLine(data(grant), around)),
    ].sort(),
    dependsOn: dependencies(service),
    healthcheck: check(data(service.healthcheck)),
    restart: restart(service, data(deploy.restart_policy)),
    mode: text(deploy.mode ?? "replicated"),
    replicas: number(deploy.replicas ?? service.scale) ?? 1,
    update: update(data(deploy.update_config)),
    constraints: texts(placement.constraints).map((line) => line.replace(/ ?== ?/, " = ").replace(/ ?!= ?/, " != ")),
    spreadBy: list(placement.preferences).map((preference) => text(data(preference).spread)),
    maxPerNode: number(placement.max_replicas_per_node),
    limits: limits(service, data(data(deploy.resources).limits)),
    reservation: reservation(service, data(data(deploy.resources).reservations)),
    ulimits: Object.fromEntries(
      Object.entries(data(service.ulimits)).map(([key, limit]) => [
        key,
        typeof limit === "number" ? [limit, limit] : [Number(data(limit).soft), Number(data(limit).hard)],
      ]),
    ),
    sysctls: pairs(service.sysctls),
    extraHosts: (Array.isArray(service.extra_hosts)
      ? texts(service.extra_hosts)
      : Object.entries(pairs(service.extra_hosts)).map(([host, ip]) => `${host}:${ip}`)
    ).sort(),
    devices: texts(service.devices)
      .map((device) => {
        const [source = "", target = source, permissions = "rwm"] = device.split(":");
        return `${source}:${target}:${permissions}`;
      })
      .sort(),
    logging:
      service.logging === undefined
        ? undefined
        : { driver: text(data(service.logging).driver ?? "json-file"), options: pairs(data(service.logging).options) },
    aliases: [...container, ...around.aliases].filter((alias) => alias !== around.key).sort(),
    plain: plain(service),
  };
}

const words = (value: unknown): string[] | undefined => (value === undefined || value === null ? undefined : texts(value));

/** A mapping, or a list of KEY=value; a key without a value was not set where `config` ran. */
function pairs(value: unknown): Record<string, string> {
  if (Array.isArray(value))
    return Object.fromEntries(texts(value).map((line) => [line.split("=")[0] ?? "", line.split("=").slice(1).join("=")]));
  return Object.fromEntries(Object.entries(data(value)).flatMap(([key, item]) => (item === null ? [] : [[text(key), text(item)]])));
}

function portLine(port: unknown): string {
  if (typeof port === "string") {
    const [numbers = "", protocol = "tcp"] = port.split("/");
    const parts = numbers.split(":");
    const target = parts.pop();
    const published = parts.pop() ?? "";
    return `${parts.join(":")}|${published}|${target}/${protocol}`;
  }
  if (typeof port === "number") return `||${port}/tcp`;
  const { target, published = "", protocol = "tcp" } = data(port);
  return `|${text(published)}|${text(target)}/${text(protocol)}`;
}

function mountLine(volume: unknown, around: Around): string {
  if (typeof volume !== "string") {
    const long = data(volume);
    const access = long.read_only === true ? "ro" : "rw";
    if (long.type === "tmpfs") return `tmpfs ${text(long.target)} ${text(data(long.tmpfs).size ?? "any size")}`;
    if (long.type === "volume")
      return `volume ${text(long.source)} ${text(long.target)} ${access}${data(long.volume).nocopy === true ? " nocopy" : ""}`;
    return `bind ${text(long.source)} ${text(long.target)} ${access} ${text(data(long.bind).propagation ?? "rprivate")}`;
  }
  const [source = "", target = "", options = "rw"] = text(volume).split(":");
  const access = options.split(",").includes("ro") ? "ro" : "rw";
  if (source.startsWith(`${PROJECT_DIRECTORY}/`)) return `file ${target} 444 0:0 ${content(source, around)}`;
  return source.startsWith("/") ? `bind ${source} ${target} ${access} rprivate` : `volume ${source} ${target} ${access}`;
}

function configLine(grant: Data, around: Around): string {
  const source = text(grant.source);
  const file = text(data(data(around.top.configs)[source]).file);
  return `file ${text(grant.target ?? `/${source}`)} ${Number(grant.mode ?? 0o444).toString(8)} ${text(grant.uid ?? 0)}:${text(grant.gid ?? 0)} ${content(file, around)}`;
}

const content = (path: string, around: Around): string =>
  JSON.stringify(readFileSync(new URL(`${around.name}${path.slice(PROJECT_DIRECTORY.length)}`, CORPUS), "utf8"));

function dependencies(service: Data): NormalService["dependsOn"] {
  const linked = texts(service.links).map((link) => [link.split(":")[0] ?? "", "started"] as const);
  const listed = Array.isArray(service.depends_on)
    ? texts(service.depends_on).map((name) => [name, "started"] as const)
    : Object.entries(data(service.depends_on)).map(
        ([name, dependency]) => [name, data(dependency).condition === "service_healthy" ? "healthy" : "started"] as const,
      );
  return Object.fromEntries([...linked, ...listed]);
}

function check(healthcheck: Data): NormalService["healthcheck"] {
  if (healthcheck.test === undefined && Object.keys(healthcheck).length === 0) return undefined;
  const test =
    healthcheck.test === undefined
      ? []
      : typeof healthcheck.test === "string"
        ? ["CMD-SHELL", text(healthcheck.test)]
        : texts(healthcheck.test);
  if (healthcheck.disable === true || test[0] === "NONE") return { test: ["NONE"] };
  return told({
    test,
    intervalMs: milliseconds(healthcheck.interval),
    timeoutMs: milliseconds(healthcheck.timeout),
    startPeriodMs: unless(0, milliseconds(healthcheck.start_period)),
    retries: number(healthcheck.retries),
  }) as NonNullable<NormalService["healthcheck"]>;
}

function restart(service: Data, policy: Data): NormalService["restart"] {
  if (Object.keys(policy).length > 0) {
    const condition = { any: "always", none: "no", "on-failure": "on-failure" }[text(policy.condition ?? "any")] ?? "?";
    return told({
      condition,
      attemptsMax: number(policy.max_attempts),
      windowMs: milliseconds(policy.window),
      delayMs: unless(1000, milliseconds(policy.delay)),
    }) as NormalService["restart"];
  }
  const [condition = "", attempts] = text(service.restart ?? "unset").split(":");
  return told({ condition, attemptsMax: number(attempts) }) as NormalService["restart"];
}

const update = (config: Data): NormalService["update"] =>
  told({
    parallelism: unless(1, number(config.parallelism)),
    delayMs: unless(0, milliseconds(config.delay)),
    minHealthyMs: unless(10_000, milliseconds(config.monitor)),
    failureAction: unless("rollback", config.failure_action === undefined ? undefined : text(config.failure_action)),
    order: config.order === undefined ? undefined : text(config.order),
  });

function limits(service: Data, deploy: Data): NormalService["limits"] {
  const cpus = number(deploy.cpus ?? service.cpus);
  return told({
    cpuMillis: cpus === undefined ? undefined : Math.round(cpus * 1000),
    memoryBytes: bytes(deploy.memory ?? service.mem_limit),
    memorySwapBytes: bytes(service.memswap_limit),
    memoryReservationBytes: bytes(service.mem_reservation),
    memorySwappiness: number(service.mem_swappiness),
    pids: number(service.pids_limit),
    cpuShares: number(service.cpu_shares),
    cpuset: service.cpuset === undefined ? undefined : text(service.cpuset),
  }) as NormalService["limits"];
}

function reservation(service: Data, deploy: Data): NormalService["reservation"] {
  const cpus = number(deploy.cpus);
  const memory = bytes(deploy.memory ?? service.mem_reservation);
  return told({
    cpuMillis: cpus === undefined ? undefined : cpus * 1000,
    memoryMiB: memory === undefined ? undefined : memory / 1024 ** 2,
  });
}

function plain(service: Data): Record<string, unknown> {
  const flag = (value: unknown): true | undefined => (value === true ? true : undefined);
  const some = (value: unknown): string[] | undefined => (list(value).length === 0 ? undefined : texts(value));
  const word = (value: unknown): string | undefined => (value === undefined || value === null ? undefined : text(value));
  return told({
    user: word(service.user),
    groupAdd: some(service.group_add),
    hostname: word(service.hostname),
    domainname: word(service.domainname),
    workingDir: word(service.working_dir),
    init: flag(service.init),
    tty: flag(service.tty),
    stdinOpen: flag(service.stdin_open),
    readOnly: flag(service.read_only),
    privileged: flag(service.privileged),
    capAdd: some(service.cap_add),
    capDrop: some(service.cap_drop),
    securityOpt: some(service.security_opt),
    dns: some(service.dns),
    dnsSearch: some(service.dns_search),
    networkMode: word(service.network_mode),
    ipc: word(service.ipc),
    pid: word(service.pid),
    shmBytes: bytes(service.shm_size),
    oomScoreAdj: number(service.oom_score_adj),
    stopSignal: word(service.stop_signal),
    stopGraceMs: milliseconds(service.stop_grace_period),
  });
}

const told = <T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as { [K in keyof T]?: Exclude<T[K], undefined> };
const unless = <T>(usual: T, value: T | undefined): T | undefined => (value === usual ? undefined : value);

function milliseconds(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  let sum = 0;
  for (const [, amount, unit] of text(value).matchAll(/([\d.]+)(ms|s|m|h)/g))
    sum += Number(amount) * { ms: 1, s: 1e3, m: 60e3, h: 3600e3 }[unit as "ms" | "s" | "m" | "h"];
  return sum;
}

function bytes(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  const [, amount, unit = ""] = /^(\d+)([kmg]?)b?$/i.exec(text(value)) ?? [];
  return Number(amount) * { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }[unit.toLowerCase() as "" | "k" | "m" | "g"];
}
