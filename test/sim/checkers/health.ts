/** Which replicas serve, and which have ever served, by what truly runs: nothing of it is read from reports. */
import { obtain } from "../../../shared/schedule/obtain.ts";
import type { SimContainer } from "../engine.ts";
import type { Kernel } from "../kernel.ts";
import type { Machine } from "../machine.ts";

export const REPLICA_LABEL = "berth.replica";
export const SPEC_LABEL = "berth.spec";

export class Health {
  readonly #kernel: Kernel;
  /** Containers that run, by replica: a cloned machine can run a second one. */
  readonly #running = new Map<string, Set<SimContainer>>();
  /** When each replica that was healthy ceased to be. */
  readonly #healthyUntilMs = new Map<string, number>();
  readonly #everRan = new Set<string>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  begin(machine: Machine): void {
    for (const container of machine.engine.containers.values()) this.moved(container);
  }

  /** A container began or ceased to run. */
  moved(container: SimContainer): void {
    const replica = container.body.Labels[REPLICA_LABEL];
    if (replica === undefined) return;
    const running = obtain(this.#running, replica, () => new Set<SimContainer>());
    if (container.status === "running") {
      running.add(container);
      this.#everRan.add(replica);
      return;
    }
    if (running.delete(container) && this.#isHealthy(container)) this.#healthyUntilMs.set(replica, this.#kernel.nowMs);
  }

  hasRun(replica: string): boolean {
    return this.#everRan.has(replica);
  }
  hasBeenHealthy(replica: string): boolean {
    return this.#healthyUntilMs.has(replica) || this.isHealthy(replica);
  }
  /** It is, or was until then. */
  wasHealthyAt(replica: string, atMs: number): boolean {
    return (this.#healthyUntilMs.get(replica) ?? -1) >= atMs || this.isHealthy(replica);
  }
  isHealthy(replica: string): boolean {
    for (const container of this.#running.get(replica) ?? []) if (this.#isHealthy(container)) return true;
    return false;
  }

  /** Has been, for as long as it ran: the engine's probes begin with each start. */
  #isHealthy({ body, behaviour, startedMs }: SimContainer): boolean {
    const test = body.Healthcheck?.Test;
    if (test === undefined || test[0] === "NONE") return true;
    return behaviour.healthyAfterMs !== null && this.#kernel.nowMs - startedMs >= behaviour.healthyAfterMs;
  }
}
