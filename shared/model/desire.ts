/**
 * From what a user declared to the rows that stand for it: pure, and the same on every isolate. A service becomes the
 * content-addressed body its replicas run and the half of it that the planner reads.
 */
import type { ServicePlanning } from "../plan/snapshot.ts";
import type { AppSpec, ReplicaSpec, Reservation, ServiceSpec } from "./app.ts";
import { canonicalJson, hashText } from "./content.ts";
import type { ContentHash } from "./name.ts";

/** Everything the control plane stores of one service of a revision. */
export interface DesiredService {
  readonly name: string;
  readonly mode: "replicated" | "global";
  readonly replicas: number;
  /** Hash of `body`. */
  readonly spec: ContentHash;
  /** Canonical JSON of its ReplicaSpec. */
  readonly body: string;
  readonly reservation: Reservation;
  readonly planning: ServicePlanning;
}

export interface DesiredConfig {
  readonly name: string;
  readonly hash: ContentHash;
  readonly content: string;
}

/** All of an app at once: one row a service, in name order, and the bodies of its configs. */
export function desireApp(
  namespace: string,
  app: AppSpec,
): { readonly services: readonly DesiredService[]; readonly configs: readonly DesiredConfig[] } {
  const configs = Object.keys(app.configs)
    .sort()
    .map((name) => ({ name, hash: hashText(app.configs[name]!.content), content: app.configs[name]!.content }));
  const hashes = new Map(configs.map((config) => [config.name, config.hash]));
  const services = Object.keys(app.services)
    .sort()
    .map((name) => {
      const service = app.services[name]!;
      const body = canonicalJson(replicaSpec(namespace, app, name, (config) => hashes.get(config)!));
      return {
        name,
        mode: service.mode,
        replicas: service.mode === "global" ? 0 : service.replicas,
        spec: hashText(body),
        body,
        reservation: service.reservation,
        planning: servicePlanning(namespace, app, name),
      };
    });
  return { services, configs };
}

/** The body an agent runs. Throws when the service mounts a volume or config that the app does not declare. */
export function replicaSpec(
  namespace: string,
  app: AppSpec,
  serviceName: string,
  hashOfConfig: (name: string) => ContentHash,
): ReplicaSpec {
  const service = serviceOf(app, serviceName);
  const configs: Record<string, ContentHash> = {};
  const volumes: ReplicaSpec["volumes"] = {};
  for (const mount of service.workload.mounts) {
    if (mount.kind === "config") {
      if (!Object.hasOwn(app.configs, mount.config))
        throw new Error(`service ${serviceName} mounts config ${mount.config}, which the app does not declare`);
      configs[mount.config] = hashOfConfig(mount.config);
    }
    if (mount.kind === "volume") volumes[mount.volume] = engineVolume(namespace, app, mount.volume);
  }
  return { namespace, app: app.name, service: serviceName, workload: service.workload, reservation: service.reservation, configs, volumes };
}

/** The planner's half of a service. */
export function servicePlanning(namespace: string, app: AppSpec, serviceName: string): ServicePlanning {
  const { workload, placement, update, dependsOn } = serviceOf(app, serviceName);
  const mounts = new Map<string, boolean>();
  for (const mount of workload.mounts) {
    if (mount.kind === "volume") mounts.set(mount.volume, mount.readOnly && (mounts.get(mount.volume) ?? true));
  }
  return {
    constraints: placement.constraints,
    tolerations: placement.tolerations.map(({ key, value }) => (value === undefined ? { key } : { key, value })),
    strategy: placement.strategy,
    spreadBy: placement.spreadBy,
    maxPerNode: placement.maxPerNode ?? null,
    hostPorts: workload.ports.flatMap((port) =>
      port.published === undefined ? [] : [{ port: port.published, protocol: port.protocol, hostIp: port.hostIp ?? "" }],
    ),
    volumes: [...mounts.keys()]
      .sort()
      .map((name) => ({ name, engineName: engineVolume(namespace, app, name).engineName, readOnly: mounts.get(name)! })),
    colocate: colocatedServices(app).has(serviceName),
    order: update.order,
    parallelism: update.parallelism,
    maxSurge: update.maxSurge ?? update.parallelism,
    maxUnavailable: update.maxUnavailable ?? null,
    delayMs: update.delayMs,
    minHealthyMs: update.minHealthyMs,
    healthyDeadlineMs: update.healthyDeadlineMs,
    progressDeadlineMs: update.progressDeadlineMs,
    failureAction: update.failureAction,
    canaries: update.canaries,
    dependsOn: Object.keys(dependsOn)
      .sort()
      .map((service) => ({ service, condition: dependsOn[service]!.condition, required: dependsOn[service]!.required })),
    ends: workload.restart.condition !== "always",
    imageReference: workload.image,
  };
}

/**
 * Services that must share one node. The app's own network spans one node only, so two or more services on it go
 * together; so do services that mount the same named volume, since a volume's data is on one node.
 */
export function colocatedServices(app: AppSpec): ReadonlySet<string> {
  const names = Object.keys(app.services);
  const networked = names.filter((name) => app.services[name]!.workload.networkMode === "app");
  const together = new Set(networked.length >= 2 ? networked : []);
  const users = new Map<string, string[]>();
  for (const name of names) {
    const mounted = new Set(app.services[name]!.workload.mounts.flatMap((mount) => (mount.kind === "volume" ? [mount.volume] : [])));
    for (const volume of mounted) users.set(volume, [...(users.get(volume) ?? []), name]);
  }
  for (const sharers of users.values()) if (sharers.length >= 2) for (const name of sharers) together.add(name);
  return together;
}

/**
 * The engine's name for an app's volume. Names begin and end with a letter or digit, so doubling the underscores
 * inside them keeps single ones as separators: no two (namespace, app, volume) share a name.
 */
export function engineVolumeName(namespace: string, app: string, volume: string): string {
  return ["berth", namespace, app, volume].map((part) => part.replaceAll("_", "__")).join("_");
}

function engineVolume(namespace: string, app: AppSpec, volume: string): ReplicaSpec["volumes"][string] {
  const declared = Object.hasOwn(app.volumes, volume) ? app.volumes[volume] : undefined;
  if (!declared) throw new Error(`volume ${volume} is mounted but not declared in app ${app.name}`);
  const { externalName, labels } = declared;
  if (externalName !== undefined) return { engineName: externalName, external: true };
  const engineName = engineVolumeName(namespace, app.name, volume);
  // Left out when there are none: what says the same keeps its hash.
  return { engineName, external: false, ...(Object.keys(labels).length === 0 ? {} : { labels }) };
}

function serviceOf(app: AppSpec, name: string): ServiceSpec {
  const service = Object.hasOwn(app.services, name) ? app.services[name] : undefined;
  if (!service) throw new Error(`app ${app.name} has no service ${name}`);
  return service;
}
