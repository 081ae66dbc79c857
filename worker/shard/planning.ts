/** What the planner's loop drives in production: the kept snapshot, the pure planner with its linter, the store's compare-and-set. */
import type { DeploymentId } from "../../shared/model/name.ts";
import { lintPlan } from "../../shared/plan/lint-plan.ts";
import { planCluster } from "../../shared/plan/plan-cluster.ts";
import type { Snapshots } from "../snapshots.ts";
import { PlanApplier } from "../store/apply-plan.ts";
import type { Store } from "../store/store.ts";
import type { Planning } from "./planner.ts";

export interface PlanningParts {
  readonly store: Store;
  readonly snapshots: Snapshots;
  /** Makes a forward revision with an earlier one's spec; must do nothing when a newer deploy has come since. */
  readonly rollBack: (deployment: DeploymentId) => Promise<void>;
}

export function makePlanning({ store, snapshots, rollBack }: PlanningParts): Planning {
  const applier = new PlanApplier(store);
  return {
    use: async (take) => await snapshots.use(take),
    plan: planCluster,
    lint: lintPlan,
    apply: (snapshot, plan, width) => applier.apply(snapshot, plan, width),
    rollBack,
  };
}
