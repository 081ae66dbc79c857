/** What a placement constraint means: the one definition, for the scheduler, the refusals at deploy and the messages. */
import type { Constraint } from "./app.ts";

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
