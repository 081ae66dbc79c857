/**
 * What a user declares: an app with its services, volumes and configs. `shared/compose` makes one from Compose files;
 * the operator API takes one as JSON. Strict: an unknown key is an error, because accepting a word and not acting on
 * it is a defect.
 *
 * A service has two halves. `workload` is everything an agent needs to run one replica; its canonical JSON is hashed
 * and a change of the hash replaces containers. Everything beside it (counts, placement, rollout) moves nothing by
 * itself.
 */
import { z } from "zod";
import { canonicalAddress } from "./host-port.ts";
import { ContentHash, LabelKey, Labels, Name, RESERVED_NAMES } from "./name.ts";
import { serviceErrors } from "./service-errors.ts";

/** A day and a bit bounds every duration a user may set: a longer one is a mistake of units. */
const DURATION_MAX_MS = 100_000_000;
export const DurationMs = z.number().int().min(0).max(DURATION_MAX_MS);
const Text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((value) => !value.includes("\0"), "no NUL characters");
const AbsolutePath = z
  .string()
  .max(4096)
  .regex(/^\/(?!.*(?:^|\/)\.\.(?:\/|$))[^\0\n]*$/, "an absolute path with no '..'");

/** `[registry[:port]/]path[:tag][@sha256:digest]` or an image id `sha256:…`, at most 512 characters. */
export const ImageReference = z
  .string()
  .max(512)
  .regex(
    /^(?:sha256:[0-9a-f]{64}|(?:[a-zA-Z0-9.-]+(?::[0-9]{1,5})?\/)?[a-z0-9]+(?:[._-]{1,2}[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]{1,2}[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?)$/,
    "an image reference like registry.example.com:5000/team/app:1.2",
  );

export const PortNumber = z.number().int().min(1).max(65535);

export const PortSpec = z.strictObject({
  /** Port inside the container. */
  target: PortNumber,
  protocol: z.enum(["tcp", "udp"]).default("tcp"),
  /** Port on the host; absent: the engine chooses one and the replica reports it. */
  published: PortNumber.optional(),
  /** Address on the host to bind; absent: all. */
  hostIp: z.union([z.ipv4(), z.ipv6()]).overwrite(canonicalAddress).optional(),
});
export type PortSpec = z.infer<typeof PortSpec>;

export const Mount = z.discriminatedUnion("kind", [
  /** A named volume of the app. `subpath` is not offered: engine API 1.41 cannot mount one. */
  z.strictObject({
    kind: z.literal("volume"),
    volume: Name,
    target: AbsolutePath,
    readOnly: z.boolean().default(false),
    noCopy: z.boolean().default(false),
  }),
  z.strictObject({
    kind: z.literal("bind"),
    source: AbsolutePath,
    target: AbsolutePath,
    readOnly: z.boolean().default(false),
    /** Make the source directory when it is missing, as Compose's short form does. */
    createHostPath: z.boolean().default(false),
    propagation: z.enum(["private", "rprivate", "shared", "rshared", "slave", "rslave"]).default("rprivate"),
  }),
  z.strictObject({
    kind: z.literal("tmpfs"),
    target: AbsolutePath,
    sizeBytes: z.number().int().min(0).optional(),
    mode: z.number().int().min(0).max(0o7777).optional(),
  }),
  /** A config's content as a read-only file. */
  z.strictObject({
    kind: z.literal("config"),
    config: Name,
    target: AbsolutePath,
    mode: z.number().int().min(0).max(0o7777).default(0o444),
    uid: z
      .number()
      .int()
      .min(0)
      .max(2 ** 31)
      .default(0),
    gid: z
      .number()
      .int()
      .min(0)
      .max(2 ** 31)
      .default(0),
  }),
]);
export type Mount = z.infer<typeof Mount>;

/** What is not given is the image's own, and the engine's default where the image has none: 30 s, 30 s, 0, 5 s and 3. */
export const Healthcheck = z.strictObject({
  /** `["CMD", …]`, `["CMD-SHELL", line]`, `["NONE"]` (switches off the image's own), or `[]`: the image's own, with these times. */
  test: z.array(Text(32_768)).max(256),
  intervalMs: DurationMs.optional(),
  timeoutMs: DurationMs.optional(),
  startPeriodMs: DurationMs.optional(),
  startIntervalMs: DurationMs.optional(),
  retries: z.number().int().min(1).max(1000).optional(),
});
export type Healthcheck = z.infer<typeof Healthcheck>;

export const RESTART_CONDITIONS = ["always", "on-failure", "no"] as const;
export const RestartPolicy = z.strictObject({
  condition: z.enum(RESTART_CONDITIONS).default("always"),
  /** Restarts allowed within `windowMs` (all time when absent); absent: no limit. */
  attemptsMax: z.number().int().min(1).max(1_000_000).optional(),
  windowMs: DurationMs.optional(),
  /** First wait before a restart; doubles up to 5 min. */
  delayMs: DurationMs.default(1_000),
});
export type RestartPolicy = z.infer<typeof RestartPolicy>;

export const DeviceMapping = z.strictObject({
  source: AbsolutePath,
  target: AbsolutePath,
  permissions: z
    .string()
    .regex(/^[rwm]{1,3}$/)
    .default("rwm"),
});

/** What is set aside on a node for each replica. Unset: 50 millicores and 64 MiB. */
export const Reservation = z.strictObject({
  cpuMillis: z.number().int().min(0).max(1_024_000).default(50),
  memoryMiB: z
    .number()
    .int()
    .min(0)
    .max(64 * 1024 * 1024)
    .default(64),
  /** Counted devices by the kind a node declares, e.g. `{ "gpu": 1 }`. */
  devices: z.record(Name, z.number().int().min(1).max(1024)).default({}),
});
export type Reservation = z.infer<typeof Reservation>;

export const EnvName = z
  .string()
  .min(1)
  .max(256)
  .regex(/^[^=\0\n]+$/, "no '=', newline or NUL in a variable's name");

/** Labels on a container, as proxies and monitors read them (`traefik.http.routers.web.tls.domains[0].main`). */
const ContainerLabels = z
  .record(
    z
      .string()
      .min(1)
      .max(512)
      .regex(/^[!-<>-~]+$/, "printable ASCII without blanks and '='")
      .refine((key) => !key.startsWith("berth."), "berth.* is reserved")
      .refine((key) => !RESERVED_NAMES.has(key.toLowerCase()), "this word is reserved; choose another key"),
    Text(4096),
  )
  .default({});

export const Workload = z.strictObject({
  image: ImageReference,
  pullPolicy: z.enum(["missing", "always", "never"]).default("missing"),
  entrypoint: z.array(Text(32_768)).max(1024).optional(),
  command: z.array(Text(32_768)).max(1024).optional(),
  env: z.record(EnvName, Text(131_072)).default({}),
  workingDir: AbsolutePath.optional(),
  user: z
    .string()
    .max(128)
    .regex(/^[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)?$/)
    .optional(),
  groupAdd: z
    .array(
      z
        .string()
        .max(64)
        .regex(/^[A-Za-z0-9_.-]+$/),
    )
    .max(64)
    .default([]),
  hostname: z
    .string()
    .max(253)
    .regex(/^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/)
    .optional(),
  domainname: z
    .string()
    .max(253)
    .regex(/^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/)
    .optional(),
  labels: ContainerLabels,
  init: z.boolean().default(false),
  tty: z.boolean().default(false),
  stdinOpen: z.boolean().default(false),
  readOnly: z.boolean().default(false),
  privileged: z.boolean().default(false),
  capAdd: z
    .array(z.string().regex(/^[A-Z_]{2,40}$/))
    .max(64)
    .default([]),
  capDrop: z
    .array(z.string().regex(/^[A-Z_]{2,40}$/))
    .max(64)
    .default([]),
  securityOpt: z.array(Text(256)).max(16).default([]),
  sysctls: z
    .record(
      z
        .string()
        .max(128)
        .regex(/^[a-z0-9_.-]+$/i),
      z
        .string()
        .max(256)
        .regex(/^[^\0\n]*$/),
    )
    .default({}),
  ulimits: z
    .record(z.string().regex(/^[a-z]{2,20}$/), z.strictObject({ soft: z.number().int().min(-1), hard: z.number().int().min(-1) }))
    .default({}),
  devices: z.array(DeviceMapping).max(64).default([]),
  shmBytes: z.number().int().min(0).optional(),
  oomScoreAdj: z.number().int().min(-1000).max(1000).optional(),
  oomKillDisable: z.boolean().optional(),
  extraHosts: z
    .array(
      z
        .string()
        .max(320)
        .regex(/^[A-Za-z0-9_.-]+:[A-Fa-f0-9.:]+$|^[A-Za-z0-9_.-]+:host-gateway$/),
    )
    .max(128)
    .default([]),
  dns: z
    .array(z.union([z.ipv4(), z.ipv6()]))
    .max(8)
    .default([]),
  dnsSearch: z
    .array(
      z
        .string()
        .max(253)
        .regex(/^[A-Za-z0-9.-]+$/),
    )
    .max(16)
    .default([]),
  dnsOptions: z
    .array(
      z
        .string()
        .max(64)
        .regex(/^[a-z0-9:-]+$/),
    )
    .max(16)
    .default([]),
  /** `app`: the app's own bridge on the node, services known by name. */
  networkMode: z.enum(["app", "none", "host"]).default("app"),
  /** Further names on the app's bridge. */
  aliases: z.array(Name).max(32).default([]),
  ipc: z.enum(["private", "shareable", "host", "none"]).optional(),
  pid: z.enum(["host"]).optional(),
  uts: z.enum(["host"]).optional(),
  cgroupns: z.enum(["host", "private"]).optional(),
  runtime: z
    .string()
    .max(64)
    .regex(/^[A-Za-z0-9_.-]+$/)
    .optional(),
  mounts: z.array(Mount).max(128).default([]),
  ports: z.array(PortSpec).max(1024).default([]),
  healthcheck: Healthcheck.optional(),
  restart: RestartPolicy.prefault({}),
  stopSignal: z
    .string()
    .regex(/^(?:SIG)?[A-Z0-9+-]{2,12}$|^[0-9]{1,2}$/)
    .optional(),
  stopGraceMs: DurationMs.default(10_000),
  limits: z
    .strictObject({
      cpuMillis: z.number().int().min(1).max(1_024_000).optional(),
      memoryBytes: z
        .number()
        .int()
        .min(6 * 1024 * 1024)
        .max(Number.MAX_SAFE_INTEGER)
        .optional(),
      /** Memory plus swap; -1: no limit. */
      memorySwapBytes: z.number().int().min(-1).max(Number.MAX_SAFE_INTEGER).optional(),
      memorySwappiness: z.number().int().min(0).max(100).optional(),
      memoryReservationBytes: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
      pids: z.number().int().min(-1).max(4_194_304).optional(),
      cpuShares: z.number().int().min(0).max(262_144).optional(),
      cpuset: z
        .string()
        .max(256)
        .regex(/^[0-9]+(?:[-,][0-9]+)*$/)
        .optional(),
    })
    .default({}),
  logging: z
    .strictObject({
      driver: z.enum(["json-file", "local", "none", "journald", "syslog", "fluentd", "gelf"]),
      options: z
        .record(
          z
            .string()
            .max(64)
            .regex(/^[a-z0-9.-]+$/),
          Text(1024),
        )
        .default({}),
    })
    .optional(),
});
export type Workload = z.infer<typeof Workload>;

export const CONSTRAINT_OPERATORS = ["=", "!=", "in", "notIn", "exists", "notExists", "<", ">"] as const;
/** Keys of constraints. */
export const ATTRIBUTES =
  "node.labels.KEY, node.declared.KEY, site.labels.KEY, node.name, node.id, node.site, node.arch, node.os or node.hostname";

/**
 * One condition on the node a replica may be placed on. `key` is `node.labels.<k>`, `site.labels.<k>`, `node.name`,
 * `node.id`, `node.site` (what operators say), or `node.declared.<k>`, `node.arch`, `node.os`, `node.hostname` (what the
 * node says of itself: whoever holds the node may change it). `<` and `>` compare as decimal numbers; a missing or
 * non-numeric label does not match.
 */
export const Constraint = z.strictObject({
  key: z
    .string()
    .max(160)
    .regex(/^(?:node\.labels\.|node\.declared\.|site\.labels\.)[a-zA-Z0-9_./-]+$|^node\.(?:name|id|site|arch|os|hostname)$/, ATTRIBUTES),
  operator: z.enum(CONSTRAINT_OPERATORS),
  values: z.array(z.string().max(256)).max(64).default([]),
});
export type Constraint = z.infer<typeof Constraint>;

export const Toleration = z.strictObject({
  key: LabelKey,
  /** Absent: any value of the taint. */
  value: z.string().max(256).optional(),
});

export const Placement = z.strictObject({
  constraints: z.array(Constraint).max(64).default([]),
  tolerations: z.array(Toleration).max(64).default([]),
  /** spread: emptiest node first; binpack: fullest that still fits. */
  strategy: z.enum(["spread", "binpack"]).default("spread"),
  /** Even out over the values of these attributes first, e.g. `node.site` (same keys as constraints). */
  spreadBy: z.array(Constraint.shape.key).max(4).default([]),
  maxPerNode: z.number().int().min(1).max(100_000).optional(),
});
export type Placement = z.infer<typeof Placement>;

export const UPDATE_ORDERS = ["auto", "start-first", "stop-first"] as const;
const PARALLELISM_MAX = 100_000;
export const UpdatePolicy = z.strictObject({
  /** auto: start-first, or stop-first where a host port or a volume would clash. */
  order: z.enum(UPDATE_ORDERS).default("auto"),
  /** Slots that change over at a time. */
  parallelism: z.number().int().min(1).max(PARALLELISM_MAX).default(1),
  /** Most slots that have two replicas at a time because they change over. Absent: `parallelism`. 0: the old one stops first. */
  maxSurge: z.number().int().min(0).max(PARALLELISM_MAX).optional(),
  /**
   * Most slots without a ready replica at a time before another is stopped first. Absent: `parallelism`, and only where
   * the old replica has to stop first.
   */
  maxUnavailable: z.number().int().min(0).max(PARALLELISM_MAX).optional(),
  delayMs: DurationMs.default(0),
  /** Ready without a break for this long counts as healthy. */
  minHealthyMs: DurationMs.default(10_000),
  healthyDeadlineMs: DurationMs.default(300_000),
  /** A deployment in which nothing has become healthy for this long has failed. */
  progressDeadlineMs: DurationMs.default(600_000),
  failureAction: z.enum(["pause", "rollback"]).default("rollback"),
  /** Slots whose new replica runs beside the old one until somebody promotes the deployment; as many as there are replicas: blue/green. */
  canaries: z.number().int().min(0).max(PARALLELISM_MAX).default(0),
});
export type UpdatePolicy = z.infer<typeof UpdatePolicy>;

/** completed: it runs to its end and succeeds, in each deployment that changes it, before what depends on it begins. */
export const DEPENDENCY_CONDITIONS = ["started", "healthy", "completed"] as const;
export const Dependency = z.strictObject({ condition: z.enum(DEPENDENCY_CONDITIONS), required: z.boolean().default(true) });

export const SERVICE_MODES = ["replicated", "global"] as const;
/** Bounds one service to what one cluster is made to hold: 20 replicas on each of 5,000 nodes. */
export const REPLICAS_MAX = 100_000;
const ServiceFields = z.strictObject({
  mode: z.enum(SERVICE_MODES).default("replicated"),
  /** Wanted number when replicated. */
  replicas: z.number().int().min(0).max(REPLICAS_MAX).default(1),
  workload: Workload,
  reservation: Reservation.prefault({}),
  placement: Placement.prefault({}),
  update: UpdatePolicy.prefault({}),
  dependsOn: z.record(Name, Dependency).default({}),
});
export type ServiceSpec = z.infer<typeof ServiceFields>;
export const ServiceSpec = ServiceFields.superRefine((service, context) => {
  for (const { path, message, mend } of serviceErrors(service))
    context.addIssue({ code: "custom", path: [...path], message, params: { mend } });
});

/** Of the names that berth gives to volumes in an engine: nothing from outside may be named so, or mounted by such a name. */
export const OWN_VOLUME_PREFIX = "berth_";

export const VolumeSpec = z.strictObject({
  labels: z
    .record(
      LabelKey.refine((key) => !key.startsWith("berth."), "berth.* is reserved"),
      Text(4096),
    )
    .default({}),
  /** The engine's name for it; absent: `berth_<namespace>_<app>_<volume>`. External volumes must exist on the node. */
  externalName: z
    .string()
    .max(128)
    .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/)
    .refine(
      (name) => !name.startsWith(OWN_VOLUME_PREFIX),
      `names that begin with ${OWN_VOLUME_PREFIX} are berth's own volumes, of other apps too`,
    )
    .optional(),
});

/** Text of a config, at most 1 MB; bytes that are not UTF-8 are refused at the edge. */
export const ConfigSpec = z.strictObject({ content: Text(1_000_000) });

export const AppSpec = z
  .strictObject({
    name: Name,
    services: z.record(Name, ServiceSpec),
    volumes: z.record(Name, VolumeSpec).default({}),
    configs: z.record(Name, ConfigSpec).default({}),
  })
  .refine((app) => Object.keys(app.services).length > 0, { message: "an app needs at least one service", path: ["services"] })
  .refine((app) => Object.keys(app.services).length <= 500, { message: "at most 500 services an app", path: ["services"] });
export type AppSpec = z.infer<typeof AppSpec>;
export type AppSpecInput = z.input<typeof AppSpec>;

/**
 * The content-addressed body an agent runs: a workload with config names resolved to content hashes and volume names
 * to engine names. Agent-facing, so unknown keys are dropped by the wire schema rather than refused.
 */
export const ReplicaSpec = z.object({
  namespace: Name,
  app: Name,
  service: Name,
  workload: Workload.omit({ image: true }).extend({ image: ImageReference }),
  reservation: Reservation,
  /** config name → hash of its content */
  configs: z.record(Name, ContentHash),
  /** volume name → engine volume name and whether it must exist already */
  volumes: z.record(
    Name,
    z.object({
      engineName: z.string(),
      external: z.boolean(),
      /** Set when the volume is made; absent: none. */
      labels: z.record(z.string(), z.string()).optional(),
    }),
  ),
});
export type ReplicaSpec = z.infer<typeof ReplicaSpec>;
export { Labels };
