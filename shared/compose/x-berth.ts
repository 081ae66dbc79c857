/**
 * `x-berth`: what Compose has no word for. On a service, or at the top of the file for every service. Strict, since a
 * word that does nothing is a defect; the schema below is also what the API serves as JSON Schema.
 */
import { z } from "zod";
import { ATTRIBUTES, Constraint, type Placement, Toleration, type UpdatePolicy } from "../model/app.ts";
import { emptiness } from "../model/constraint.ts";
import { parseDurationMs } from "./durations.ts";
import { nodeArchitecture, SWARM_KEYS } from "./node-words.ts";
import type { Problems } from "./problem.ts";
import type { Report } from "./report.ts";
import { type Entry, type Mark, toData, type Tree } from "./tree.ts";

const ConstraintText = z
  .string()
  .max(512)
  .describe(
    'A condition on the node: "KEY = VALUE", "KEY != VALUE", "KEY in A, B", "KEY notIn A, B", "KEY exists", "KEY notExists", "KEY < NUMBER" or "KEY > NUMBER".',
  );
const TolerationText = z.string().max(400).describe('A taint that is put up with: "KEY", or "KEY=VALUE".');
const DurationText = z.string().max(64).describe("A duration, e.g. 10s or 1m30s.");
const Count = z.number().int().min(0).max(100_000);
const SpreadKey = Constraint.shape.key;

export const XBerth = z
  .strictObject({
    constraints: z
      .array(z.union([ConstraintText, Constraint]))
      .max(64)
      .optional()
      .describe(
        "Conditions that a node must meet, all of them. Keys: node.labels.K, site.labels.K, node.name, node.id, node.site, node.declared.K (labels in the node's own policy.json), node.arch (amd64 or arm64), node.os (linux), node.hostname; the last four are the node's word about itself. What no node can be is refused. < and > compare decimal numbers; a missing or non-numeric label does not match.",
      ),
    tolerations: z
      .array(z.union([TolerationText, Toleration]))
      .max(64)
      .optional()
      .describe("Taints of nodes that keep others away but not this service."),
    strategy: z
      .enum(["spread", "binpack"])
      .optional()
      .describe("spread (default): the emptiest node first. binpack: the fullest that still fits."),
    spreadBy: z.array(SpreadKey).max(4).optional().describe("Even out over the values of these keys first, e.g. node.site."),
    order: z
      .enum(["auto", "start-first", "stop-first"])
      .optional()
      .describe("As deploy.update_config.order, with auto: start-first, or stop-first where a host port or a volume would clash."),
    minHealthy: DurationText.optional().describe(
      "Ready for this long without a break counts as healthy; wins over deploy.update_config.monitor. Unset: 10s.",
    ),
    healthyDeadline: DurationText.optional().describe("A new replica not healthy by then has failed. Unset: 5m."),
    progressDeadline: DurationText.optional().describe(
      "A deployment in which nothing has become healthy for this long has failed. Unset: 10m.",
    ),
    maxSurge: Count.optional().describe(
      "Most slots that have two replicas at a time because they change over. Unset: deploy.update_config.parallelism. 0: the old one stops first.",
    ),
    maxUnavailable: Count.optional().describe(
      "Most slots without a ready replica at a time before another is stopped first. Unset: deploy.update_config.parallelism, and only where the old one has to stop first.",
    ),
    canaries: Count.optional().describe(
      "Slots whose new replica runs beside the old one until somebody promotes the deployment; as many as there are replicas: blue/green. Unset: 0.",
    ),
  })
  .describe("x-berth: placement and rollout words that Compose has not.");
export type XBerth = z.infer<typeof XBerth>;

/** The same as JSON Schema (draft 2020-12), for editors and the API. */
export const xBerthJsonSchema = (): Record<string, unknown> => z.toJSONSchema(XBerth, { io: "input" }) as Record<string, unknown>;

