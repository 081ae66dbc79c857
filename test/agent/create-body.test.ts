/** The engine's create body: every field of a spec is carried out, and no key reaches the engine that nobody decided about. */
import { describe, expect, test } from "vitest";
import { type CreateInput, createBody, isSystemPathsOption } from "../../agent/engine/create-body.ts";
import { containerLabels } from "../../agent/engine/labels.ts";
import {
  AppSpec,
  type AppSpecInput,
  DeviceMapping,
  Healthcheck,
  Mount,
  PortSpec,
  ReplicaSpec,
  Reservation,
  RestartPolicy,
  VolumeSpec,
  Workload,
} from "../../shared/model/app.ts";
import { replicaSpec } from "../../shared/model/desire.ts";

type WorkloadInput = AppSpecInput["services"][string]["workload"];

function specOf(workload: Partial<WorkloadInput> = {}): ReplicaSpec {
  const app = AppSpec.parse({
    name: "shop",
    services: { web: { workload: { image: "web:1", ...workload } } },
    volumes: { data: {}, other: {} },
    configs: { conf: { content: "x" }, second: { content: "y" } },
  });
  return replicaSpec("default", app, "web", () => "e".repeat(64));
}

const inputOf = (workload: Partial<WorkloadInput> = {}, changes: Partial<CreateInput> = {}): CreateInput => ({
  spec: specOf(workload),
  image: "web@sha256:1",
  labels: {},
  place: {},
  configFiles: new Map([
    ["/etc/conf", "/data/configs/r/0"],
    ["/etc/other", "/data/configs/r/0"],
  ]),
  deviceRequests: [],
  devicePaths: [],
  engine: { apiVersion: "1.44", logDriver: "json-file" },
  ...changes,
});
/** As a control plane would send it that does not check. */
const withLabel = (key: string, value: string): ReplicaSpec => {
  const spec = specOf();
  return { ...spec, workload: { ...spec.workload, labels: { [key]: value } } };
};
const bodyOf = (workload: Partial<WorkloadInput> = {}, changes: Partial<CreateInput> = {}): unknown =>
  createBody(inputOf(workload, changes));

/** A value for each field that changes what the engine is asked for; or who else carries it out. */
const WORKLOAD: Record<keyof Workload, Partial<WorkloadInput> | string> = {
  image: "images.ts: what is pulled and run",
  pullPolicy: "images.ts: when it is pulled",
  restart: "shared/converge/restart.ts: the engine's own policy stays `no`",
  entrypoint: { entrypoint: ["/x"] },
  command: { command: ["x"] },
  env: { env: { A: "1" } },
  workingDir: { workingDir: "/w" },
  user: { user: "1:2" },
  groupAdd: { groupAdd: ["video"] },
  hostname: { hostname: "h" },
  domainname: { domainname: "d" },
  labels: { labels: { a: "b" } },
  init: { init: true },
  tty: { tty: true },
  stdinOpen: { stdinOpen: true },
  readOnly: { readOnly: true },
  privileged: { privileged: true },
  capAdd: { capAdd: ["NET_ADMIN"] },
  capDrop: { capDrop: ["ALL"] },
  securityOpt: { securityOpt: ["no-new-privileges"] },
  sysctls: { sysctls: { "net.core.somaxconn": "1" } },
  ulimits: { ulimits: { nofile: { soft: 1, hard: 2 } } },
  devices: { devices: [{ source: "/dev/a", target: "/dev/b" }] },
  shmBytes: { shmBytes: 1 },
  oomScoreAdj: { oomScoreAdj: 5 },
  oomKillDisable: { oomKillDisable: true },
  extraHosts: { extraHosts: ["a:1.2.3.4"] },
  dns: { dns: ["1.1.1.1"] },
  dnsSearch: { dnsSearch: ["x.org"] },
  dnsOptions: { dnsOptions: ["ndots:1"] },
  networkMode: { networkMode: "none" },
  aliases: { aliases: ["store"] },
  ipc: { ipc: "host" },
  pid: { pid: "host" },
  uts: { uts: "host" },
  cgroupns: { cgroupns: "host" },
  runtime: { runtime: "nvidia" },
  mounts: { mounts: [{ kind: "tmpfs", target: "/t" }] },
  ports: { ports: [{ target: 80 }] },
  healthcheck: { healthcheck: { test: ["CMD", "true"] } },
  stopSignal: { stopSignal: "SIGINT" },
  stopGraceMs: { stopGraceMs: 20_000 },
  limits: { limits: { pids: 5 } },
  logging: { logging: { driver: "local" } },
};

