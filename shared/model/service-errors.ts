/**
 * What a service's fields say together or mean to the engine, beyond the form of each: contradictions that no engine would
 * carry out, and words that it does not know. Part of the app's schema, so that every intake refuses the same; not of the
 * workload's, which agents parse too and which old revisions must go on passing.
 */
import { z } from "zod";
import { counted } from "../text/counted.ts";
import type { Constraint, Mount, PortSpec, ServiceSpec, Workload } from "./app.ts";
import { addressesOverlap } from "./host-port.ts";

export interface ServiceError {
  /** From the service on. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly mend: string;
}

/** All of them, in a fixed order. */
export function serviceErrors(service: ServiceSpec): ServiceError[] {
  const { workload } = service;
  const ofWorkload = [
    ...wordErrors(workload),
    ...healthcheckErrors(workload),
    ...networkErrors(workload),
    ...mountErrors(workload.mounts),
    ...portErrors(workload.ports),
    ...limitErrors(workload),
  ].map(({ path, ...rest }) => ({ path: ["workload", ...path], ...rest }));
  return [
    ...modeErrors(service),
    ...updateErrors(service),
    ...service.placement.constraints.flatMap(constraintErrors),
    ...reservationErrors(service),
    ...ofWorkload,
  ];
}

function modeErrors({ mode, replicas, placement }: ServiceSpec): ServiceError[] {
  if (mode !== "global") return [];
  const errors: ServiceError[] = [];
  const because = "a global service has one replica on every matching node";
  if (replicas !== 1)
    errors.push({ path: ["replicas"], message: `${because}, so it takes no number`, mend: "remove replicas, or make it replicated" });
  if (placement.maxPerNode !== undefined)
    errors.push({ path: ["placement", "maxPerNode"], message: `${because}, so it takes no most a node`, mend: "remove it" });
  if (placement.spreadBy.length > 0)
    errors.push({ path: ["placement", "spreadBy"], message: `${because}, so there is nothing to spread`, mend: "remove it" });
  return errors;
}

/** Policies by which nothing could ever change over, or not as they say. */
function updateErrors({ mode, replicas, update, workload }: ServiceSpec): ServiceError[] {
  const { order, maxSurge, maxUnavailable, canaries } = update;
  const errors: ServiceError[] = [];
  const wrong = (key: keyof typeof update, message: string, mend: string) => errors.push({ path: ["update", key], message, mend });
  const isWritten = workload.mounts.some((mount) => mount.kind === "volume" && !mount.readOnly);
  const stops = isWritten ? "two must not write its volume at once" : order === "stop-first" ? "its order is stop-first" : null;
  if (maxSurge === 0 && maxUnavailable === 0)
    wrong(
      "maxSurge",
      "no replica may run beside another and none may be missing, so nothing could ever change over",
      "raise one of the two",
    );
  else if (order === "start-first" && maxSurge === 0)
    wrong("maxSurge", "the order is start-first and no replica may run beside another", "raise maxSurge, or write stop-first");
  else if (stops !== null && maxUnavailable === 0)
    wrong("maxUnavailable", `no replica may be missing, but the old one stops first: ${stops}`, "raise maxUnavailable to 1 or more");
  if (canaries === 0) return errors;
  if (mode === "replicated" && canaries > replicas)
    wrong(
      "canaries",
      `${canaries} canaries of ${replicas} replicas`,
      `write at most ${replicas}: as many as there are replicas is blue/green`,
    );
  const port = workload.ports.find(({ published }) => published !== undefined);
  if (stops !== null) wrong("canaries", `a canary runs beside the old replica, but ${stops}`, "remove canaries");
  else if (maxSurge === 0)
    wrong("canaries", "a canary runs beside the old replica, but maxSurge is 0", "raise maxSurge, or remove canaries");
  else if (port !== undefined && mode === "global")
    wrong(
      "canaries",
      `a canary runs on the node of the old replica, where host port ${port.published}/${port.protocol} is taken`,
      "leave out the published port so that the engine chooses one, or remove canaries",
    );
  return errors;
}

const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)$/;
type ValueRule = { readonly fits: (values: readonly string[]) => boolean; readonly says: string };
const one: ValueRule = { fits: (values) => values.length === 1, says: "takes one value" };
const some: ValueRule = { fits: (values) => values.length > 0, says: "takes at least one value" };
const none: ValueRule = { fits: (values) => values.length === 0, says: "takes no value" };
const number: ValueRule = { fits: (values) => values.length === 1 && DECIMAL.test(values[0]!.trim()), says: "takes one decimal number" };
const VALUES: Readonly<Record<Constraint["operator"], ValueRule>> = {
  "=": one,
  "!=": one,
  in: some,
  notIn: some,
  exists: none,
  notExists: none,
  "<": number,
  ">": number,
};

