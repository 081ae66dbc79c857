/** `depends_on` and `links` → dependencies between the services that take part. */
import type { ServiceSpec } from "../model/app.ts";
import type { Problems } from "./problem.ts";
import type { Section } from "./section.ts";
import type { Mark } from "./tree.ts";

type DependsOn = ServiceSpec["dependsOn"];
export type Parties = {
  /** Services of the app once profiles have spoken. */
  active: ReadonlySet<string>;
  /** All services of the files. */
  known: ReadonlySet<string>;
};

export function dependenciesOf(
  service: Section,
  links: readonly { service: string; at: Mark; path: string }[],
  parties: Parties,
): DependsOn {
  const dependsOn = new Map<string, DependsOn[string]>();
  for (const { name, at, section } of service.named("depends_on")) {
    const required = section.boolean("required") ?? true;
    const condition = conditionOf(section);
    const place = { at, path: section.path };
    if (parties.active.has(name)) dependsOn.set(name, { condition, required });
    else if (!required) continue;
    else missing(service, name, { place, parties });
  }
  for (const link of links) {
    if (!parties.active.has(link.service)) missing(service, link.service, { place: link, parties });
    else if (!dependsOn.has(link.service)) dependsOn.set(link.service, { condition: "started", required: true });
  }
  return Object.fromEntries(dependsOn);
}

function conditionOf(dependency: Section): DependsOn[string]["condition"] {
  const condition = dependency.text("condition");
  switch (condition?.value) {
    case undefined:
    case "service_started":
      return "started";
    case "service_healthy":
      return "healthy";
    case "service_completed_successfully":
      return "completed";
    default:
      dependency.wrong(
        condition as NonNullable<typeof condition>,
        `"${condition?.value}" is no condition`,
        "write service_started, service_healthy or service_completed_successfully",
      );
      return "started";
  }
}

function missing(service: Section, name: string, at: { place: { at: Mark; path: string }; parties: Parties }): void {
  const left = at.parties.known.has(name);
  service.complain("undefined_reference", at.place, {
    message: left ? `the service "${name}" is left out by its profiles` : `there is no service "${name}"`,
    mend: left ? `choose a profile of ${name} with --profile, or add required: false` : "check the name",
  });
}

/** Every dependency must be able to come first. Depth-first with colours; a loop, since a chain may be 500 long. */
export function checkCircles(services: ReadonlyMap<string, { dependsOn: readonly string[]; at: Mark }>, problems: Problems): void {
  const done = new Set<string>();
  for (const start of services.keys()) {
    const path: string[] = [];
    const pending: { name: string; leave: boolean }[] = [{ name: start, leave: false }];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { name, leave } = next;
      if (leave) {
        path.pop();
        done.add(name);
        continue;
      }
      if (done.has(name)) continue;
      const loop = path.indexOf(name);
      if (loop >= 0) {
        const at = services.get(name)?.at;
        if (at !== undefined)
          problems.add({
            code: "dependency_cycle",
            at,
            path: `services.${name}.depends_on`,
            message: `services depend on each other in a circle: ${[...path.slice(loop), name].join(" → ")}`,
            mend: "take one of these dependencies away",
          });
        continue;
      }
      path.push(name);
      pending.push({ name, leave: true });
      for (const dependency of services.get(name)?.dependsOn ?? []) pending.push({ name: dependency, leave: false });
    }
  }
}
