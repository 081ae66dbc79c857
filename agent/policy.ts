/**
 * What the owner of this machine allows, whatever a control plane asks for: `policy.json` in the data directory. It is
 * read at start and when it changes, and nothing that comes over the network can change it. Absent keys have the
 * defaults below. While the file cannot be read, as in the middle of a save, the last good one holds for what has a
 * container, and no new container is made.
 *
 * Pure, but for the mounts that need the file system: see `binds.ts`.
 */
import { z } from "zod";
import type { ReplicaSpec } from "../shared/model/app.ts";
import { registryOf } from "../shared/model/image.ts";
import { Labels, Name } from "../shared/model/name.ts";
import type { Refusal } from "../shared/converge/world.ts";
import type { AssignmentRef } from "../shared/wire/poll.ts";
import { LABEL_PREFIX } from "./engine/labels.ts";
import { judgeLogOptions, LOG_DRIVERS } from "./log-options.ts";

export const POLICY_FILE = "policy.json";
/** What the engine grants by itself, and two that databases want; none of them reaches outside the container. */
const CAPABILITIES_DEFAULT = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "IPC_LOCK",
  "KILL",
  "MKNOD",
  "NET_BIND_SERVICE",
  "NET_RAW",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
  "SYS_NICE",
];
const Path = z.string().regex(/^\/(?!.*(?:^|\/)\.\.(?:\/|$))/, "an absolute path with no '..'");

const CountedDevice = z.strictObject({
  count: z.number().int().min(1).max(1024),
  /** Device files, one for each of `count`; absent: the engine's driver gives them out by index. */
  paths: z.array(Path).max(1024).optional(),
  driver: z.string().max(64).default("nvidia"),
  capabilities: z.array(z.string().max(64)).max(16).default(["gpu"]),
});

export const Policy = z.strictObject({
  /** Registries that images may come from, as in `registry.example.com:5000`; `*` is any, `local` an image that only this node has. */
  allowedRegistries: z.array(z.string().max(253)).default(["*"]),
  /** Directories below which host paths may be mounted. */
  bindRoots: z.array(Path).default(["/srv", "/mnt", "/media"]),
  /** Files and directories that may be mounted read-only besides. */
  bindReadOnly: z.array(Path).default(["/etc/localtime", "/etc/timezone"]),
  /** Capabilities that a workload may add; `ALL` is any. */
  capabilities: z.array(z.string().max(40)).default(CAPABILITIES_DEFAULT),
  privileged: z.boolean().default(false),
  /** Security options that a workload may set though they change its confinement, as in `apparmor=docker-nginx`. */
  securityOptions: z.array(z.string().max(256)).default([]),
  /** Runtimes of the engine that a workload may name; without naming one it has the engine's default. */
  runtimes: z.array(z.string().max(64)).default([]),
  hostNetwork: z.boolean().default(false),
  /** The host's IPC, PID, UTS and cgroup namespaces. */
  hostNamespaces: z.boolean().default(false),
  /** Device files that a workload may name. */
  devicePaths: z.array(Path).default([]),
  /** Counted devices of this node by kind, which workloads reserve: `{ "gpu": { "count": 2 } }`. */
  devices: z.record(Name, CountedDevice).default({}),
  /** What this node says of itself: `node.declared.KEY` in constraints. What operators say is `node.labels.KEY`. */
  labels: Labels.default({}),
  /** Of this machine's processors and memory, what berth may fill; absent: all. */
  cpuMillisMax: z.number().int().min(1).optional(),
  memoryMiBMax: z.number().int().min(1).optional(),
  /** Where containers may log to. The engine dials what options of `syslog`, `fluentd` and `gelf` name, as root. */
  logDrivers: z.array(z.enum(LOG_DRIVERS)).default(["json-file", "local", "journald", "none"]),
  /** What the log files of one container may hold together. */
  logMiBMax: z.number().int().min(1).default(1024),
  /** Whether logs of containers may be read through the control plane. */
  logs: z.boolean().default(true),
});
export type Policy = z.infer<typeof Policy>;
export const POLICY_DEFAULT: Policy = Policy.parse({});
/** When no good file was ever read: the owner wanted something, and guessing what is not for us. */
const POLICY_NOTHING: Policy = {
  ...POLICY_DEFAULT,
  allowedRegistries: [],
  bindRoots: [],
  bindReadOnly: [],
  capabilities: [],
  logDrivers: [],
  logs: false,
};

