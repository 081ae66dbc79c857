/**
 * The planner's view of the cluster, kept in memory and moved forward by the change feed.
 *
 * `advance` brings it to one consistent instant of the database and shows it. What it shows is views, not copies: good
 * until the next `advance`. A change that nobody told of is only late, because each `advance` asks the database for all
 * that differs, whoever wrote it.
 */
import type { DeploymentId, NodeId } from "../../shared/model/name.ts";
import type {
  AppState,
  ClusterSnapshot,
  DeploymentState,
  NodeState,
  ServiceState,
  SiteState,
  UnresolvedImage,
  VolumeDropState,
  VolumeState,
} from "../../shared/plan/snapshot.ts";
import { REPLICA_STATES, type ReplicaState } from "../../shared/wire/report.ts";
import { CURSORS_AT_START, type Cursors, type FeedPage, type FeedRow, readFeed } from "./feed.ts";
import { IndexedList } from "./indexed-list.ts";
import { ReplicaColumns } from "./replica-columns.ts";
import {
  type LatestDeployment,
  rowToApp,
  rowToDeployment,
  rowToImage,
  rowToNode,
  rowToService,
  rowToVolume,
  rowToVolumeDrop,
  type ImageState,
  type NodeRow,
} from "./snapshot-rows.ts";
import { SpecInfos } from "./spec-info.ts";
import type { Store } from "./store.ts";

/** Forget specs that nothing runs when so many more are known than services are. */
const SPECS_SPARE = 10_000;
/** Less than this a clock is corrected now and then, and nothing waits so exactly. */
const PUT_BACK_MS = 1_000;
const STATE_INDEX: ReadonlyMap<unknown, number> = new Map(REPLICA_STATES.map((state: ReplicaState, i) => [state, i]));

const imageKey = (appId: string, revision: number, reference: string) => `${appId} ${revision} ${reference}`;
const serviceKey = (appId: string, name: string) => `${appId} ${name}`;

interface Reported {
  /** 0: it has none that is complete. */
  readonly session: number;
  readonly engineReachable: boolean;
}

export class SnapshotKeeper {
  readonly #store: Store;
  readonly #pageRowsMax: number | undefined;
  readonly #specs: SpecInfos;
  #cursors: Cursors = CURSORS_AT_START;
  #shown: ClusterSnapshot | null = null;

  readonly #sites = new Map<string, SiteState>();
  readonly #apps = new Map<string, AppState>();
  /** Newest of each app. */
  readonly #deployments = new Map<string, LatestDeployment>();
  /** Whose newest deployment it is, by id: an app that goes takes a tombstone with it for each of its deployments. */
  readonly #appOfDeployment = new Map<string, string>();
  readonly #volumes = new Map<string, VolumeState>();
  readonly #volumeDrops = new Map<string, VolumeDropState>();
  readonly #images = new Map<string, ImageState>();
  readonly #nodeRows = new Map<string, NodeRow>();
  /** What a node last reported, by node: from another table than the node, and before or after it. */
  readonly #reports = new Map<string, Reported>();
  readonly #nodes = new IndexedList<NodeState>();
  readonly #services = new IndexedList<ServiceState>();
  readonly #replicas = new ReplicaColumns();
  /** Some replica's index into nodes or services may be off. */
  #isIndexStale = false;
  #hasOrphans = false;
  /** `app revision` whose images are others now than replicas and services show. */
  readonly #imagesChanged = new Set<string>();
  /** The newest time that a row shows. */
  #newestMs = 0;

  /** `pageRowsMax` makes pages of the feed smaller, for tests. */
  constructor(store: Store, pageRowsMax?: number) {
    this.#store = store;
    this.#pageRowsMax = pageRowsMax;
    this.#specs = new SpecInfos(store);
  }