/** The volume that a service of an app with it mounts, as the spec names it. */
const volumeOf = (volume: NonNullable<AppSpecInput["volumes"]>[string]): unknown => {
  const workload: WorkloadInput = { image: "web:1", mounts: [{ kind: "volume", volume: "data", target: "/d" }] };
  const app = AppSpec.parse({ name: "shop", services: { web: { workload } }, volumes: { data: volume } });
  return replicaSpec("default", app, "web", () => "e".repeat(64)).volumes["data"];
};
const VOLUME: Record<keyof typeof VolumeSpec.shape, NonNullable<AppSpecInput["volumes"]>[string]> = {
  labels: { labels: { team: "a" } },
  externalName: { externalName: "theirs" },
};

describe("every field of a volume reaches the node", () => {
  test("none is left out of the table", () => {
    expect(Object.keys(VOLUME).sort()).toEqual(Object.keys(VolumeSpec.shape).sort());
  });

  test.each(Object.entries(VOLUME))("%s", (_, value) => {
    expect(volumeOf(value)).not.toEqual(volumeOf({}));
  });

  test("what berth marks its own with is not the app's to set", () => {
    expect(() => volumeOf({ labels: { "berth.node": "x" } })).toThrow("berth.* is reserved");
  });
});

describe("every field of a workload is carried out", () => {
  test("none is left out of the table", () => {
    expect(Object.keys(WORKLOAD).sort()).toEqual(Object.keys(Workload.shape).sort());
  });

  test.each(Object.entries(WORKLOAD).flatMap(([field, value]) => (typeof value === "string" ? [] : [[field, value] as const])))(
    "%s",
    (_, value) => {
      expect(bodyOf(value)).not.toEqual(bodyOf());
    },
  );

  type Pair = readonly [field: string, without: Partial<WorkloadInput>, and: Partial<WorkloadInput>];
  const port = (more: object) => ({ ports: [{ target: 80, ...more }] });
  const mount = (more: object) => ({ mounts: [more as never] });
  const volume = { kind: "volume", volume: "data", target: "/d" };
  const bind = { kind: "bind", source: "/srv/a", target: "/d" };
  const tmpfs = { kind: "tmpfs", target: "/d" };
  const config = { kind: "config", config: "conf", target: "/etc/conf" };
  const check = { test: ["CMD", "a"], startPeriodMs: 1_000 };
  const nested: Record<
    string,
    { readonly keys: readonly string[]; readonly elsewhere: readonly string[]; readonly pairs: readonly Pair[] }
  > = {
    PortSpec: {
      keys: Object.keys(PortSpec.shape),
      elsewhere: [],
      pairs: [
        ["target", port({}), port({ target: 81 })],
        ["protocol", port({}), port({ protocol: "udp" })],
        ["published", port({}), port({ published: 8080 })],
        ["hostIp", port({}), port({ hostIp: "127.0.0.1" })],
      ],
    },
    Healthcheck: {
      keys: Object.keys(Healthcheck.shape),
      elsewhere: [],
      pairs: [
        ["test", { healthcheck: check }, { healthcheck: { ...check, test: ["CMD", "b"] } }],
        ["intervalMs", { healthcheck: check }, { healthcheck: { ...check, intervalMs: 1_000 } }],
        ["timeoutMs", { healthcheck: check }, { healthcheck: { ...check, timeoutMs: 1_000 } }],
        ["startPeriodMs", { healthcheck: check }, { healthcheck: { ...check, startPeriodMs: 2_000 } }],
        ["startIntervalMs", { healthcheck: check }, { healthcheck: { ...check, startIntervalMs: 1_000 } }],
        ["retries", { healthcheck: check }, { healthcheck: { ...check, retries: 9 } }],
      ],
    },
    limits: {
      keys: Object.keys(Workload.shape.limits.unwrap().shape),
      elsewhere: [],
      pairs: [
        ["cpuMillis", {}, { limits: { cpuMillis: 5 } }],
        ["memoryBytes", {}, { limits: { memoryBytes: 7_000_000 } }],
        ["memorySwapBytes", {}, { limits: { memorySwapBytes: -1 } }],
        ["memorySwappiness", {}, { limits: { memorySwappiness: 5 } }],
        ["memoryReservationBytes", {}, { limits: { memoryReservationBytes: 5 } }],
        ["pids", {}, { limits: { pids: 5 } }],
        ["cpuShares", {}, { limits: { cpuShares: 5 } }],
        ["cpuset", {}, { limits: { cpuset: "0" } }],
      ],
    },
    DeviceMapping: {
      keys: Object.keys(DeviceMapping.shape),
      elsewhere: [],
      pairs: [
        ["source", WORKLOAD.devices as object, { devices: [{ source: "/dev/z", target: "/dev/b" }] }],
        ["target", WORKLOAD.devices as object, { devices: [{ source: "/dev/a", target: "/dev/z" }] }],
        ["permissions", WORKLOAD.devices as object, { devices: [{ source: "/dev/a", target: "/dev/b", permissions: "r" }] }],
      ],
    },
    logging: {
      keys: ["driver", "options"],
      elsewhere: [],
      pairs: [
        ["driver", { logging: { driver: "local" } }, { logging: { driver: "none" } }],
        ["options", { logging: { driver: "local" } }, { logging: { driver: "local", options: { a: "b" } } }],
      ],
    },
    volume: {
      keys: mountKeys("volume"),
      elsewhere: ["kind"],
      pairs: [
        ["volume", mount(volume), mount({ ...volume, volume: "other" })],
        ["target", mount(volume), mount({ ...volume, target: "/e" })],
        ["readOnly", mount(volume), mount({ ...volume, readOnly: true })],
        ["noCopy", mount(volume), mount({ ...volume, noCopy: true })],
      ],
    },
    bind: {
      keys: mountKeys("bind"),
      // createHostPath: binds.ts makes the directory before create.
      elsewhere: ["kind", "createHostPath"],
      pairs: [
        ["source", mount(bind), mount({ ...bind, source: "/srv/b" })],
        ["target", mount(bind), mount({ ...bind, target: "/e" })],
        ["readOnly", mount(bind), mount({ ...bind, readOnly: true })],
        ["propagation", mount(bind), mount({ ...bind, propagation: "shared" })],
      ],
    },
    tmpfs: {
      keys: mountKeys("tmpfs"),
      elsewhere: ["kind"],
      pairs: [
        ["target", mount(tmpfs), mount({ ...tmpfs, target: "/e" })],
        ["sizeBytes", mount(tmpfs), mount({ ...tmpfs, sizeBytes: 5 })],
        ["mode", mount(tmpfs), mount({ ...tmpfs, mode: 0o700 })],
      ],
    },
    config: {
      keys: mountKeys("config"),
      // executors.ts writes the file with its content, mode and owner; converge.test.ts looks at it inside a container.
      elsewhere: ["kind", "config", "mode", "uid", "gid"],
      pairs: [["target", mount(config), mount({ ...config, target: "/etc/other" })]],
    },
    RestartPolicy: { keys: Object.keys(RestartPolicy.shape), elsewhere: ["condition", "attemptsMax", "windowMs", "delayMs"], pairs: [] },
  };

  function mountKeys(kind: string): string[] {
    const option = Mount.options.find(({ shape }) => shape.kind.value === kind);
    return Object.keys(option?.shape ?? {});
  }

  test.each(Object.entries(nested))("%s: none is left out", (_, { keys, elsewhere, pairs }) => {
    expect([...elsewhere, ...pairs.map(([field]) => field)].sort()).toEqual([...keys].sort());
  });
  test.each(
    Object.entries(nested).flatMap(([name, { pairs }]) => pairs.map(([field, without, and]) => [name, field, without, and] as const)),
  )("%s.%s", (_, __, without, and) => {
    expect(bodyOf(and)).not.toEqual(bodyOf(without));
  });

  test("of a replica's spec", () => {
    const elsewhere = {
      namespace: "names.ts",
      app: "names.ts",
      service: "aliases and names.ts",
      workload: "above",
      reservation: "below",
      configs: "executors.ts",
      volumes: "above",
    };
    expect(Object.keys(ReplicaSpec.shape).sort()).toEqual(Object.keys(elsewhere).sort());
    // Processors and memory are set aside by placement alone; counted devices are given out by devices.ts.
    expect(Object.keys(Reservation.shape).sort()).toEqual(["cpuMillis", "devices", "memoryMiB"]);
  });
});