export type BerthExtension = {
  constraints: Constraint[];
  tolerations: Placement["tolerations"];
  spreadBy: string[];
  strategy?: Placement["strategy"];
  order?: UpdatePolicy["order"];
} & Pick<Partial<UpdatePolicy>, "minHealthyMs" | "healthyDeadlineMs" | "progressDeadlineMs" | "maxSurge" | "maxUnavailable" | "canaries">;

const NOTHING: BerthExtension = { constraints: [], tolerations: [], spreadBy: [] };

type Telling = { problems: Problems; report: Report };

/** The extension in `owner` (the project or a service) over the `defaults` of the project. */
export function extensionOf(owner: Tree | undefined, path: string, telling: Telling & { defaults?: BerthExtension }): BerthExtension {
  const defaults = telling.defaults ?? NOTHING;
  const entry = owner?.kind === "mapping" ? owner.entries.get("x-berth") : undefined;
  if (entry === undefined) return defaults;
  const place = path === "" ? "x-berth" : `${path}.x-berth`;
  const parsed = XBerth.safeParse(toData(entry.value));
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const where = [place, ...issue.path.map(String)].join(".");
      const unknown = issue.code === "unrecognized_keys";
      telling.problems.add({
        code: unknown ? "unknown_key" : "wrong_value",
        at: markOf(entry.value, unknown ? [...issue.path, issue.keys[0] ?? ""] : issue.path),
        path: where,
        message: unknown ? `x-berth has no key "${issue.keys.join('", "')}"` : `${where}: ${issue.message}`,
        mend: `x-berth takes ${Object.keys(XBerth.shape).join(", ")}`,
      });
    }
    return defaults;
  }
  if (entry.value.kind === "mapping") {
    for (const [key, { at }] of entry.value.entries)
      telling.report.say("applied", at, { path: `${place}.${key}`, note: XBerth.shape[key as keyof XBerth].description ?? "" });
  }
  return combined(defaults, converted(parsed.data, entry.value, { place, problems: telling.problems }));
}

function converted(words: XBerth, tree: Tree, to: { place: string; problems: Problems }): BerthExtension {
  const wrong = (path: (string | number)[], message: string, mend: string): void => {
    const where = path.reduce<string>((text, part) => (typeof part === "number" ? `${text}[${part}]` : `${text}.${part}`), to.place);
    to.problems.add({ code: "wrong_value", at: markOf(tree, path), path: where, message: `${where}: ${message}`, mend });
  };
  const duration = (key: "minHealthy" | "healthyDeadline" | "progressDeadline"): number | undefined => {
    const text = words[key];
    const value = text === undefined ? undefined : parseDurationMs(text);
    if (text !== undefined && value === undefined) wrong([key], `"${text}" is no duration`, "write it like 30s, 1m30s, 500ms or 2h");
    return value;
  };
  const constraints = (words.constraints ?? []).flatMap((condition, index) => {
    const constraint = typeof condition === "string" ? parseConstraint(condition) : condition;
    const shown = typeof condition === "string" ? `"${condition}"` : "this";
    if (constraint === undefined || !hasRightValues(constraint)) {
      wrong(
        ["constraints", index],
        `${shown} is no constraint`,
        'write e.g. "node.labels.ram > 4", "node.site in berlin, hamburg" or "node.labels.gpu exists"',
      );
      return [];
    }
    const inWords = inNodeWords(constraint);
    if (!Constraint.safeParse(inWords).success) {
      wrong(["constraints", index], `${shown}: nodes have no ${constraint.key}`, `constrain on ${ATTRIBUTES}`);
      return [];
    }
    const empty = emptiness(inWords);
    if (empty === null) return [inWords];
    wrong(
      ["constraints", index],
      `${shown} holds for no node: ${empty}`,
      "remove it, or label the nodes you mean and constrain on node.labels.KEY",
    );
    return [];
  });
  const tolerations = (words.tolerations ?? []).flatMap((given, index) => {
    const toleration = typeof given === "string" ? parseToleration(given) : given;
    if (Toleration.safeParse(toleration).success) return [toleration];
    wrong(["tolerations", index], "this is no toleration", 'write "KEY" or "KEY=VALUE"');
    return [];
  });
  const minHealthyMs = duration("minHealthy");
  const healthyDeadlineMs = duration("healthyDeadline");
  const progressDeadlineMs = duration("progressDeadline");
  const { maxSurge, maxUnavailable, canaries } = words;
  return {
    constraints,
    tolerations,
    spreadBy: words.spreadBy ?? [],
    ...(words.strategy === undefined ? {} : { strategy: words.strategy }),
    ...(words.order === undefined ? {} : { order: words.order }),
    ...(minHealthyMs === undefined ? {} : { minHealthyMs }),
    ...(healthyDeadlineMs === undefined ? {} : { healthyDeadlineMs }),
    ...(progressDeadlineMs === undefined ? {} : { progressDeadlineMs }),
    ...(maxSurge === undefined ? {} : { maxSurge }),
    ...(maxUnavailable === undefined ? {} : { maxUnavailable }),
    ...(canaries === undefined ? {} : { canaries }),
  };
}