  /** The cluster as it is now, and the database's clock then. One call at a time, and its last answer must be done with. */
  async advance(): Promise<{ readonly snapshot: ClusterSnapshot; readonly nowMs: number }> {
    const { rev, observed, nowMs } = await this.#store.marks();
    const isCurrent = rev < this.#cursors.replicas.at && observed < this.#cursors.observations.at;
    if (this.#shown !== null && isCurrent && !this.#isAhead(nowMs)) return { snapshot: this.#shown, nowMs };
    this.#shown = null;
    for (;;) {
      const page = await readFeed(this.#store, this.#cursors, this.#pageRowsMax);
      if (page === "lost") {
        this.#forget();
        continue;
      }
      await this.#specs.load(page.rows.replicas.map((row) => row[5] as string));
      this.#apply(page);
      this.#cursors = page.cursors;
      if (!page.isLast) continue;
      if (this.#isAhead(page.nowMs)) this.#putBack(page.nowMs);
      return { snapshot: this.#show(page.rev), nowMs: page.nowMs };
    }
  }

  #isAhead(nowMs: number): boolean {
    return this.#newestMs > nowMs + PUT_BACK_MS;
  }

  /**
   * The database's clock was put back. What it showed before counts from now: whoever waited until it is there again would
   * wait for as long as it was wrong.
   */
  #putBack(nowMs: number): void {
    const { assignedMs, readySinceMs, length } = this.#replicas;
    for (let at = 0; at < length; at++) {
      assignedMs[at] = Math.min(assignedMs[at]!, nowMs);
      readySinceMs[at] = Math.min(readySinceMs[at]!, nowMs);
    }
    for (const [appId, deployment] of this.#deployments)
      this.#deployments.set(appId, {
        ...deployment,
        startedMs: Math.min(deployment.startedMs, nowMs),
        resumedMs: Math.min(deployment.resumedMs, nowMs),
      });
    this.#newestMs = nowMs;
  }

  #forget(): void {
    this.#cursors = CURSORS_AT_START;
    this.#replicas.clear();
    for (const held of [this.#sites, this.#apps, this.#deployments, this.#volumes, this.#volumeDrops, this.#images]) held.clear();
    for (const held of [this.#appOfDeployment, this.#nodeRows, this.#reports]) held.clear();
    this.#nodes.clear();
    this.#services.clear();
    this.#imagesChanged.clear();
  }

  #apply({ rows, gone }: FeedPage): void {
    for (const [kind, key] of gone) this.#remove(kind, key);
    for (const row of rows.sites) this.#sites.set(row[0] as string, { name: row[0] as string, labels: row[1] as SiteState["labels"] });
    for (const row of rows.nodes) this.#putNode(rowToNode(row));
    for (const [nodeId, session, complete, isEngineReachable] of rows.nodeReports)
      this.#putReported(nodeId as string, { session: complete === 1 ? (session as number) : 0, engineReachable: isEngineReachable === 1 });
    for (const row of rows.apps) this.#apps.set(row[0] as string, rowToApp(row));
    for (const row of rows.images) this.#putImage(row);
    for (const row of rows.services) this.#putService(rowToService(row));
    for (const row of rows.deployments) this.#putDeployment(rowToDeployment(row));
    for (const row of rows.volumes) this.#volumes.set(row.slice(0, 5).join(" "), rowToVolume(row));
    for (const row of rows.volumeDrops) this.#volumeDrops.set(row.slice(0, 2).join(" "), rowToVolumeDrop(row));
    for (const row of rows.replicas) this.#putReplica(row);
    for (const [replica, state, readySinceMs, restarts, fault] of rows.observations)
      this.#observe(this.#replicas.find(replica as string), [state, readySinceMs, restarts, fault]);
  }

  #remove(kind: string, key: string): void {
    // Keys of one column are the value itself, of several a JSON array of them.
    if (kind === "sites") this.#sites.delete(key);
    else if (kind === "apps") this.#apps.delete(key);
    else if (kind === "replicas") this.#replicas.remove(key);
    else if (kind === "nodes") this.#removeNode(key);
    else if (kind === "services") this.#removeService(JSON.parse(key) as [string, string]);
    else if (kind === "volumes") this.#volumes.delete((JSON.parse(key) as string[]).join(" "));
    else if (kind === "volumeDrops") this.#volumeDrops.delete((JSON.parse(key) as string[]).join(" "));
    else if (kind === "images") this.#removeImage(JSON.parse(key) as [string, number, string]);
    else if (kind === "deployments") this.#removeDeployment(key);
  }

  #putNode(row: NodeRow): void {
    const { id } = row.state;
    this.#nodeRows.set(id, row);
    const report = this.#reports.get(id);
    const state = { ...row.state, reported: report?.session === row.session, engineReachable: report?.engineReachable === true };
    if (this.#nodes.put(id, state) && this.#hasOrphans) this.#isIndexStale = true;
  }

  #putReported(nodeId: string, reported: Reported): void {
    this.#reports.set(nodeId, reported);
    const row = this.#nodeRows.get(nodeId);
    if (row) this.#putNode(row);
  }

  #removeNode(id: string): void {
    this.#nodeRows.delete(id);
    this.#reports.delete(id);
    if (this.#nodes.remove(id)) this.#isIndexStale = true;
  }

  #putService(service: ServiceState): void {
    const state = { ...service, ...this.#resolved(service.appId, service.revision, service.planning.imageReference) };
    if (this.#services.put(serviceKey(service.appId, service.name), state) && this.#hasOrphans) this.#isIndexStale = true;
  }

  #removeService([appId, name]: [string, string]): void {
    if (this.#services.remove(serviceKey(appId, name))) this.#isIndexStale = true;
  }

  #putImage(row: FeedRow): void {
    const [appId, revision, reference] = row as readonly [string, number, string];
    this.#images.set(imageKey(appId, revision, reference), rowToImage(row));
    this.#imagesChanged.add(`${appId} ${revision}`);
  }

  #removeImage([appId, revision, reference]: [string, number, string]): void {
    this.#images.delete(imageKey(appId, revision, reference));
    this.#imagesChanged.add(`${appId} ${revision}`);
  }