function constraintErrors({ key, operator, values }: Constraint): ServiceError[] {
  const { fits, says } = VALUES[operator];
  if (fits(values)) return [];
  return [
    {
      path: ["placement", "constraints"],
      message: `the constraint on ${key}: ${operator} ${says}, not ${values.length === 0 ? "none" : listed(values)}`,
      mend: operator === "=" || operator === "!=" ? "name one value, or use in or notIn" : `write what ${operator} takes`,
    },
  ];
}

const MIB = 1024 * 1024;
/** What is set aside where nothing is said: nobody asked for it, so a smaller limit is no contradiction. */
const UNASKED_MIB = 64;

function reservationErrors({ reservation: { memoryMiB }, workload: { limits } }: ServiceSpec): ServiceError[] {
  const { memoryBytes, memoryReservationBytes = 0 } = limits;
  // Told of by limitErrors, where both come from one key of a Compose file.
  if (memoryBytes === undefined || memoryReservationBytes > memoryBytes) return [];
  if (memoryMiB === UNASKED_MIB || memoryMiB <= Math.ceil(memoryBytes / MIB)) return [];
  return [
    {
      path: ["workload", "limits", "memoryBytes"],
      message: `the limit of ${Math.floor(memoryBytes / MIB)} MiB of memory is below the ${memoryMiB} MiB that are reserved`,
      mend: "raise the limit, or reserve less",
    },
  ];
}

const CAPABILITIES: ReadonlySet<string> = new Set(
  `ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID
  IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON
  SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE
  SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`.split(/\s+/),
);
const SIGNALS: ReadonlySet<string> = new Set(
  `ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG
  USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX`.split(/\s+/),
);
const SIGNAL_MAX = 64;
/** signal(7): RTMIN is 34 in every C library that containers use. */
const REAL_TIME = /^RTM(?:IN\+(?:[1-9]|1[0-5])|AX-(?:[1-9]|1[0-4]))$/;
const SECURITY_OPTION =
  /^(?:no-new-privileges(?:[:=](?:true|false))?|apparmor[:=][^\s]+|label[:=][^\s]+|seccomp[:=](?:unconfined|builtin)|systempaths[:=]unconfined)$/;

function isSignal(text: string): boolean {
  if (/^\d+$/.test(text)) return Number(text) >= 1 && Number(text) <= SIGNAL_MAX;
  const name = text.replace(/^SIG/, "");
  return SIGNALS.has(name) || REAL_TIME.test(name);
}

/** Words with a meaning of their own, which a pattern alone does not know. */
function wordErrors(workload: Workload): ServiceError[] {
  const errors: ServiceError[] = [];
  const { stopSignal } = workload;
  if (stopSignal !== undefined && !isSignal(stopSignal))
    errors.push({
      path: ["stopSignal"],
      message: `${stopSignal} is no signal of Linux`,
      mend: `write a name like SIGTERM, or 1 to ${SIGNAL_MAX}`,
    });
  for (const key of ["capAdd", "capDrop"] as const)
    for (const capability of workload[key].filter((word) => !CAPABILITIES.has(word.replace(/^CAP_/, ""))))
      errors.push({ path: [key], message: `${capability} is no capability of Linux`, mend: "write one like NET_ADMIN, or ALL" });
  for (const option of workload.securityOpt.filter((word) => !SECURITY_OPTION.test(word)))
    errors.push({
      path: ["securityOpt"],
      message: `"${option}" is no security option`,
      mend: "write no-new-privileges, apparmor=PROFILE, label=…, seccomp=unconfined or systempaths=unconfined",
    });
  for (const entry of workload.extraHosts) {
    const address = entry.slice(entry.indexOf(":") + 1);
    if (address !== "host-gateway" && !Address.safeParse(address).success)
      errors.push({
        path: ["extraHosts"],
        message: `"${address}" in ${entry} is no IP address`,
        mend: "write HOST:ADDRESS, or HOST:host-gateway",
      });
  }
  for (const { source, permissions } of workload.devices)
    if (new Set(permissions).size !== permissions.length)
      errors.push({
        path: ["devices"],
        message: `"${permissions}" of device ${source} says a letter twice`,
        mend: "write some of r, w and m",
      });
  const { condition, attemptsMax } = workload.restart;
  if (condition === "no" && attemptsMax !== undefined)
    errors.push({
      path: ["restart", "attemptsMax"],
      message: `it is never restarted, and yet at most ${counted(attemptsMax, "time")}`,
      mend: "remove the number, or make the condition on-failure",
    });
  return errors;
}

