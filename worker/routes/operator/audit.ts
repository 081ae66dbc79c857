import { z } from "zod";
import { AuditEntry, AuditHead } from "../../../shared/api/resources.ts";
import { isoTime } from "../../stamp.ts";
import { readAudit } from "../../store/audit-chain.ts";
import type { Row } from "../../store/commit-types.ts";
import { list, type Route } from "./route.ts";

const toEntry = ({ atMs, ...row }: Row<"audit">) => ({ ...row, at: isoTime(atMs) });
const toHead = ({ upToRev, rowCount, hash, signed }: Row<"auditHead">) => ({ rev: upToRev, rows: rowCount, hash, signed });

export const auditRoutes: readonly Route[] = [
  list({
    path: "/v1/audit",
    tag: "Audit",
    summary: "Every mutation that was carried out, oldest first, at most 1,000; `after` is the rev of the last row you have",
    description:
      "Without `after` the newest ones; `after=0` begins with the first. Within a few seconds each row is chained by `hash` to the one before it; `head` is the newest chained row, signed.",
    role: "admin",
    scope: "cluster",
    query: { after: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional() },
    item: AuditEntry,
    beside: { head: AuditHead.nullable() },
    load: async ({ context, query: { after } }) => {
      const { marks, rows, head } = await readAudit(context.store, after ?? null);
      return { marks, items: rows.map(toEntry), beside: { head: head === null ? null : toHead(head) } };
    },
  }),
];
