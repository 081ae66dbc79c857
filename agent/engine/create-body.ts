/**
 * The body of the engine's create call, built from a typed allow-list: a key that is not in `CreateBody` cannot reach
 * the engine, whatever a manifest says. Pure.
 *
 * The engine's restart policy is always `no`: the agent is the only restarter, so that nothing starts before it may.
 */
import type { Healthcheck, Mount, PortSpec, ReplicaSpec, Workload } from "../../shared/model/app.ts";
import { networkName } from "../../shared/converge/names.ts";
import { JSON_FILE_DEFAULT, jsonFileOptions } from "../log-options.ts";

const NS_PER_MS = 1_000_000;
const NANO_CPUS_PER_MILLI = 1_000_000;
/** From here on the engine knows a health check's start interval. */
const API_START_INTERVAL = 44;

export interface MountBody {
  Type: "volume" | "bind" | "tmpfs";
  Target: string;
  Source?: string;
  ReadOnly?: boolean;
  VolumeOptions?: { NoCopy: boolean };
  BindOptions?: { Propagation: string };
  TmpfsOptions?: { SizeBytes?: number; Mode?: number };
}

export interface DeviceRequestBody {
  Driver: string;
  DeviceIDs: readonly string[];
  Capabilities: readonly (readonly string[])[];
}

export interface HostConfigBody {
  RestartPolicy: { Name: "no" };
  AutoRemove: false;
  NetworkMode: string;
  PortBindings: Record<string, { HostIp: string; HostPort: string }[]>;
  Mounts: readonly MountBody[];
  Privileged: boolean;
  ReadonlyRootfs: boolean;
  Init: boolean;
  CapAdd: readonly string[];
  CapDrop: readonly string[];
  SecurityOpt: readonly string[];
  MaskedPaths?: readonly string[];
  ReadonlyPaths?: readonly string[];
  Sysctls: Record<string, string>;
  Ulimits: readonly { Name: string; Soft: number; Hard: number }[];
  Devices: readonly { PathOnHost: string; PathInContainer: string; CgroupPermissions: string }[];
  DeviceRequests: readonly DeviceRequestBody[];
  GroupAdd: readonly string[];
  ExtraHosts: readonly string[];
  Dns: readonly string[];
  DnsSearch: readonly string[];
  DnsOptions: readonly string[];
  IpcMode?: string;
  PidMode?: string;
  UTSMode?: string;
  CgroupnsMode?: string;
  Runtime?: string;
  ShmSize?: number;
  OomScoreAdj?: number;
  OomKillDisable?: boolean;
  NanoCpus?: number;
  CpuShares?: number;
  CpusetCpus?: string;
  Memory?: number;
  MemorySwap?: number;
  MemorySwappiness?: number;
  MemoryReservation?: number;
  PidsLimit?: number;
  LogConfig?: { Type: string; Config: Record<string, string> };
}

export interface CreateBody {
  Image: string;
  Hostname?: string;
  Domainname?: string;
  User?: string;
  WorkingDir?: string;
  Entrypoint?: readonly string[];
  Cmd?: readonly string[];
  Env: readonly string[];
  Labels: Record<string, string>;
  Tty: boolean;
  OpenStdin: boolean;
  ExposedPorts: Record<string, Record<string, never>>;
  StopSignal?: string;
  StopTimeout: number;
  Healthcheck?: {
    Test: readonly string[];
    Interval?: number;
    Timeout?: number;
    StartPeriod?: number;
    StartInterval?: number;
    Retries?: number;
  };
  HostConfig: HostConfigBody;
  NetworkingConfig?: { EndpointsConfig: Record<string, { Aliases: readonly string[] }> };
}

export interface CreateInput {
  readonly spec: ReplicaSpec;
  /** What exactly to run: `repository@sha256:…` or an image id. */
  readonly image: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Variables that tell a container which replica it is; the workload's own win. */
  readonly place: Readonly<Record<string, string>>;
  /** Files on this node that hold the configs: config mount target → absolute path. */
  readonly configFiles: ReadonlyMap<string, string>;
  readonly deviceRequests: readonly DeviceRequestBody[];
  /** Device files of counted devices that this replica holds. */
  readonly devicePaths: readonly string[];
  readonly engine: { readonly apiVersion: string; readonly logDriver: string };
}