/** Conditions and tolerations add up; of the rest the service's word wins over the project's. */
const combined = (defaults: BerthExtension, own: BerthExtension): BerthExtension => ({
  ...defaults,
  ...own,
  constraints: [...defaults.constraints, ...own.constraints],
  tolerations: [...defaults.tolerations, ...own.tolerations],
  spreadBy: own.spreadBy.length > 0 ? own.spreadBy : defaults.spreadBy,
});

/** Undefined where the text is no condition. */
export function parseConstraint(text: string): Constraint | undefined {
  const match = /^(\S{1,160}?)\s{0,8}(?:(==|=|!=|<|>)|(?<=\s)(in|notIn|exists|notExists)(?=\s|$))\s{0,8}(.{0,400})$/.exec(text.trim());
  if (match === null) return undefined;
  const [, key = "", symbol, word, rest = ""] = match;
  const operator = (symbol === "==" ? "=" : (symbol ?? word)) as Constraint["operator"];
  const values =
    operator === "in" || operator === "notIn"
      ? rest
          .split(",")
          .map((value) => value.trim())
          .filter((value) => value !== "")
      : rest.trim() === ""
        ? []
        : [rest.trim()];
  return { key, operator, values };
}

/** People write amd64 where nodes say x64, and Swarm's names for attributes. */
function inNodeWords(constraint: Constraint): Constraint {
  const key = SWARM_KEYS.get(constraint.key) ?? constraint.key;
  const word = key === "node.arch" ? nodeArchitecture : key === "node.os" ? (name: string) => name.toLowerCase() : () => undefined;
  return { ...constraint, key, values: constraint.values.map((value) => word(value) ?? value) };
}

function hasRightValues(constraint: Constraint): boolean {
  const count = constraint.values.length;
  switch (constraint.operator) {
    case "exists":
    case "notExists":
      return count === 0;
    case "in":
    case "notIn":
      return count > 0;
    case "<":
    case ">":
      return count === 1 && /^[-+]?[0-9]+(?:\.[0-9]+)?$/.test(constraint.values[0] ?? "");
    case "=":
    case "!=":
      return count === 1;
  }
}

function parseToleration(text: string): Placement["tolerations"][number] {
  const equals = text.indexOf("=");
  return equals < 0 ? { key: text.trim() } : { key: text.slice(0, equals).trim(), value: text.slice(equals + 1).trim() };
}

/** The place of the value at `path`, or of the nearest value above it that has one. */
export function markOf(tree: Tree, path: readonly PropertyKey[]): Mark {
  let at = tree.at;
  let here: Tree | undefined = tree;
  for (const part of path) {
    if (here?.kind === "mapping") {
      const entry: Entry | undefined = here.entries.get(String(part));
      if (entry !== undefined) at = entry.at;
      here = entry?.value;
    } else if (here?.kind === "sequence") {
      here = here.items[Number(part)];
      at = here?.at ?? at;
    } else break;
  }
  return at;
}
