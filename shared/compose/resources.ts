/** CPU and memory: `cpus`, `mem_limit` and their kin, and `deploy.resources`, which must agree where both speak. */
import type { Reservation, Workload } from "../model/app.ts";
import type { Found, Section } from "./section.ts";

type Limits = Workload["limits"];
const MIB = 1024 * 1024;
/** The engine's default period, in microseconds. */
const CPU_PERIOD_US = 100_000;

export function limitsOf(service: Section): Limits {
  const deploy = service.section("deploy").section("resources").section("limits");
  const limits: Record<string, number | string | undefined> = {
    cpuMillis: agreed(service, deploy.cpuMillis("cpus"), service.cpuMillis("cpus")) ?? quotaMillis(service),
    memoryBytes: agreed(service, deploy.bytes("memory"), service.bytes("mem_limit")),
    pids: agreed(service, deploy.integer("pids"), service.integer("pids_limit")),
    memorySwapBytes: service.bytes("memswap_limit")?.value,
    memorySwappiness: service.integer("mem_swappiness")?.value,
    memoryReservationBytes: service.bytes("mem_reservation")?.value,
    cpuShares: service.integer("cpu_shares")?.value,
    cpuset: service.text("cpuset")?.value,
  };
  // 0 is how the engine's API says "no limit", except for swappiness, where it is a value.
  const given = Object.entries(limits).filter(([key, value]) => value !== undefined && (value !== 0 || key === "memorySwappiness"));
  return Object.fromEntries(given) as Limits;
}

export function reservationOf(service: Section): Partial<Reservation> {
  const deploy = service.section("deploy").section("resources").section("reservations");
  const cpuMillis = deploy.cpuMillis("cpus")?.value;
  const memoryBytes = (deploy.bytes("memory") ?? service.bytes("mem_reservation"))?.value;
  const devices = devicesOf(deploy);
  return {
    ...(cpuMillis === undefined ? {} : { cpuMillis }),
    ...(memoryBytes === undefined ? {} : { memoryMiB: Math.ceil(memoryBytes / MIB) }),
    ...(Object.keys(devices).length === 0 ? {} : { devices }),
  };
}

function devicesOf(reservations: Section): Record<string, number> {
  const counts = new Map<string, number>();
  for (const item of reservations.items("generic_resources")) {
    const discrete = reservations.within(item).section("discrete_resource_spec");
    const kind = discrete.text("kind")?.value.toLowerCase();
    const value = discrete.integer("value")?.value;
    if (kind === undefined || value === undefined)
      reservations.wrong(item, "a generic resource needs kind: and value:", "write discrete_resource_spec: {kind: gpu, value: 1}");
    else counts.set(kind, (counts.get(kind) ?? 0) + value);
  }
  return Object.fromEntries(counts);
}

function quotaMillis(service: Section): number | undefined {
  const quota = service.number("cpu_quota")?.value;
  if (quota === undefined || quota <= 0) return undefined;
  const period = service.number("cpu_period")?.value ?? CPU_PERIOD_US;
  return Math.max(1, Math.round((quota * 1000) / (period > 0 ? period : CPU_PERIOD_US)));
}

function agreed(service: Section, deploy: Found<number> | undefined, plain: Found<number> | undefined): number | undefined {
  if (deploy !== undefined && plain !== undefined && deploy.value !== plain.value) {
    service.wrong(plain, `${plain.path} and ${deploy.path} say different things`, "keep one of the two");
  }
  return (deploy ?? plain)?.value;
}