/** `{ key: value }`, or nothing when there is no value: the engine tells an absent key from a zero. */
const maybe = <Key extends string, Value>(key: Key, value: Value | undefined): { [K in Key]?: Value } =>
  value === undefined ? {} : ({ [key]: value } as { [K in Key]?: Value });

export function createBody(input: CreateInput): CreateBody {
  const { spec, image } = input;
  const w = spec.workload;
  const network = w.networkMode === "app" ? networkName(spec.namespace, spec.app) : w.networkMode;
  const hasOwnNetwork = w.networkMode === "app";
  return {
    Image: image,
    ...maybe("Hostname", w.hostname),
    ...maybe("Domainname", w.domainname),
    ...maybe("User", w.user),
    ...maybe("WorkingDir", w.workingDir),
    ...maybe("Entrypoint", w.entrypoint),
    ...maybe("Cmd", w.command),
    Env: Object.entries({ ...input.place, ...w.env }).map(([name, value]) => `${name}=${value}`),
    Labels: { ...w.labels, ...input.labels },
    Tty: w.tty,
    OpenStdin: w.stdinOpen,
    ExposedPorts: Object.fromEntries(w.ports.map((port) => [portKey(port), {}])),
    ...maybe("StopSignal", w.stopSignal),
    // Whole seconds, rounded up: the engine uses it when it shuts down itself.
    StopTimeout: Math.ceil(w.stopGraceMs / 1000),
    ...maybe("Healthcheck", w.healthcheck === undefined ? undefined : healthcheckBody(w.healthcheck, input.engine.apiVersion)),
    HostConfig: hostConfig(input, network),
    ...maybe(
      "NetworkingConfig",
      hasOwnNetwork ? { EndpointsConfig: { [network]: { Aliases: [...new Set([spec.service, ...w.aliases])] } } } : undefined,
    ),
  };
}

function hostConfig(input: CreateInput, network: string): HostConfigBody {
  const w = input.spec.workload;
  const { limits } = w;
  const hasOpenSystemPaths = w.securityOpt.some(isSystemPathsOption);
  return {
    RestartPolicy: { Name: "no" },
    AutoRemove: false,
    NetworkMode: network,
    PortBindings: w.networkMode === "host" ? {} : portBindings(w.ports),
    Mounts: w.mounts.map((mount) => mountBody(mount, input)),
    Privileged: w.privileged,
    ReadonlyRootfs: w.readOnly,
    Init: w.init,
    CapAdd: w.capAdd,
    CapDrop: w.capDrop,
    SecurityOpt: w.securityOpt.filter((option) => !isSystemPathsOption(option)).map((option) => option.replace(/^([a-z-]+):/, "$1=")),
    ...maybe("MaskedPaths", hasOpenSystemPaths ? [] : undefined),
    ...maybe("ReadonlyPaths", hasOpenSystemPaths ? [] : undefined),
    Sysctls: w.sysctls,
    Ulimits: Object.entries(w.ulimits).map(([Name, { soft, hard }]) => ({ Name, Soft: soft, Hard: hard })),
    Devices: [
      ...w.devices.map(({ source, target, permissions }) => ({
        PathOnHost: source,
        PathInContainer: target,
        CgroupPermissions: permissions,
      })),
      ...input.devicePaths.map((path) => ({ PathOnHost: path, PathInContainer: path, CgroupPermissions: "rwm" })),
    ],
    DeviceRequests: input.deviceRequests,
    GroupAdd: w.groupAdd,
    ExtraHosts: w.extraHosts,
    Dns: w.dns,
    DnsSearch: w.dnsSearch,
    DnsOptions: w.dnsOptions,
    ...maybe("IpcMode", w.ipc),
    ...maybe("PidMode", w.pid),
    ...maybe("UTSMode", w.uts),
    ...maybe("CgroupnsMode", w.cgroupns),
    ...maybe("Runtime", w.runtime),
    ...maybe("ShmSize", w.shmBytes),
    ...maybe("OomScoreAdj", w.oomScoreAdj),
    ...maybe("OomKillDisable", w.oomKillDisable),
    ...maybe("NanoCpus", limits.cpuMillis === undefined ? undefined : limits.cpuMillis * NANO_CPUS_PER_MILLI),
    ...maybe("CpuShares", limits.cpuShares),
    ...maybe("CpusetCpus", limits.cpuset),
    ...maybe("Memory", limits.memoryBytes),
    ...maybe("MemorySwap", limits.memorySwapBytes),
    ...maybe("MemorySwappiness", limits.memorySwappiness),
    ...maybe("MemoryReservation", limits.memoryReservationBytes),
    ...maybe("PidsLimit", limits.pids),
    ...maybe("LogConfig", logConfig(w, input.engine.logDriver)),
  };
}