/** Engine API 1.41, `ContainerCreate`: built here, or why never. */
const BODY_KEYS: Record<string, "built" | string> = {
  Image: "built",
  Hostname: "built",
  Domainname: "built",
  User: "built",
  WorkingDir: "built",
  Entrypoint: "built",
  Cmd: "built",
  Env: "built",
  Labels: "built",
  Tty: "built",
  OpenStdin: "built",
  ExposedPorts: "built",
  StopSignal: "built",
  StopTimeout: "built",
  Healthcheck: "built",
  HostConfig: "built",
  NetworkingConfig: "built",
  AttachStdin: "nobody attaches",
  AttachStdout: "nobody attaches",
  AttachStderr: "nobody attaches",
  StdinOnce: "nobody attaches",
  ArgsEscaped: "Windows",
  Volumes: "mounts are named in HostConfig.Mounts",
  NetworkDisabled: "networkMode none",
  MacAddress: "would collide when a replica is replaced",
  OnBuild: "images only",
  Shell: "images only",
};
const HOST_KEYS: Record<string, "built" | string> = {
  ...Object.fromEntries(
    "RestartPolicy AutoRemove NetworkMode PortBindings Mounts Privileged ReadonlyRootfs Init CapAdd CapDrop SecurityOpt MaskedPaths ReadonlyPaths Sysctls Ulimits Devices DeviceRequests GroupAdd ExtraHosts Dns DnsSearch DnsOptions IpcMode PidMode UTSMode CgroupnsMode Runtime ShmSize OomScoreAdj OomKillDisable NanoCpus CpuShares CpusetCpus Memory MemorySwap MemorySwappiness MemoryReservation PidsLimit LogConfig"
      .split(" ")
      .map((key) => [key, "built"]),
  ),
  Binds: "Mounts, which name their kind and are never parsed from text",
  Tmpfs: "Mounts",
  VolumeDriver: "driver local only",
  VolumesFrom: "another container's mounts, past every check",
  Links: "aliases on the app's own network",
  Cgroup: "another container's cgroup",
  CgroupParent: "the engine's own",
  ContainerIDFile: "a path on the host",
  PublishAllPorts: "only declared ports",
  StorageOpt: "no field of a workload",
  UsernsMode: "would leave a remapped user namespace",
  DeviceCgroupRules: "devices are named",
  KernelMemory: "deprecated by the kernel",
  KernelMemoryTCP: "deprecated by the kernel",
  BlkioWeight: "no field of a workload",
  BlkioWeightDevice: "no field of a workload",
  BlkioDeviceReadBps: "no field of a workload",
  BlkioDeviceWriteBps: "no field of a workload",
  BlkioDeviceReadIOps: "no field of a workload",
  BlkioDeviceWriteIOps: "no field of a workload",
  CpuPeriod: "NanoCpus",
  CpuQuota: "NanoCpus",
  CpuRealtimePeriod: "would starve the host",
  CpuRealtimeRuntime: "would starve the host",
  CpusetMems: "no field of a workload",
  ConsoleSize: "Windows",
  Isolation: "Windows",
  CpuCount: "Windows",
  CpuPercent: "Windows",
  IOMaximumIOps: "Windows",
  IOMaximumBandwidth: "Windows",
};

