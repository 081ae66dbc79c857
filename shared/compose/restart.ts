/** `restart` and `deploy.restart_policy`, which wins. Unset means always: berth keeps running what it was given. */
import type { RestartPolicy } from "../model/app.ts";
import type { Section } from "./section.ts";

const CONDITIONS: Readonly<Record<string, RestartPolicy["condition"]>> = { any: "always", "on-failure": "on-failure", none: "no" };

export const saysRestart = (service: Section): boolean => service.has("restart") || service.section("deploy").has("restart_policy");

export function restartOf(service: Section): Partial<RestartPolicy> {
  const deploy = service.section("deploy");
  return deploy.has("restart_policy") ? policyOf(deploy.section("restart_policy")) : plainRestart(service);
}

function plainRestart(service: Section): Partial<RestartPolicy> {
  const restart = service.text("restart");
  if (restart === undefined || restart.value === "always" || restart.value === "unless-stopped") return {};
  if (restart.value === "no") return { condition: "no" };
  const match = /^on-failure(?::([0-9]{1,7}))?$/.exec(restart.value);
  if (match === null) {
    service.wrong(restart, `"${restart.value}" is no restart policy`, 'write always, "no", on-failure, on-failure:5 or unless-stopped');
    return {};
  }
  const attemptsMax = Number(match[1] ?? 0);
  return { condition: "on-failure", ...(attemptsMax === 0 ? {} : { attemptsMax }) };
}

function policyOf(policy: Section): Partial<RestartPolicy> {
  const word = policy.text("condition");
  const condition = CONDITIONS[word?.value ?? "any"];
  if (word !== undefined && condition === undefined) policy.wrong(word, `"${word.value}" is no condition`, "write any, on-failure or none");
  const attemptsMax = policy.integer("max_attempts")?.value ?? 0;
  const windowMs = policy.durationMs("window")?.value ?? 0;
  const delayMs = policy.durationMs("delay")?.value;
  return {
    condition: condition ?? "always",
    ...(attemptsMax === 0 ? {} : { attemptsMax }),
    ...(windowMs === 0 ? {} : { windowMs }),
    ...(delayMs === undefined ? {} : { delayMs }),
  };
}