/** What Docker's own CLI turns `systempaths=unconfined` into: the engine does not know the word. */
export const isSystemPathsOption = (option: string): boolean => /^systempaths[=:]unconfined$/.test(option);

/** A log fills no disk: `json-file` gets a bound, also where the engine would take it unasked. */
function logConfig({ logging }: Workload, engineDriver: string): HostConfigBody["LogConfig"] {
  if (logging === undefined) return engineDriver === "json-file" ? { Type: engineDriver, Config: { ...JSON_FILE_DEFAULT } } : undefined;
  const { driver, options } = logging;
  return { Type: driver, Config: driver === "json-file" ? jsonFileOptions(options) : options };
}

const portKey = (port: PortSpec): string => `${port.target}/${port.protocol}`;

function portBindings(ports: Workload["ports"]): HostConfigBody["PortBindings"] {
  const bindings: HostConfigBody["PortBindings"] = {};
  for (const port of ports) {
    const key = portKey(port);
    bindings[key] = [
      ...(bindings[key] ?? []),
      { HostIp: port.hostIp ?? "", HostPort: port.published === undefined ? "" : String(port.published) },
    ];
  }
  return bindings;
}

function mountBody(mount: Mount, input: CreateInput): MountBody {
  switch (mount.kind) {
    case "volume": {
      const volume = input.spec.volumes[mount.volume];
      if (volume === undefined) throw new Error(`the spec names no engine volume for ${mount.volume}`);
      return {
        Type: "volume",
        Source: volume.engineName,
        Target: mount.target,
        ReadOnly: mount.readOnly,
        VolumeOptions: { NoCopy: mount.noCopy },
      };
    }
    case "bind":
      return {
        Type: "bind",
        Source: mount.source,
        Target: mount.target,
        ReadOnly: mount.readOnly,
        BindOptions: { Propagation: mount.propagation },
      };
    case "tmpfs":
      return {
        Type: "tmpfs",
        Target: mount.target,
        TmpfsOptions: { ...maybe("SizeBytes", mount.sizeBytes), ...maybe("Mode", mount.mode) },
      };
    case "config": {
      const file = input.configFiles.get(mount.target);
      if (file === undefined) throw new Error(`config ${mount.config} for ${mount.target} was not written`);
      return { Type: "bind", Source: file, Target: mount.target, ReadOnly: true, BindOptions: { Propagation: "rprivate" } };
    }
  }
}

function healthcheckBody(check: Healthcheck, apiVersion: string): NonNullable<CreateBody["Healthcheck"]> {
  const kind = check.test[0];
  if (kind === "NONE") return { Test: ["NONE"] };
  const minor = Number(apiVersion.split(".")[1] ?? 0);
  const nanoseconds = (ms: number | undefined) => (ms === undefined ? undefined : ms * NS_PER_MS);
  return {
    // Of what is empty or left out the engine takes the image's own.
    Test: check.test,
    ...maybe("Interval", nanoseconds(check.intervalMs)),
    ...maybe("Timeout", nanoseconds(check.timeoutMs)),
    ...maybe("StartPeriod", nanoseconds(check.startPeriodMs)),
    // An older engine has no such thing and probes at `Interval` during the start period too.
    ...maybe("StartInterval", minor >= API_START_INTERVAL ? nanoseconds(check.startIntervalMs) : undefined),
    ...maybe("Retries", check.retries),
  };
}
