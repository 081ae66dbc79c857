/**
 * What is refused at deploy, before a row is written: apps that could never be placed or rolled out as declared. Each
 * refusal says what is wrong, what to write instead, and where.
 */
import { type AppSpec, type Constraint, REPLICAS_MAX } from "./app.ts";
import { tooLarge } from "./app-size.ts";
import { admits, phrase } from "./constraint.ts";
import { colocatedServices } from "./desire.ts";
import { type HostPort, portsClash } from "./host-port.ts";

export interface DeployError {
  /** Stable. */
  readonly code:
    | "constraints_conflict"
    | "global_in_group"
    | "max_per_node_in_group"
    | "host_port_replicas"
    | "host_port_conflict"
    | "spread_in_group"
    | "dependency_cycle"
    | "dependency_missing"
    | "dependency_endless"
    | "app_too_large"
    | "volume_missing"
    | "volume_unplaced"
    | "config_missing"
    | "replicas_total";
  readonly message: string;
  readonly mend: string;
  /** Path in the AppSpec, e.g. `services.web.placement.spreadBy`. */
  readonly path: string;
}

/** All of them, in a fixed order. */
export function deployErrors(app: AppSpec): DeployError[] {
  return [
    ...sizeErrors(app),
    ...totalErrors(app),
    ...referenceErrors(app),
    ...externalVolumeErrors(app),
    ...dependencyErrors(app),
    ...splitErrors(app),
  ];
}

/** Each service alone may be as large as a cluster; together they may be no larger. */
function totalErrors(app: AppSpec): DeployError[] {
  const total = Object.values(app.services).reduce((sum, { mode, replicas }) => sum + (mode === "global" ? 0 : replicas), 0);
  if (total <= REPLICAS_MAX) return [];
  return [
    {
      code: "replicas_total",
      message: `the services of ${app.name} want ${total} replicas together; an app may have ${REPLICAS_MAX}`,
      mend: "lower some of them, or make it several apps",
      path: "services",
    },
  ];
}

function sizeErrors(app: AppSpec): DeployError[] {
  const found = tooLarge(app);
  return found === null ? [] : [{ code: "app_too_large", ...found }];
}

/** Reasons why the services that share one node (see `colocatedServices`) cannot. */
export function splitErrors(app: AppSpec): DeployError[] {
  const group = [...colocatedServices(app)].sort();
  if (group.length < 2) return [];
  return [...group.flatMap((name) => memberErrors(app, name, group)), ...portErrors(app, group), ...constraintErrors(app, group)];
}

function memberErrors(app: AppSpec, name: string, group: readonly string[]): DeployError[] {
  const { mode, replicas, placement, workload } = app.services[name]!;
  const others = group.filter((other) => other !== name);
  const because = `${listed([name, ...others])} share one node, because they talk to each other by name or share a volume`;
  const apart = "set network_mode to none or host where it needs no other service, or make it an app of its own";
  const errors: DeployError[] = [];
  if (mode === "global") {
    errors.push({
      code: "global_in_group",
      message: `${name} is global, one replica on every node, but ${because}`,
      mend: apart,
      path: `services.${name}.mode`,
    });
    return errors;
  }
  if (placement.maxPerNode !== undefined && placement.maxPerNode < replicas) {
    errors.push({
      code: "max_per_node_in_group",
      message: `${name} wants ${replicas} replicas with at most ${placement.maxPerNode} on a node, but ${because}`,
      mend: `raise maxPerNode to ${replicas}, lower replicas to ${placement.maxPerNode}, or ${apart}`,
      path: `services.${name}.placement.maxPerNode`,
    });
  }
  const published = workload.ports.find((port) => port.published !== undefined);
  if (published !== undefined && replicas > 1) {
    errors.push({
      code: "host_port_replicas",
      message: `${name} publishes host port ${published.published}/${published.protocol} and wants ${replicas} replicas, but ${because}, where the port is free once`,
      mend: `lower replicas to 1, leave out the published port so that the engine chooses one, or ${apart}`,
      path: `services.${name}.workload.ports`,
    });
  }
  if (placement.spreadBy.length > 0) {
    errors.push({
      code: "spread_in_group",
      message: `${name} is spread over ${listed(placement.spreadBy)}, but ${because}`,
      mend: `remove the spread preference, or ${apart}`,
      path: `services.${name}.placement.spreadBy`,
    });
  }
  return errors;
}

