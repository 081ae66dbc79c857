/** What a placement constraint means: the one definition, for the scheduler, the refusals at deploy and the messages. */
import type { Constraint } from "./app.ts";

/**
 * What `node.os` is on every node: an agent runs on no other system. The distribution that a node tells of is for people;
 * it changes with each of its updates.
 */
export const NODE_OS = "linux";

/**
 * Why no node at all can satisfy the constraint, or why it is none; null: a node may. Labels may be anything; what every
 * node has is known.
 */
export function emptiness({ key, operator, values }: Constraint): string | null {
  if (/^(?:node\.labels|node\.declared|site\.labels)\./.test(key)) return null;
  if (operator === "notExists") return `every node has a ${key}`;
  if (operator === "<" || operator === ">") return `${key} is not a number`;
  const possible = key === "node.os" ? [NODE_OS] : key === "node.arch" ? NODE_ARCHITECTURES : null;
  const impossible = possible === null ? [] : values.filter((value) => !possible.includes(value));
  if (impossible.length > 0)
    return `no node's ${key} is ${impossible.join(" or ")}: agents run on ${key === "node.os" ? "Linux" : "amd64 and arm64"} only`;
  return possible !== null && operator !== "exists" && !possible.some((value) => admits({ key, operator, values }, value))
    ? `every node's ${key} is ${values.join(" or ")}`
    : null;
}

const NODE_ARCHITECTURES: readonly string[] = ["x64", "arm64"];

/** Whether a node whose attribute is `value` (absent: undefined) satisfies the constraint. The one definition of the operators. */
export function admits(constraint: Constraint, value: string | undefined): boolean {
  const { operator, values } = constraint;
  switch (operator) {
    case "=":
    case "in":
      return value !== undefined && values.includes(value);
    case "!=":
    case "notIn":
      return value === undefined || !values.includes(value);
    case "exists":
      return value !== undefined;
    case "notExists":
      return value === undefined;
    case "<":
      return decimal(value) < decimal(values[0]);
    case ">":
      return decimal(value) > decimal(values[0]);
  }
}

/** NaN compares false with everything: a missing or non-numeric label matches neither `<` nor `>`. */
function decimal(text: string | undefined): number {
  return text !== undefined && /^[+-]?(?:\d+\.?\d*|\.\d+)$/.test(text.trim()) ? Number(text) : Number.NaN;
}

/** As a person would write it. */
export function phrase({ key, operator, values }: Constraint): string {
  switch (operator) {
    case "exists":
      return `${key} exists`;
    case "notExists":
      return `${key} does not exist`;
    case "in":
      return `${key} in (${values.join(", ")})`;
    case "notIn":
      return `${key} not in (${values.join(", ")})`;
    default:
      return `${key} ${operator} ${values[0] ?? ""}`;
  }
}
