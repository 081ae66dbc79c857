/** What a schema refuses, in words for people: the one wording, for the API and for Compose files. */
import type { z } from "zod";

export interface IssueWords {
  readonly message: string;
  /** What to write instead; null: the message says what is expected. */
  readonly mend: string | null;
}

export function issueWords(issue: z.core.$ZodIssue): IssueWords {
  if (issue.code === "custom" && typeof issue.params?.mend === "string") return { message: issue.message, mend: issue.params.mend };
  if (issue.code === "too_big") return { message: `at most ${amount(issue.maximum, issue.origin)}`, mend: null };
  if (issue.code === "too_small") return { message: `at least ${amount(issue.minimum, issue.origin)}`, mend: null };
  return { message: issue.message, mend: null };
}

const UNITS: Readonly<Record<string, string>> = { string: "character", array: "item", set: "item", map: "entry", object: "key" };

function amount(bound: number | bigint, origin: string): string {
  const unit = UNITS[origin];
  if (unit === undefined) return String(bound);
  return `${bound} ${unit}${Number(bound) === 1 ? "" : "s"}`;
}
