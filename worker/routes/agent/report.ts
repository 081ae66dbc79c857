import type { Context as Request } from "hono";
import { type ReportAnswer, ReportRequest } from "../../../shared/wire/report.ts";
import { parseJson } from "../../body.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { parseRequest } from "../../parse-request.ts";
import { applyReport } from "../../store/reports.ts";
import { checkSession } from "./check-session.ts";
import { cleanText } from "./clean.ts";
import { proveRequest } from "./proof.ts";

/** Facts from a node. Applied at most once for each (session, seq), and acknowledged again when they come again. */
export async function report(context: Context, c: Request): Promise<Response> {
  const { link, session, body } = await proveRequest(context, c.req.raw);
  const facts = cleanText(parseRequest(ReportRequest, parseJson(body)));
  checkSession(context, facts, session);
  const applied = await applyReport(context.store, { node: link.row.id, report: facts });
  if (applied === null)
    throw new BerthError("conflict", "others are changing what this node reports about; send it again", { retryAfterS: 1 });
  if (applied.observed !== null) context.shard.observed(applied.observed);
  if (applied.rev !== null) context.shard.changed(applied.rev);
  if (applied.dirty) context.shard.ring();
  const answer: ReportAnswer = { ackSeq: applied.ackSeq };
  return c.json(answer);
}
