/** `deploy.placement`, `platform` and the placement words of `x-berth` → placement. */
import { Constraint, type Placement } from "../model/app.ts";
import { emptiness, NODE_OS } from "../model/constraint.ts";
import type { BerthExtension } from "./x-berth.ts";
import { nodeArchitecture, SWARM_KEYS } from "./node-words.ts";
import type { Found, Section } from "./section.ts";

const KEYS: ReadonlyMap<string, string> = new Map([["node.id", "node.id"], ["node.hostname", "node.hostname"], ...SWARM_KEYS]);
export function placementOf(service: Section, extension: BerthExtension): Partial<Placement> {
  const placement = service.section("deploy").section("placement");
  const constraints = [
    ...placement.strings("constraints").flatMap((found) => constraintOf(found, placement)),
    ...platformOf(service),
    ...extension.constraints,
  ];
  const counts = service.section("deploy").text("mode")?.value === "global" ? noCounts(service, extension) : countsOf(placement, extension);
  return {
    ...(constraints.length === 0 ? {} : { constraints }),
    ...(extension.tolerations.length === 0 ? {} : { tolerations: extension.tolerations }),
    ...(extension.strategy === undefined ? {} : { strategy: extension.strategy }),
    ...counts,
  };
}

function countsOf(placement: Section, extension: BerthExtension): Partial<Placement> {
  const spreadBy = [...placement.items("preferences").flatMap((item) => spreadOf(placement.within(item))), ...extension.spreadBy];
  const maxPerNode = placement.integer("max_replicas_per_node")?.value ?? 0;
  return {
    ...(spreadBy.length === 0 ? {} : { spreadBy: [...new Set(spreadBy)] }),
    ...(maxPerNode === 0 ? {} : { maxPerNode }),
  };
}

/** Swarm takes them for a global service too, and does nothing with them. */
function noCounts(service: Section, extension: BerthExtension): Partial<Placement> {
  const placement = service.section("deploy").section("placement");
  for (const key of ["preferences", "max_replicas_per_node"]) {
    const found = placement.tree(key);
    if (found !== undefined) placement.approximated(found, "No effect: a global service has one replica on every matching node.");
  }
  const own = service.tree("x-berth");
  if (own !== undefined && extension.spreadBy.length > 0)
    service.approximated(own, "Its spread has no effect: a global service has one replica on every matching node.");
  return {};
}

function constraintOf(found: Found<string>, placement: Section): Constraint[] {
  const match = /^([^=!\s]{1,160})\s{0,8}(==|!=)\s{0,8}(\S.{0,255})$/.exec(found.value.trim());
  const [, key = "", operator = "", value = ""] = match ?? [];
  if (match === null) {
    placement.wrong(found, `"${found.value}" is no constraint`, "write KEY==VALUE or KEY!=VALUE; for more operators use x-berth");
    return [];
  }
  if (key === "node.role") {
    const holds = (value.trim() === "worker") === (operator === "==");
    if (holds) placement.approximated(found, "No effect: every node of berth is a worker.");
    else placement.refuse(found, "berth has no manager nodes", "label the nodes you mean and constrain on node.labels.KEY");
    return [];
  }
  if (key === "node.platform.os") {
    const holds = (value.trim().toLowerCase() === NODE_OS) === (operator === "==");
    if (holds) placement.approximated(found, "No effect: every node of berth runs Linux.");
    else placement.refuse(found, "every node of berth runs Linux", "remove the constraint");
    return [];
  }
  const name = key.startsWith("node.labels.") ? key : KEYS.get(key);
  if (name === undefined || !Constraint.shape.key.safeParse(name).success) {
    placement.refuse(
      found,
      `nodes have no ${key}`,
      "use node.labels.KEY, node.hostname, node.id, node.platform.os or node.platform.arch; for sites, x-berth with node.site or site.labels.KEY",
    );
    return [];
  }
  const wanted = name === "node.arch" ? (nodeArchitecture(value.trim()) ?? value.trim()) : value.trim();
  const constraint: Constraint = { key: name, operator: operator === "==" ? "=" : "!=", values: [wanted] };
  const empty = emptiness(constraint);
  if (empty === null) return [constraint];
  if (operator === "!=") placement.approximated(found, `No effect: ${empty}.`);
  else placement.refuse(found, empty, "remove the constraint, or label the nodes you mean and constrain on node.labels.KEY");
  return [];
}

function spreadOf(preference: Section): string[] {
  const spread = preference.text("spread");
  if (spread === undefined) return [];
  const named =
    spread.value.startsWith("node.labels.") || spread.value.startsWith("site.labels.")
      ? spread.value
      : (KEYS.get(spread.value) ?? (spread.value === "node.site" ? spread.value : undefined));
  const key = named !== undefined && Constraint.shape.key.safeParse(named).success ? named : undefined;
  if (key !== undefined) return [key];
  preference.refuse(spread, `nodes have no ${spread.value} to spread over`, "use node.labels.KEY, site.labels.KEY or node.site");
  return [];
}

/** `os[/arch[/variant]]`. Every node runs Linux, so only the architecture constrains. */
function platformOf(service: Section): Constraint[] {
  const platform = service.text("platform");
  if (platform === undefined) return [];
  const parts = platform.value.split("/");
  const [first = "", second, variant] = parts;
  const arch = second ?? (first === "linux" ? undefined : first);
  const known = arch === undefined ? undefined : nodeArchitecture(arch);
  const isLinux = second === undefined || first === "linux";
  if (!isLinux || parts.length > 3 || (arch !== undefined && known === undefined)) {
    service.refuse(platform, `no node of berth is ${platform.value}: they run Linux on amd64 or arm64`, "write linux/amd64 or linux/arm64");
    return [];
  }
  if (variant !== undefined && !(known === "arm64" && variant === "v8"))
    service.approximated(platform, `Placed on ${arch} nodes; the variant ${variant} has no effect on placement.`);
  return known === undefined ? [] : [{ key: "node.arch", operator: "=", values: [known] }];
}