export interface ReadPolicy {
  readonly policy: Policy;
  /** Why the file cannot be read, and `policy` is an earlier one; null: all is well. */
  readonly problem: string | null;
}

/** Null: there is no file. */
export function readPolicy(text: string | null, lastGood: Policy | null): ReadPolicy {
  if (text === null) return { policy: POLICY_DEFAULT, problem: null };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return unreadable(`${POLICY_FILE} is not JSON (${error instanceof Error ? error.message : String(error)})`, lastGood);
  }
  const parsed = Policy.safeParse(value);
  if (parsed.success) return { policy: parsed.data, problem: null };
  const issue = parsed.error.issues[0];
  return unreadable(`${POLICY_FILE}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "malformed"}`, lastGood);
}

export const unreadable = (problem: string, lastGood: Policy | null): ReadPolicy => ({
  policy: lastGood ?? POLICY_NOTHING,
  problem: `${problem}; what runs goes on, and nothing new is run until it is mended`,
});

/** The first thing that a good policy forbids of a replica, as a sentence that names the key; null: nothing. */
export function judgeByPolicy(input: {
  readonly ref: AssignmentRef;
  readonly spec: ReplicaSpec;
  readonly policy: Policy;
  readonly file: string;
}): Refusal | null {
  for (const rule of RULES) {
    const sentence = rule(input.spec, input.policy, input.ref);
    if (sentence !== null) return { reason: "policy", message: `${sentence} in ${input.file} on this node` };
  }
  return null;
}

