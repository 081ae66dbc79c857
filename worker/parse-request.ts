/** What callers send, parsed: the one place where a schema's refusal is the caller's mistake. Elsewhere it is a defect of ours. */
import type { z } from "zod";
import { type IssueWords, issueWords } from "../shared/model/issue.ts";
import { BerthError } from "./errors.ts";

/** At most 20 problems are listed: the first few are what a person fixes, and a hostile body could have a million. */
const DETAILS_MAX = 20;

/** Throws `invalid`. */
export function parseRequest<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const details = parsed.error.issues
    .slice(0, DETAILS_MAX)
    .map((issue) => ({ path: issue.path.join(".").slice(0, 256), message: textOf(issueWords(issue)).slice(0, 512) }));
  const first = details[0];
  const where = first === undefined || first.path === "" ? "" : ` at ${first.path}`;
  throw new BerthError("invalid", `${first?.message ?? "not of the expected form"}${where}`, {
    reason: "schema",
    details,
    cause: parsed.error,
  });
}

const textOf = ({ message, mend }: IssueWords): string => (mend === null ? message : `${message}; ${mend}`);
