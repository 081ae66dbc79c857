/** berth's side of the comparison: an app as the intake made it → its normal form. */
import type { AppSpec, Healthcheck, ServiceSpec } from "../../../shared/model/app.ts";
import type { NormalApp, NormalService } from "./normal.ts";

type Mount = ServiceSpec["workload"]["mounts"][number];

export function normalApp(app: AppSpec): NormalApp {
  return {
    services: Object.fromEntries(Object.entries(app.services).map(([name, service]) => [name, normalService(service, app)])),
    volumes: Object.fromEntries(
      Object.entries(app.volumes).map(([name, volume]) => [
        name,
        { ...(volume.externalName === undefined ? {} : { external: volume.externalName }), labels: volume.labels },
      ]),
    ),
  };
}

function normalService(service: ServiceSpec, app: AppSpec): NormalService {
  const { workload, update, placement, reservation } = service;
  return {
    image: workload.image,
    command: workload.command,
    entrypoint: workload.entrypoint,
    env: { ...workload.env },
    labels: { ...workload.labels },
    ports: workload.ports.map((port) => `${port.hostIp ?? ""}|${port.published ?? ""}|${port.target}/${port.protocol}`).sort(),
    mounts: workload.mounts.map((mount) => mountLine(mount, app)).sort(),
    dependsOn: Object.fromEntries(Object.entries(service.dependsOn).map(([name, { condition }]) => [name, condition])),
    healthcheck: workload.healthcheck === undefined ? undefined : normalCheck(workload.healthcheck),
    restart: differing(workload.restart, { delayMs: 1_000 }) as NormalService["restart"],
    mode: service.mode,
    replicas: service.replicas,
    update: differing(update, {
      order: "auto",
      parallelism: 1,
      delayMs: 0,
      minHealthyMs: 10_000,
      healthyDeadlineMs: 300_000,
      progressDeadlineMs: 600_000,
      failureAction: "rollback",
      canaries: 0,
    }),
    constraints: placement.constraints.map(({ key, operator, values }) => `${key} ${operator} ${values.join(",")}`),
    spreadBy: placement.spreadBy,
    maxPerNode: placement.maxPerNode,
    limits: differing(workload.limits, {}) as Record<string, number | string>,
    reservation: differing({ cpuMillis: reservation.cpuMillis, memoryMiB: reservation.memoryMiB }, { cpuMillis: 50, memoryMiB: 64 }),
    ulimits: Object.fromEntries(Object.entries(workload.ulimits).map(([name, { soft, hard }]) => [name, [soft, hard]])),
    sysctls: workload.sysctls,
    extraHosts: [...workload.extraHosts].sort(),
    devices: workload.devices.map(({ source, target, permissions }) => `${source}:${target}:${permissions}`).sort(),
    logging: workload.logging,
    aliases: [...workload.aliases].sort(),
    plain: plainOf(workload),
  };
}

function mountLine(mount: Mount, app: AppSpec): string {
  const access = "readOnly" in mount && mount.readOnly ? "ro" : "rw";
  switch (mount.kind) {
    case "volume":
      return `volume ${mount.volume} ${mount.target} ${access}${mount.noCopy ? " nocopy" : ""}`;
    case "bind":
      return `bind ${mount.source} ${mount.target} ${access} ${mount.propagation}`;
    case "tmpfs":
      return `tmpfs ${mount.target} ${mount.sizeBytes ?? "any size"}`;
    case "config":
      return `file ${mount.target} ${mount.mode.toString(8)} ${mount.uid}:${mount.gid} ${JSON.stringify(app.configs[mount.config]?.content)}`;
  }
}

function normalCheck(check: Healthcheck): NonNullable<NormalService["healthcheck"]> {
  // 1.29 knows no start_interval.
  const { startIntervalMs: _, ...known } = check;
  return known as NonNullable<NormalService["healthcheck"]>;
}

const PLAIN = [
  "user",
  "groupAdd",
  "hostname",
  "domainname",
  "workingDir",
  "init",
  "tty",
  "stdinOpen",
  "readOnly",
  "privileged",
  "capAdd",
  "capDrop",
  "securityOpt",
  "dns",
  "dnsSearch",
  "networkMode",
  "ipc",
  "pid",
  "shmBytes",
  "oomScoreAdj",
  "stopSignal",
  "stopGraceMs",
] as const;

function plainOf(workload: ServiceSpec["workload"]): Record<string, unknown> {
  const values = Object.fromEntries(PLAIN.map((key) => [key, workload[key]]));
  return differing(values, { networkMode: "app", stopGraceMs: 10_000 });
}

/** The fields that say something: not the default, not empty, not false. */
function differing(fields: Readonly<Record<string, unknown>>, defaults: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(
      ([key, value]) => value !== undefined && value !== false && value !== defaults[key] && !(Array.isArray(value) && value.length === 0),
    ),
  );
}