/** Each gives "what is wanted; what to write", or null. */
const RULES: readonly ((spec: ReplicaSpec, policy: Policy, ref: AssignmentRef) => string | null)[] = [
  function registry(_spec, { allowedRegistries }, { image }) {
    const source = image.imageId === null ? (registryOf(image.reference) ?? "local") : "local";
    if (allowedRegistries.includes("*") || allowedRegistries.includes(source)) return null;
    return `images may not come from ${source}: add it to "allowedRegistries"`;
  },
  function privileged({ workload }, policy) {
    return !workload.privileged || policy.privileged ? null : `privileged containers are not allowed: set "privileged": true`;
  },
  function confinement({ workload }, policy) {
    if (policy.privileged) return null;
    const named = new Set(policy.securityOptions.map(normalOption));
    const open = workload.securityOpt.find((option) => !HARMLESS_OPTION.test(normalOption(option)) && !named.has(normalOption(option)));
    return open === undefined
      ? null
      : `security option "${open}" changes the container's confinement: add it to "securityOptions", or set "privileged": true`;
  },
  function runtime({ workload }, policy) {
    if (workload.runtime === undefined || policy.runtimes.includes(workload.runtime)) return null;
    return `runtime ${workload.runtime} is not allowed: add it to "runtimes"`;
  },
  function logs({ workload: { logging } }, { logDrivers, logMiBMax }) {
    if (logging === undefined) return null;
    if (!logDrivers.includes(logging.driver)) return `logs may not go to the driver ${logging.driver}: add it to "logDrivers"`;
    const problem = judgeLogOptions(logging.driver, logging.options, logMiBMax);
    if (problem === null) return null;
    return problem.kind === "size"
      ? `a log may hold ${problem.mib} MiB and ${logMiBMax} are allowed: raise "logMiBMax"`
      : `option ${problem.name} of the log driver ${logging.driver} has a value, or a name, that nothing can allow, not even a key`;
  },
  function capabilities({ workload }, policy) {
    if (policy.capabilities.includes("ALL")) return null;
    const allowed = new Set(policy.capabilities.map(bareCapability));
    const extra = workload.capAdd.find((capability) => !allowed.has(bareCapability(capability)));
    return extra === undefined ? null : `capability ${extra} is not allowed: add it to "capabilities"`;
  },
  function hostNetwork({ workload }, policy) {
    return workload.networkMode !== "host" || policy.hostNetwork ? null : `the host's network is not allowed: set "hostNetwork": true`;
  },
  function hostNamespaces({ workload }, policy) {
    if (policy.hostNamespaces) return null;
    for (const name of ["ipc", "pid", "uts", "cgroupns"] as const) {
      if (workload[name] === "host") return `the host's ${name} namespace is not allowed: set "hostNamespaces": true`;
    }
    return null;
  },
  function devices({ workload }, policy) {
    const extra = workload.devices.find(({ source }) => !policy.devicePaths.includes(source));
    return extra === undefined ? null : `device ${extra.source} is not allowed: add it to "devicePaths"`;
  },
  function countedDevices({ reservation }, policy) {
    for (const [kind, count] of Object.entries(reservation.devices)) {
      const declared = policy.devices[kind]?.count ?? 0;
      if (declared < count) return `${count} of device "${kind}" are reserved and ${declared} declared: declare them under "devices"`;
    }
    return null;
  },
  function ceilings({ reservation }, { cpuMillisMax, memoryMiBMax }) {
    if (cpuMillisMax !== undefined && reservation.cpuMillis > cpuMillisMax)
      return `${reservation.cpuMillis} millicores are reserved and ${cpuMillisMax} allowed: raise "cpuMillisMax"`;
    if (memoryMiBMax !== undefined && reservation.memoryMiB > memoryMiBMax)
      return `${reservation.memoryMiB} MiB are reserved and ${memoryMiBMax} allowed: raise "memoryMiBMax"`;
    return null;
  },
  function oomScore({ workload }, policy) {
    // Below 0 the kernel would rather end something of the host's own; unkillable ones could take the host down.
    const isHarsh = (workload.oomScoreAdj ?? 0) < 0 || workload.oomKillDisable === true;
    return !isHarsh || policy.privileged
      ? null
      : `protection from the kernel's out-of-memory killer is not allowed: set "privileged": true`;
  },
  function reservedLabels({ workload, volumes }) {
    const keys = [workload.labels, ...Object.values(volumes).map(({ labels = {} }) => labels)].flatMap(Object.keys);
    const reserved = keys.find((key) => key.startsWith(LABEL_PREFIX));
    return reserved === undefined
      ? null
      : `label ${reserved} begins with the reserved ${LABEL_PREFIX}, which nothing can allow, not even a key`;
  },
  function bindPaths({ workload }, policy) {
    for (const mount of workload.mounts) {
      if (mount.kind !== "bind" || isBindAllowed(mount, policy)) continue;
      return `${mount.source} is in none of the directories that may be mounted (${policy.bindRoots.join(", ") || "there are none"}): add one to "bindRoots"`;
    }
    return null;
  },
];

/**
 * Options that only take from the container, the engine's own AppArmor profile, and the categories that set one container
 * apart from others, as the baseline of Kubernetes' Pod Security Standards leaves them free. A type, role or user of SELinux
 * (`spc_t`) and a profile of another program can be no confinement at all.
 */
const HARMLESS_OPTION = /^(?:no-new-privileges(?:=true)?|label=level:[^\s]+|apparmor=docker-default)$/;
/** The engine takes `:` for `=`. */
const normalOption = (option: string): string => option.replace(/^([a-z-]+):/, "$1=");
const bareCapability = (name: string): string => name.replace(/^CAP_/, "");
const normalize = (path: string): string =>
  `/${path
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .join("/")}`;
const isWithin = (path: string, root: string): boolean => root === "/" || path === root || path.startsWith(`${root}/`);

/** By the path's text; `binds.ts` looks at what is really there. */
export function isBindAllowed(mount: { readonly source: string; readonly readOnly: boolean }, policy: Policy): boolean {
  const source = normalize(mount.source);
  if (policy.bindRoots.some((root) => isWithin(source, normalize(root)))) return true;
  return mount.readOnly && policy.bindReadOnly.some((path) => source === normalize(path));
}

/** The root that allows a source: nothing below it may be a symbolic link. Null: it is allowed by name alone. */
export function bindRootOf(source: string, policy: Policy): string | null {
  const path = normalize(source);
  const roots = policy.bindRoots.map(normalize).filter((root) => isWithin(path, root));
  // The longest: what lies above the owner's own words is the owner's.
  return roots.sort((a, b) => b.length - a.length)[0] ?? null;
}