  #resolved(appId: string, revision: number, reference: string): ImageState {
    return this.#images.get(imageKey(appId, revision, reference)) ?? { image: "", resolver: null };
  }

  #putDeployment(deployment: LatestDeployment): void {
    const held = this.#deployments.get(deployment.appId);
    if (held && deployment.revision < held.revision) return;
    if (held) this.#appOfDeployment.delete(held.id);
    this.#newestMs = Math.max(this.#newestMs, deployment.startedMs);
    this.#deployments.set(deployment.appId, deployment);
    this.#appOfDeployment.set(deployment.id, deployment.appId);
  }

  #removeDeployment(id: string): void {
    const appId = this.#appOfDeployment.get(id);
    if (appId !== undefined) this.#deployments.delete(appId);
    this.#appOfDeployment.delete(id);
  }

  #putReplica(row: FeedRow): void {
    const [id, appId, service, slot, nodeId, specHash, revision, run, assignedMs, attempt, state, readySinceMs, restarts, fault, rev] =
      row as readonly [
        string,
        string,
        string,
        string,
        string,
        string,
        number,
        number,
        number,
        number,
        unknown,
        unknown,
        unknown,
        unknown,
        number,
      ];
    const spec = this.#specs.get(specHash);
    const serviceIndex = this.#services.place(serviceKey(appId, service));
    const nodeIndex = this.#nodes.place(nodeId);
    // The long-lived copies of strings that many replicas share.
    const kept = this.#services.items[serviceIndex];
    const at = this.#replicas.put({
      id,
      appId: kept?.appId ?? appId,
      service: kept?.name ?? service,
      slot,
      nodeId: this.#nodes.items[nodeIndex]?.id ?? nodeId,
      spec,
      revision,
      run: run === 1,
      assignedMs,
      attempt,
      rev,
    });
    this.#newestMs = Math.max(this.#newestMs, assignedMs);
    this.#replicas.serviceIndex[at] = serviceIndex;
    this.#replicas.nodeIndex[at] = nodeIndex;
    if (serviceIndex === -1 || nodeIndex === -1) this.#hasOrphans = true;
    this.#replicas.image[at] = this.#resolved(appId, revision, spec.imageReference).image;
    this.#observe(at, [state, readySinceMs, restarts, fault]);
  }

  #observe(at: number, [state, readySinceMs, restarts, fault]: readonly unknown[]): void {
    // Seen before its row, or after its end: the row brings what was seen with it.
    if (at === -1) return;
    this.#replicas.state[at] = STATE_INDEX.get(state) ?? 0;
    this.#replicas.readySinceMs[at] = typeof readySinceMs === "number" ? readySinceMs : Number.NaN;
    if (typeof readySinceMs === "number") this.#newestMs = Math.max(this.#newestMs, readySinceMs);
    this.#replicas.fault[at] = typeof fault === "string" ? fault : "";
    this.#replicas.restarts[at] = typeof restarts === "number" ? restarts : 0;
  }

  #show(rev: number): ClusterSnapshot {
    if (this.#imagesChanged.size > 0) this.#showImages();
    if (this.#isIndexStale) this.#reindex();
    if (this.#specs.size > this.#services.items.length + SPECS_SPARE) this.#specs.retain(new Set(this.#replicas.spec));
    const deployments: DeploymentState[] = [];
    const failed: { appId: AppState["id"]; revision: number }[] = [];
    const rollbacks: DeploymentId[] = [];
    for (const { state, rollbackTo, halted, ...deployment } of this.#deployments.values()) {
      if (state === "running") deployments.push(deployment);
      if (state === "failed" || halted) failed.push({ appId: deployment.appId, revision: deployment.revision });
      if (state === "failed" && rollbackTo !== null && this.#apps.get(deployment.appId)?.deleting === false) rollbacks.push(deployment.id);
    }
    this.#shown = {
      rev,
      sites: [...this.#sites.values()],
      nodes: this.#nodes.items,
      apps: [...this.#apps.values()],
      services: this.#services.items,
      deployments,
      failed,
      rollbacks,
      volumes: [...this.#volumes.values()],
      volumeDrops: [...this.#volumeDrops.values()],
      unresolved: this.#unresolved(),
      replicas: this.#replicas.table(),
    };
    return this.#shown;
  }

  #unresolved(): UnresolvedImage[] {
    const { appId, revision, spec, image, length } = this.#replicas;
    const found = new Map<string, UnresolvedImage>();
    for (let at = 0; at < length; at++) {
      if (image[at] !== "") continue;
      const of = { appId: appId[at] as AppState["id"], revision: revision[at]!, spec: spec[at]! };
      const reference = this.#specs.get(of.spec).imageReference;
      found.set(`${of.appId} ${of.revision} ${of.spec}`, {
        ...of,
        reference,
        resolver: this.#resolved(of.appId, of.revision, reference).resolver,
      });
    }
    return [...found.values()];
  }

  /** One pass over everything for any number of resolutions: they come a few at a deployment. */
  #showImages(): void {
    const { appId, revision, spec, image, length } = this.#replicas;
    for (let at = 0; at < length; at++) {
      if (!this.#imagesChanged.has(`${appId[at]} ${revision[at]}`)) continue;
      image[at] = this.#resolved(appId[at]!, revision[at]!, this.#specs.get(spec[at]!).imageReference).image;
    }
    for (const service of this.#services.items)
      if (this.#imagesChanged.has(`${service.appId} ${service.revision}`)) this.#putService(service);
    this.#imagesChanged.clear();
  }

  #reindex(): void {
    const { appId, service, nodeId, serviceIndex, nodeIndex, length } = this.#replicas;
    this.#hasOrphans = false;
    for (let at = 0; at < length; at++) {
      serviceIndex[at] = this.#services.place(serviceKey(appId[at]!, service[at]!));
      nodeIndex[at] = this.#nodes.place(nodeId[at] as NodeId);
      if (serviceIndex[at] === -1 || nodeIndex[at] === -1) this.#hasOrphans = true;
    }
    this.#isIndexStale = false;
  }
}
