/** Where in the Compose file a field of the app came from, so that the model's own refusals get a line and a column. */

/** Fields of a service whose key has another name. */
const KEYS: Readonly<Record<string, string>> = {
  "workload.env": "environment",
  "workload.mounts": "volumes",
  "workload.pullPolicy": "pull_policy",
  "workload.workingDir": "working_dir",
  "workload.groupAdd": "group_add",
  "workload.stdinOpen": "stdin_open",
  "workload.readOnly": "read_only",
  "workload.capAdd": "cap_add",
  "workload.capDrop": "cap_drop",
  "workload.securityOpt": "security_opt",
  "workload.shmBytes": "shm_size",
  "workload.oomScoreAdj": "oom_score_adj",
  "workload.oomKillDisable": "oom_kill_disable",
  "workload.extraHosts": "extra_hosts",
  "workload.dnsSearch": "dns_search",
  "workload.dnsOptions": "dns_opt",
  "workload.networkMode": "network_mode",
  "workload.aliases": "networks",
  "workload.restart.attemptsMax": "deploy.restart_policy.max_attempts",
  "workload.cgroupns": "cgroup",
  "workload.healthcheck.intervalMs": "healthcheck.interval",
  "workload.healthcheck.timeoutMs": "healthcheck.timeout",
  "workload.healthcheck.startPeriodMs": "healthcheck.start_period",
  "workload.healthcheck.startIntervalMs": "healthcheck.start_interval",
  "workload.stopSignal": "stop_signal",
  "workload.stopGraceMs": "stop_grace_period",
  "workload.limits.memoryBytes": "mem_limit",
  "workload.limits.cpuMillis": "cpus",
  "workload.limits.pids": "pids_limit",
  "workload.limits.memorySwapBytes": "memswap_limit",
  "workload.limits.memorySwappiness": "mem_swappiness",
  "workload.limits.memoryReservationBytes": "mem_reservation",
  "workload.limits.cpuShares": "cpu_shares",
  "workload.limits.cpuset": "cpuset",
  reservation: "deploy.resources.reservations",
  placement: "deploy.placement",
  "placement.spreadBy": "deploy.placement.preferences",
  "placement.maxPerNode": "deploy.placement.max_replicas_per_node",
  "update.parallelism": "deploy.update_config.parallelism",
  "update.delayMs": "deploy.update_config.delay",
  "update.minHealthyMs": "deploy.update_config.monitor",
  "update.maxSurge": "x-berth.maxSurge",
  "update.maxUnavailable": "x-berth.maxUnavailable",
  "update.canaries": "x-berth.canaries",
  replicas: "deploy.replicas",
  dependsOn: "depends_on",
};

/** Of the alternatives that Compose has for one thing, the ones under `deploy`. */
const ALTERNATIVES: Readonly<Record<string, string>> = {
  mem_limit: "deploy.resources.limits.memory",
  cpus: "deploy.resources.limits.cpus",
  pids_limit: "deploy.resources.limits.pids",
  "deploy.replicas": "scale",
  restart: "deploy.restart_policy",
};

/** The key paths to look for, best first, as lists of keys from the top of the file. */
export function composePlaces(specPath: readonly PropertyKey[]): string[][] {
  const parts = specPath.map(String);
  const [section = "", name = "", ...field] = parts;
  if (section !== "services" || field.length === 0) return [parts, parts.slice(0, 2)];
  for (let length = field.length; length > 0; length -= 1) {
    const prefix = field.slice(0, length).join(".");
    const known = KEYS[prefix];
    if (known === undefined) continue;
    const rest = field.slice(length);
    const main = [section, name, ...known.split("."), ...rest];
    const other = ALTERNATIVES[known];
    return other === undefined ? [main] : [main, [section, name, ...other.split("."), ...rest]];
  }
  const plain = field[0] === "workload" ? field.slice(1) : field;
  const other = ALTERNATIVES[plain[0] ?? ""];
  return [[section, name, ...plain], ...(other === undefined ? [] : [[section, name, ...other.split(".")]])];
}