test("what can be built is what was decided on, key by key", () => {
  const everything = Object.assign({}, ...Object.values(WORKLOAD).filter((value) => typeof value === "object"), {
    networkMode: "app",
    securityOpt: ["systempaths=unconfined"],
  }) as Partial<WorkloadInput>;
  const limits = {
    cpuMillis: 5,
    cpuShares: 5,
    memoryBytes: 7_000_000,
    memorySwapBytes: 8_000_000,
    memorySwappiness: 5,
    memoryReservationBytes: 6,
    pids: 5,
    cpuset: "0",
  };
  // A host name of its own and the node's exclude each other: one body for each.
  const { hostname: _, ...shared } = everything;
  const { uts: __, ...own } = everything;
  const bodies = [shared, own].map((workload) => createBody(inputOf({ ...workload, limits })));
  const keysOf = (objects: readonly object[]) => [...new Set(objects.flatMap((object) => Object.keys(object)))].sort();
  const built = (keys: Record<string, string>) => Object.keys(keys).filter((key) => keys[key] === "built");
  expect(keysOf(bodies)).toEqual(built(BODY_KEYS).sort());
  expect(keysOf(bodies.map(({ HostConfig }) => HostConfig))).toEqual(built(HOST_KEYS).sort());
});

describe("what the engine is asked for", () => {
  test("its own restart policy is always `no`, whatever the workload says", () => {
    for (const condition of ["always", "on-failure", "no"] as const) {
      expect(createBody(inputOf({ restart: { condition } })).HostConfig.RestartPolicy).toEqual({ Name: "no" });
    }
  });

  test("a port without a number on the host gets one from the engine; two bindings of one port both count", () => {
    const { HostConfig, ExposedPorts } = createBody(
      inputOf({
        ports: [
          { target: 80 },
          { target: 53, protocol: "udp", published: 5353 },
          { target: 53, protocol: "udp", published: 5354, hostIp: "127.0.0.1" },
        ],
      }),
    );
    expect(HostConfig.PortBindings).toEqual({
      "80/tcp": [{ HostIp: "", HostPort: "" }],
      "53/udp": [
        { HostIp: "", HostPort: "5353" },
        { HostIp: "127.0.0.1", HostPort: "5354" },
      ],
    });
    expect(Object.keys(ExposedPorts)).toEqual(["80/tcp", "53/udp"]);
  });

  test("a name of the service and its aliases on the app's network, and none elsewhere", () => {
    expect(createBody(inputOf({ aliases: ["web", "store"] })).NetworkingConfig).toEqual({
      EndpointsConfig: { "berth-default-shop": { Aliases: ["web", "store"] } },
    });
    expect(createBody(inputOf({ networkMode: "host" })).NetworkingConfig).toBeUndefined();
  });

  test("times without a check are sent alone, so that the engine runs the image's own at them", () => {
    expect(createBody(inputOf({ healthcheck: { test: [], intervalMs: 5_000, retries: 7 } })).Healthcheck).toEqual({
      Test: [],
      Interval: 5_000_000_000,
      Retries: 7,
    });
  });

  test("times in nanoseconds, and no start interval of an engine that has none", () => {
    const healthcheck = { test: ["CMD", "x"], intervalMs: 1_500, startPeriodMs: 9_000, startIntervalMs: 500 };
    expect(createBody(inputOf({ healthcheck })).Healthcheck).toEqual({
      Test: ["CMD", "x"],
      Interval: 1_500_000_000,
      StartPeriod: 9_000_000_000,
      StartInterval: 500_000_000,
    });
    const old = inputOf({ healthcheck }, { engine: { apiVersion: "1.41", logDriver: "json-file" } });
    expect(createBody(old).Healthcheck).not.toHaveProperty("StartInterval");
    expect(createBody(inputOf({ healthcheck: { test: ["NONE"] } })).Healthcheck).toEqual({ Test: ["NONE"] });
  });

  test("a log that cannot fill the disk, unless the workload or the owner says how to log", () => {
    expect(createBody(inputOf()).HostConfig.LogConfig).toEqual({ Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } });
    expect(createBody(inputOf({}, { engine: { apiVersion: "1.41", logDriver: "journald" } })).HostConfig.LogConfig).toBeUndefined();
    expect(createBody(inputOf({ logging: { driver: "none" } })).HostConfig.LogConfig).toEqual({ Type: "none", Config: {} });
    const jsonFile = (options: Record<string, string>) =>
      createBody(inputOf({ logging: { driver: "json-file", options } })).HostConfig.LogConfig?.Config;
    expect(jsonFile({ tag: "a" })).toEqual({ tag: "a", "max-size": "10m", "max-file": "3" });
    expect(jsonFile({ "max-file": "5" })).toEqual({ "max-size": "10m", "max-file": "5" });
    expect(jsonFile({ "max-size": "1m" })).toEqual({ "max-size": "1m" });
  });

  test("system paths are opened as Docker's own command does it", () => {
    const { HostConfig } = createBody(inputOf({ securityOpt: ["systempaths=unconfined", "label:type:x"] }));
    expect(HostConfig).toMatchObject({ MaskedPaths: [], ReadonlyPaths: [], SecurityOpt: ["label=type:x"] });
    expect(isSystemPathsOption("systempaths:unconfined")).toBe(true);
  });

  test("its place is in its environment, and what the workload sets wins", () => {
    expect(createBody(inputOf({ env: { B: "mine" } }, { place: { A: "a", B: "b" } })).Env).toEqual(["A=a", "B=mine"]);
  });

  test("berth's labels win over the workload's", () => {
    const labels = containerLabels({
      ref: {
        replica: "r_aaaaaaaaaaaaaaaa",
        namespace: "default",
        app: "shop",
        service: "web",
        slot: "0",
        revision: 3,
        spec: "s",
        image: { reference: "x", digest: null, imageId: null, resolve: false },
      },
      node: "n",
      proof: "p",
    });
    expect(createBody({ ...inputOf({}, { labels }), spec: withLabel("berth.replica", "forged") }).Labels["berth.replica"]).toBe(
      "r_aaaaaaaaaaaaaaaa",
    );
  });
});