const Address = z.union([z.ipv4(), z.ipv6()]);

function healthcheckErrors({ healthcheck }: Workload): ServiceError[] {
  if (healthcheck === undefined) return [];
  const [first, ...rest] = healthcheck.test;
  const isRight =
    first === undefined ||
    (first === "NONE" && rest.length === 0) ||
    (first === "CMD" && rest.length > 0) ||
    (first === "CMD-SHELL" && rest.length === 1);
  if (isRight) return [];
  return [
    {
      path: ["healthcheck", "test"],
      message: `a check is ["CMD", words of a command], ["CMD-SHELL", one line] or ["NONE"], not ${first} and ${rest.length} more`,
      mend: 'write ["CMD", "curl", "-f", "http://localhost"] or the like',
    },
  ];
}

function networkErrors({ networkMode, ports, aliases, hostname, uts }: Workload): ServiceError[] {
  const errors: ServiceError[] = [];
  if (networkMode !== "app" && ports.length > 0)
    errors.push({
      path: ["ports"],
      message: `with the network mode ${networkMode} no ports can be published`,
      mend: networkMode === "host" ? "remove the ports; the container's ports are the node's" : "remove the ports or the network mode",
    });
  if (networkMode !== "app" && aliases.length > 0)
    errors.push({
      path: ["aliases"],
      message: `with the network mode ${networkMode} it has no names in the app`,
      mend: "remove the aliases or the network mode",
    });
  if (uts === "host" && hostname !== undefined)
    errors.push({
      path: ["hostname"],
      message: "it shares the node's host name and cannot have one of its own",
      mend: "remove one of the two",
    });
  return errors;
}

/** `/data/` and `/data//` are `/data`. */
const placeOf = (target: string): string =>
  `/${target
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .join("/")}`;

function mountErrors(mounts: readonly Mount[]): ServiceError[] {
  const seen = new Set<string>();
  const errors: ServiceError[] = [];
  for (const { target } of mounts) {
    const place = placeOf(target);
    if (seen.has(place)) errors.push({ path: ["mounts"], message: `two mounts have the place ${place}`, mend: "keep one of them" });
    seen.add(place);
  }
  return errors;
}

function portErrors(ports: readonly PortSpec[]): ServiceError[] {
  const taken = new Map<string, PortSpec[]>();
  const errors: ServiceError[] = [];
  for (const port of ports) {
    if (port.published === undefined) continue;
    const key = `${port.published}/${port.protocol}`;
    const others = taken.get(key) ?? [];
    taken.set(key, [...others, port]);
    const clash = others.find(({ hostIp = "" }) => addressesOverlap(hostIp, port.hostIp ?? ""));
    if (clash !== undefined)
      errors.push({
        path: ["ports"],
        message: `host port ${key} is published twice, for ${clash.target} and for ${port.target}`,
        mend: "publish another port, or bind each to its own host address",
      });
  }
  return errors;
}

function limitErrors({ limits, ulimits }: Workload): ServiceError[] {
  const { memoryBytes, memorySwapBytes, memoryReservationBytes, pids } = limits;
  const errors: ServiceError[] = [];
  if (memoryBytes !== undefined && memoryReservationBytes !== undefined && memoryReservationBytes > memoryBytes)
    errors.push({
      path: ["limits", "memoryReservationBytes"],
      message: `${memoryReservationBytes} bytes of memory are reserved, more than the limit of ${memoryBytes}`,
      mend: "raise the limit, or reserve less",
    });
  if (memorySwapBytes !== undefined && memorySwapBytes !== -1 && (memoryBytes === undefined || memorySwapBytes < memoryBytes))
    errors.push({
      path: ["limits", "memorySwapBytes"],
      message:
        memoryBytes === undefined
          ? "a limit of memory and swap needs one of memory"
          : `the limit of memory and swap together (${memorySwapBytes}) is below that of memory (${memoryBytes})`,
      mend: "set the memory limit, and for both together at least as much, or -1 for no limit",
    });
  if (pids === 0)
    errors.push({ path: ["limits", "pids"], message: "with 0 processes nothing runs", mend: "write -1 for no limit, or 1 and more" });
  for (const [name, { soft, hard }] of Object.entries(ulimits))
    if (hard !== -1 && (soft === -1 || soft > hard))
      errors.push({
        path: ["ulimits", name],
        message: `the soft limit ${soft === -1 ? "without end" : soft} of ${name} is over the hard limit ${hard}`,
        mend: "lower the soft limit, or raise the hard one",
      });
  return errors;
}

/** The first few: a hostile list may be long. */
const listed = (values: readonly string[]): string => `${values.slice(0, 3).join(", ")}${values.length > 3 ? ", …" : ""}`;