function portErrors(app: AppSpec, group: readonly string[]): DeployError[] {
  const taken: (HostPort & { service: string })[] = [];
  const errors: DeployError[] = [];
  for (const name of group) {
    for (const { published, protocol, hostIp = "" } of app.services[name]!.workload.ports) {
      if (published === undefined) continue;
      const wanted = { port: published, protocol, hostIp };
      const clash = taken.find((other) => portsClash(other, wanted));
      if (clash && clash.service !== name) {
        errors.push({
          code: "host_port_conflict",
          message: `${clash.service} and ${name} both publish host port ${published}/${protocol} and share one node`,
          mend: "publish another port, or bind each to its own host address",
          path: `services.${name}.workload.ports`,
        });
      }
      taken.push({ service: name, ...wanted });
    }
  }
  return errors;
}

type Sourced = Constraint & { readonly service: string };

function constraintErrors(app: AppSpec, group: readonly string[]): DeployError[] {
  const byKey = new Map<string, Sourced[]>();
  for (const service of group) {
    for (const constraint of app.services[service]!.placement.constraints)
      byKey.set(constraint.key, [...(byKey.get(constraint.key) ?? []), { ...constraint, service }]);
  }
  const errors: DeployError[] = [];
  for (const [key, constraints] of [...byKey].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const pair = firstConflict(constraints);
    if (!pair) continue;
    errors.push({
      code: "constraints_conflict",
      message: `no node can satisfy both ${phrase(pair[0])} (${pair[0].service}) and ${phrase(pair[1])} (${pair[1].service}), and the two share one node`,
      mend: `give both services constraints on ${key} that one node can satisfy`,
      path: `services.${pair[1].service}.placement.constraints`,
    });
  }
  return errors;
}

function firstConflict(constraints: readonly Sourced[]): readonly [Sourced, Sourced] | null {
  for (let i = 0; i < constraints.length; i += 1) {
    for (let j = i + 1; j < constraints.length; j += 1) {
      if (exclude(constraints[i]!, constraints[j]!)) return [constraints[i]!, constraints[j]!];
    }
  }
  return null;
}

/** True when no single value of the attribute satisfies both. Decided pairwise: enough for what people write. */
function exclude(a: Constraint, b: Constraint): boolean {
  const allowedA = allowed(a);
  const allowedB = allowed(b);
  if (allowedA) return !allowedA.some((value) => admits(b, value));
  if (allowedB) return !allowedB.some((value) => admits(a, value));
  const needs = (c: Constraint) => c.operator === "exists" || c.operator === "<" || c.operator === ">";
  if ((a.operator === "notExists" && needs(b)) || (b.operator === "notExists" && needs(a))) return true;
  if (a.operator === ">" && b.operator === "<") return Number(a.values[0]) >= Number(b.values[0]);
  if (a.operator === "<" && b.operator === ">") return Number(b.values[0]) >= Number(a.values[0]);
  return false;
}

const allowed = (c: Constraint) => (c.operator === "=" || c.operator === "in" ? c.values : null);

function referenceErrors(app: AppSpec): DeployError[] {
  return Object.keys(app.services)
    .sort()
    .flatMap((name) =>
      app.services[name]!.workload.mounts.flatMap((mount, index): DeployError[] => {
        const path = `services.${name}.workload.mounts[${index}]`;
        if (mount.kind === "volume" && !Object.hasOwn(app.volumes, mount.volume)) {
          return [
            {
              code: "volume_missing",
              message: `${name} mounts volume ${mount.volume}, which the app does not declare`,
              mend: `declare ${mount.volume} under volumes`,
              path,
            },
          ];
        }
        if (mount.kind === "config" && !Object.hasOwn(app.configs, mount.config)) {
          return [
            {
              code: "config_missing",
              message: `${name} mounts config ${mount.config}, which the app does not declare`,
              mend: `declare ${mount.config} under configs`,
              path,
            },
          ];
        }
        return [];
      }),
    );
}

