/** `deploy.placement`, `platform` and the placement words of `x-berth` → placement. */
import type { Constraint, Placement } from "../model/app.ts";
import type { BerthExtension } from "./x-berth.ts";
import type { Found, Section } from "./section.ts";

/** Swarm's names for what nodes of berth have under another. */
const KEYS: Readonly<Record<string, string>> = {
  "node.id": "node.id",
  "node.hostname": "node.hostname",
  "node.platform.os": "node.os",
  "node.platform.arch": "node.arch",
};
/** Swarm writes machines as uname does, images as Go does; nodes report Go's words. */
export const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  aarch64: "arm64",
  armv7l: "arm",
  armhf: "arm",
  i386: "386",
};

export function placementOf(service: Section, extension: BerthExtension): Partial<Placement> {
  const placement = service.section("deploy").section("placement");
  const constraints = [
    ...placement.strings("constraints").flatMap((found) => constraintOf(found, placement)),
    ...platformOf(service),
    ...extension.constraints,
  ];
  const spreadBy = [...placement.items("preferences").flatMap((item) => spreadOf(placement.within(item))), ...extension.spreadBy];
  const maxPerNode = placement.integer("max_replicas_per_node")?.value ?? 0;
  return {
    ...(constraints.length === 0 ? {} : { constraints }),
    ...(extension.tolerations.length === 0 ? {} : { tolerations: extension.tolerations }),
    ...(extension.strategy === undefined ? {} : { strategy: extension.strategy }),
    ...(spreadBy.length === 0 ? {} : { spreadBy: [...new Set(spreadBy)] }),
    ...(maxPerNode === 0 ? {} : { maxPerNode }),
  };
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
  const name = key.startsWith("node.labels.") ? key : KEYS[key];
  if (name === undefined) {
    placement.refuse(
      found,
      `nodes have no ${key}`,
      "use node.labels.KEY, node.hostname, node.id, node.platform.os or node.platform.arch; for sites, x-berth with node.site or site.labels.KEY",
    );
    return [];
  }
  const wanted = name === "node.arch" ? (ARCHITECTURES[value.trim()] ?? value.trim()) : value.trim();
  return [{ key: name, operator: operator === "==" ? "=" : "!=", values: [wanted] }];
}

function spreadOf(preference: Section): string[] {
  const spread = preference.text("spread");
  if (spread === undefined) return [];
  const key =
    spread.value.startsWith("node.labels.") || spread.value.startsWith("site.labels.")
      ? spread.value
      : (KEYS[spread.value] ?? (spread.value === "node.site" ? spread.value : undefined));
  if (key !== undefined) return [key];
  preference.refuse(spread, `nodes have no ${spread.value} to spread over`, "use node.labels.KEY, site.labels.KEY or node.site");
  return [];
}

/** `os[/arch[/variant]]`. A variant narrows arm, which nodes do not tell apart. */
function platformOf(service: Section): Constraint[] {
  const platform = service.text("platform");
  if (platform === undefined) return [];
  const [first = "", second, variant] = platform.value.split("/");
  const os = second === undefined && first !== "linux" && first !== "windows" ? "linux" : first;
  const arch = second ?? (first === os ? undefined : first);
  if (os !== "linux" || platform.value.split("/").length > 3) {
    service.refuse(platform, `berth's nodes run Linux, not ${platform.value}`, "write linux/amd64 or linux/arm64");
    return [];
  }
  if (variant !== undefined && !(arch === "arm64" && variant === "v8"))
    service.approximated(platform, `Placed on ${arch} nodes; the variant ${variant} has no effect on placement.`);
  const osConstraint: Constraint = { key: "node.os", operator: "=", values: [os] };
  return arch === undefined ? [osConstraint] : [osConstraint, { key: "node.arch", operator: "=", values: [ARCHITECTURES[arch] ?? arch] }];
}
