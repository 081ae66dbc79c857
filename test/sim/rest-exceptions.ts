/** What need not be as it is wanted though nothing goes wrong: too few nodes would take it, or it has ended, or waits its turn. */
import { admits } from "../../shared/model/constraint.ts";
import { type HostPort, portsClash } from "../../shared/model/host-port.ts";
import type { ReplicaSpec } from "../../shared/model/app.ts";
import type { ServicePlanning } from "../../shared/plan/snapshot.ts";
import { backoffEndsMs } from "../../shared/rollout/backoff.ts";
import type { SimDatabase } from "./database.ts";

/** A plan and a manifest after the end of a back-off. */
const PLACED_WITHIN_MS = 15_000;

interface Service {
  readonly appId: string;
  readonly name: string;
  readonly replicas: number;
  readonly planning: ServicePlanning;
}

interface Node {
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value: string }[];
}

/** A service that cannot have all its replicas, whatever is tried. */
export function mayLack(database: SimDatabase, appId: string, name: string): boolean {
  const services = database.look("select app_id, name, replicas, planning from services where removed = 0 and mode = 'replicated'").map(
    (row): Service => ({
      appId: String(row.app_id),
      name: String(row.name),
      replicas: Number(row.replicas),
      planning: JSON.parse(String(row.planning)) as ServicePlanning,
    }),
  );
  const service = services.find((one) => one.appId === appId && one.name === name);
  if (service === undefined) return false;
  const { planning } = service;
  const nodes = database
    .look(
      "select labels, taints from nodes where status = 'ready' and availability = 'active' and quarantined = 0 and admission = 'admitted'",
    )
    .map(
      (row): Node => ({
        labels: JSON.parse(String(row.labels)) as Node["labels"],
        taints: JSON.parse(String(row.taints)) as Node["taints"],
      }),
    );
  const room = nodes.filter((node) => takes(node, planning)).length;
  const rivals = services.filter((other) => clashes(planning.hostPorts, other.planning.hostPorts));
  if (rivals.length > 0 && rivals.reduce((sum, rival) => sum + rival.replicas - endedOf(database, rival), 0) > room) return true;
  return service.replicas > room * (planning.maxPerNode ?? Number.POSITIVE_INFINITY) || (room === 0 && service.replicas > 0);
}

/** Slots that need no room any more. */
function endedOf(database: SimDatabase, { appId, name }: Service): number {
  return database.look(`
    select 1 from replicas r join observations o on o.replica = r.id
    where r.app_id = '${appId}' and r.service = '${name}' and r.desired = 'run' and o.state in ('completed', 'failed')`).length;
}

function takes({ labels, taints }: Node, { constraints, tolerations }: ServicePlanning): boolean {
  const isAdmitted = constraints.every((constraint) => admits(constraint, labels[constraint.key.replace("node.labels.", "")]));
  return isAdmitted && taints.every(({ key }) => tolerations.some((one) => one.key === key));
}

const clashes = (ports: readonly HostPort[], others: readonly HostPort[]): boolean =>
  ports.some((port) => others.some((other) => portsClash(port, other)));

interface Replica {
  readonly assignedMs: number;
  readonly attempt: number;
  readonly state: string | null;
  readonly workload: ReplicaSpec["workload"];
}

function replicas(database: SimDatabase, where = ""): Replica[] {
  return database
    .look(
      `select r.assigned_ms, r.attempt, o.state, b.body from replicas r join bodies b on b.hash = r.spec left join observations o on o.replica = r.id ${where}`,
    )
    .map((row) => ({
      assignedMs: Number(row.assigned_ms),
      attempt: Number(row.attempt),
      state: row.state === null ? null : String(row.state),
      workload: (JSON.parse(String(row.body)) as ReplicaSpec).workload,
    }));
}

/** It does not run although it is wanted, and that is as it shall be. */
export function mayRest(database: SimDatabase, id: string): boolean {
  const [replica] = replicas(database, `where r.id = '${id}'`);
  if (replica === undefined) return false;
  const { state, workload } = replica;
  const isOver = workload.restart.condition !== "always" && (state === "completed" || state === "failed");
  return isOver || isUnsound(replica, database.clockMs);
}

/** Something that is wanted never comes to rest, or was rejected and tried elsewhere in the last `withinMs`. */
export function hasUnsound(database: SimDatabase, withinMs: number): boolean {
  const { clockMs } = database;
  const rejected = database.look(`select 1 from ended_replicas where state = 'rejected' and ended_ms > ${clockMs - withinMs}`);
  return rejected.length > 0 || replicas(database).some((replica) => isUnsound(replica, clockMs));
}

/** Its image ends by itself again and again, or is in no registry, or a node has rejected it and it waits for the next. */
function isUnsound({ assignedMs, attempt, state, workload }: Replica, nowMs: number): boolean {
  if (state === "rejected") return nowMs <= backoffEndsMs(assignedMs, attempt) + PLACED_WITHIN_MS;
  if (attempt > 0 && nowMs <= assignedMs + PLACED_WITHIN_MS) return true;
  if (workload.image.endsWith(":missing")) return true;
  return workload.restart.condition === "always" && /:(?:crash|job)1$/.test(workload.image);
}
