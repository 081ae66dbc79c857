/** Rows for `deploy`. */
import { applied, approximated, each, type KeyRow, refused } from "./key-row.ts";

const DEPLOY = "services.*.deploy";
const NO_DEVICES = {
  why: "handing devices of a driver (GPUs) to a container is not there yet",
  mend: "count them with reservations.generic_resources and pass the device files with devices:",
};

export const DEPLOY_ROWS: readonly KeyRow[] = [
  applied(DEPLOY, "mapping|null", "Counts, placement, rollout, resources and restarts."),
  applied(
    `${DEPLOY}.mode`,
    "string",
    "replicated or global (one on every matching node). replicated-job and global-job are refused: jobs are not there yet.",
  ),
  approximated(`${DEPLOY}.endpoint_mode`, "string", "No effect: berth decides how a service's name resolves, the same for vip and dnsrr."),
  applied(`${DEPLOY}.replicas`, "number", "The wanted number of replicas; ignored for global services, where it is refused."),
  approximated(
    `${DEPLOY}.labels`,
    "keyed",
    "No effect: a service has no object in the engine to carry them; labels: on the service goes to the containers.",
  ),

  approximated(`${DEPLOY}.rollback_config`, "mapping", "A rollback proceeds by update_config."),
  ...each(
    `${DEPLOY}.rollback_config`,
    { parallelism: "number", delay: "string", failure_action: "string", monitor: "string", max_failure_ratio: "number", order: "string" },
    (path, takes) =>
      approximated(path, takes, "No effect: a rollback is a deployment of the earlier revision, and proceeds by update_config."),
  ),

  applied(`${DEPLOY}.update_config`, "mapping", "How replicas are replaced."),
  applied(`${DEPLOY}.update_config.parallelism`, "number", "Replicas replaced at a time; 0 means all. Unset: 1."),
  applied(`${DEPLOY}.update_config.delay`, "string", "Wait between two batches."),
  applied(
    `${DEPLOY}.update_config.failure_action`,
    "string",
    "rollback (also the default, where Swarm's is pause) or pause. continue is refused: berth never goes on over failing replicas.",
  ),
  applied(
    `${DEPLOY}.update_config.monitor`,
    "string",
    "How long a new replica must be ready without a break to count as healthy. Unset: 10 s.",
  ),
  approximated(`${DEPLOY}.update_config.max_failure_ratio`, "number", "No effect above 0: any replica that fails stops the rollout."),
  applied(
    `${DEPLOY}.update_config.order`,
    "string",
    "start-first or stop-first. Unset: start-first, or stop-first where a host port or a volume would clash.",
  ),

  applied(`${DEPLOY}.resources`, "mapping", "Limits that the engine enforces, and reservations that placement counts."),
  applied(`${DEPLOY}.resources.limits`, "mapping", "Enforced by the engine on each replica."),
  applied(`${DEPLOY}.resources.limits.cpus`, "number", "CPU limit, e.g. 0.5; as cpus:."),
  applied(`${DEPLOY}.resources.limits.memory`, "string", "Memory limit, e.g. 512M (1024-based); at least 6 MB; as mem_limit:."),
  applied(`${DEPLOY}.resources.limits.pids`, "number", "Limit of processes; as pids_limit:."),
  applied(`${DEPLOY}.resources.reservations`, "mapping", "Set aside on the node for each replica."),
  applied(`${DEPLOY}.resources.reservations.cpus`, "number", "CPU set aside on the node. Unset: 0.05."),
  applied(`${DEPLOY}.resources.reservations.memory`, "string", "Memory set aside on the node, rounded up to whole MiB. Unset: 64 MiB."),
  applied(`${DEPLOY}.resources.reservations.generic_resources`, "list", "Counted devices by the kind that nodes declare."),
  applied(`${DEPLOY}.resources.reservations.generic_resources[]`, "mapping", "One counted kind."),
  applied(`${DEPLOY}.resources.reservations.generic_resources[].discrete_resource_spec`, "mapping", "A kind and how many."),
  applied(
    `${DEPLOY}.resources.reservations.generic_resources[].discrete_resource_spec.kind`,
    "string",
    "The kind as nodes declare it, made lower-case.",
  ),
  applied(`${DEPLOY}.resources.reservations.generic_resources[].discrete_resource_spec.value`, "number", "How many each replica takes."),
  refused(`${DEPLOY}.resources.reservations.devices`, "list", NO_DEVICES),
  ...each(
    `${DEPLOY}.resources.reservations.devices[]`,
    { capabilities: "strings", count: "number|string", device_ids: "strings", driver: "string", options: "keyed" },
    (path, takes) => refused(path, takes, NO_DEVICES),
  ),

  applied(`${DEPLOY}.restart_policy`, "mapping", "When the agent starts a replica again; wins over restart:."),
  applied(`${DEPLOY}.restart_policy.condition`, "string", "any (also the default), on-failure or none."),
  applied(`${DEPLOY}.restart_policy.delay`, "string", "First wait before a restart; it doubles up to 5 minutes. Unset: 1 s."),
  applied(`${DEPLOY}.restart_policy.max_attempts`, "number", "Restarts allowed within window; 0 or unset: no limit."),
  applied(`${DEPLOY}.restart_policy.window`, "string", "The time that max_attempts counts over. Unset: all time."),

  applied(`${DEPLOY}.placement`, "mapping", "Which nodes."),
  applied(
    `${DEPLOY}.placement.constraints`,
    "strings",
    "node.labels.KEY, node.hostname, node.id and node.platform.arch with == or !=. node.role==worker and node.platform.os==linux hold for every node; node.role==manager, node.ip and engine.labels are refused. More operators: x-berth.",
  ),
  applied(`${DEPLOY}.placement.preferences`, "list", "Even out over the values of attributes, in order."),
  applied(`${DEPLOY}.placement.preferences[]`, "mapping", "One preference."),
  applied(`${DEPLOY}.placement.preferences[].spread`, "string", "node.labels.KEY, or any key that x-berth's spreadBy takes."),
  applied(`${DEPLOY}.placement.max_replicas_per_node`, "number", "At most this many replicas on one node; 0 or unset: no limit."),
];
