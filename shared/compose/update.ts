/** Mode, count and rollout: `deploy.mode`, `replicas`, `scale`, `update_config`, and `x-berth`'s words on them. */
import type { ServiceSpec, UpdatePolicy } from "../model/app.ts";
import type { BerthExtension } from "./x-berth.ts";
import type { Section } from "./section.ts";

/** `parallelism: 0` means all at once; the model's most. */
const PARALLELISM_ALL = 100_000;

export function modeOf(service: Section): Pick<ServiceSpec, "mode" | "replicas"> {
  const deploy = service.section("deploy");
  const mode = deploy.text("mode");
  const replicas = deploy.integer("replicas");
  const scale = service.integer("scale");
  if (replicas !== undefined && scale !== undefined && replicas.value !== scale.value) {
    service.wrong(scale, `scale is ${scale.value}, deploy.replicas is ${replicas.value}`, "keep one of the two");
  }
  const count = replicas ?? scale;
  if (mode?.value === "global") {
    if (count !== undefined)
      service.wrong(
        count,
        "a global service has one replica on every matching node, so it takes no number",
        "remove the number, or mode: global",
      );
    return { mode: "global", replicas: 1 };
  }
  if (mode !== undefined && mode.value !== "replicated") {
    const isJob = mode.value === "replicated-job" || mode.value === "global-job";
    if (isJob) deploy.refuse(mode, "jobs are not there yet", "run it once by hand, or as a service that sleeps between its runs");
    else deploy.wrong(mode, `"${mode.value}" is no mode`, "write replicated or global");
  }
  return { mode: "replicated", replicas: count?.value ?? 1 };
}

export function updateOf(service: Section, extension: BerthExtension): Partial<UpdatePolicy> {
  const config = service.section("deploy").section("update_config");
  const parallelism = config.integer("parallelism")?.value;
  const monitorMs = config.durationMs("monitor")?.value;
  const delayMs = config.durationMs("delay")?.value;
  const ratio = config.number("max_failure_ratio");
  if (ratio !== undefined && (ratio.value < 0 || ratio.value > 1))
    config.wrong(ratio, `${ratio.value} is no ratio`, "write a number from 0 to 1");
  const failureAction = failureActionOf(config);
  const order = extension.order ?? orderOf(config);
  const minHealthyMs = extension.minHealthyMs ?? monitorMs;
  const { healthyDeadlineMs, progressDeadlineMs, maxSurge, maxUnavailable, canaries } = extension;
  return {
    ...(order === undefined ? {} : { order }),
    ...(parallelism === undefined ? {} : { parallelism: parallelism === 0 ? PARALLELISM_ALL : parallelism }),
    ...(delayMs === undefined ? {} : { delayMs }),
    ...(minHealthyMs === undefined ? {} : { minHealthyMs }),
    ...(healthyDeadlineMs === undefined ? {} : { healthyDeadlineMs }),
    ...(progressDeadlineMs === undefined ? {} : { progressDeadlineMs }),
    ...(maxSurge === undefined ? {} : { maxSurge }),
    ...(maxUnavailable === undefined ? {} : { maxUnavailable }),
    ...(canaries === undefined ? {} : { canaries }),
    ...(failureAction === undefined ? {} : { failureAction }),
  };
}

function orderOf(config: Section): UpdatePolicy["order"] | undefined {
  const order = config.text("order");
  if (order === undefined) return undefined;
  if (order.value === "start-first" || order.value === "stop-first") return order.value;
  config.wrong(order, `"${order.value}" is no order`, "write start-first or stop-first");
  return undefined;
}

function failureActionOf(config: Section): UpdatePolicy["failureAction"] | undefined {
  const action = config.text("failure_action");
  if (action === undefined) return undefined;
  if (action.value === "pause" || action.value === "rollback") return action.value;
  if (action.value === "continue") config.refuse(action, "berth never goes on over failing replicas", "write pause or rollback");
  else config.wrong(action, `"${action.value}" is no action`, "write pause or rollback");
  return undefined;
}