/**
 * Berth does not know which nodes have a volume that it did not make, so the app says where it is: for the service itself
 * or for one that shares its node. On a global service it is said to be everywhere.
 */
function externalVolumeErrors(app: AppSpec): DeployError[] {
  const together = colocatedServices(app);
  const isPlaced = (name: string) => app.services[name]!.placement.constraints.some(namesNodes);
  return Object.keys(app.services)
    .sort()
    .flatMap((name): DeployError[] => {
      const { mode, workload } = app.services[name]!;
      if (mode === "global" || (together.has(name) ? [...together] : [name]).some(isPlaced)) return [];
      const index = workload.mounts.findIndex(
        (mount) =>
          mount.kind === "volume" && Object.hasOwn(app.volumes, mount.volume) && app.volumes[mount.volume]!.externalName !== undefined,
      );
      const mount = workload.mounts[index];
      if (mount?.kind !== "volume") return [];
      return [
        {
          code: "volume_unplaced",
          message: `${name} mounts the external volume ${app.volumes[mount.volume]!.externalName}, and nothing says which node has it`,
          mend: "add a placement constraint that names the node, e.g. node.hostname == NAME, or a label of the nodes that have it",
          path: `services.${name}.workload.mounts[${index}]`,
        },
      ];
    });
}

/** It says which nodes are meant, not only which are not. */
const namesNodes = ({ key, operator }: Constraint): boolean =>
  /^node\.(?:id|name|hostname|labels\..+|declared\..+)$/.test(key) && !["!=", "notIn", "notExists"].includes(operator);

function dependencyErrors(app: AppSpec): DeployError[] {
  const names = Object.keys(app.services).sort();
  const errors: DeployError[] = [];
  for (const name of names) {
    for (const [dependency, { condition, required }] of Object.entries(app.services[name]!.dependsOn)) {
      const service = Object.hasOwn(app.services, dependency) ? app.services[dependency] : undefined;
      if (condition === "completed" && service?.workload.restart.condition === "always")
        errors.push({
          code: "dependency_endless",
          message: `${name} waits for ${dependency} to complete, which is started again whenever it ends`,
          mend: `set restart of ${dependency} to "no" or on-failure, or wait for it to be healthy`,
          path: `services.${name}.dependsOn.${dependency}`,
        });
      if (Object.hasOwn(app.services, dependency) || !required) continue;
      errors.push({
        code: "dependency_missing",
        message: `${name} depends on ${dependency}, which the app does not have`,
        mend: `add ${dependency}, or set required: false`,
        path: `services.${name}.dependsOn.${dependency}`,
      });
    }
  }
  const cycle = dependencyCycle(app, names);
  if (cycle)
    errors.push({
      code: "dependency_cycle",
      message: `services wait for each other: ${cycle.join(" → ")}`,
      mend: "remove one of these dependencies",
      path: `services.${cycle[0]}.dependsOn`,
    });
  return errors;
}

/** Depth-first with colours, on an explicit stack: 500 services in a chain are no reason to recurse. */
function dependencyCycle(app: AppSpec, names: readonly string[]): string[] | null {
  const done = new Set<string>();
  for (const root of names) {
    const path: string[] = [];
    const stack: { name: string; leave: boolean }[] = [{ name: root, leave: false }];
    while (stack.length > 0) {
      const { name, leave } = stack.pop()!;
      if (leave) {
        done.add(path.pop()!);
        continue;
      }
      if (done.has(name)) continue;
      const at = path.indexOf(name);
      if (at >= 0) return [...path.slice(at), name];
      path.push(name);
      stack.push({ name, leave: true });
      for (const next of Object.keys(app.services[name]!.dependsOn).sort().reverse()) {
        if (Object.hasOwn(app.services, next)) stack.push({ name: next, leave: false });
      }
    }
  }
  return null;
}

const listed = (names: readonly string[]) =>
  names.length <= 1 ? (names[0] ?? "") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
