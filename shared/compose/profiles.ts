/** Which services take part: those without profiles, and those with one that is chosen (`*` chooses all). */
import { Section } from "./section.ts";
import type { Problems } from "./problem.ts";
import type { Report } from "./report.ts";
import { child, type Mapping } from "./tree.ts";

export function activeServices(
  project: Mapping,
  chosen: readonly string[],
  telling: { problems: Problems; report: Report },
): { active: Set<string>; known: Set<string> } {
  const services = child(project, "services");
  const known = new Set<string>();
  const active = new Set<string>();
  if (services?.kind !== "mapping") return { active, known };
  for (const [name, entry] of services.entries) {
    known.add(name);
    const profiles = new Section(entry.value, `services.${name}`, telling).strings("profiles").map(({ value }) => value);
    if (profiles.length === 0 || chosen.includes("*") || profiles.some((profile) => chosen.includes(profile))) active.add(name);
  }
  return { active, known };
}
