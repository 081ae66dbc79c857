import type { Context as Request } from "hono";
import { type PollAnswer, PollRequest } from "../../../shared/wire/poll.ts";
import { parseJson } from "../../body.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import type { Manifests } from "../../manifest.ts";
import { parseRequest } from "../../parse-request.ts";
import type { Link } from "../../shard/link.ts";
import { checkSession } from "./check-session.ts";
import { CLONE_RETRY_S, proveRequest, quarantinedError, removedError } from "./proof.ts";

/**
 * Answers what is new at once, else holds the request; 204 says that nothing is. So a quarantined node that holds an older
 * set than its own is told neither: it would take 204 for a word that what it holds is the newest. No row is written.
 */
export async function poll(context: Context, manifests: Manifests, c: Request): Promise<Response> {
  const { link, session, body } = await proveRequest(context, c.req.raw);
  const asked = parseRequest(PollRequest, parseJson(body));
  checkSession(context, asked, session);
  warnWhenBehind(context, link, asked.generation);

  let answer = await answerNow(context, manifests, { link, asked });
  if (answer === null || answer === "withheld") {
    if (context.shard.isStopped) throw new BerthError("unavailable", "the control plane is stopping; ask again", { retryAfterS: 1 });
    await context.shard.hold(link, c.req.raw.signal);
    if (link.isRemoved) throw removedError();
    if (link.row.session !== session) throw new BerthError("session_replaced", "this session is not the node's newest; open a new one");
    answer = await answerNow(context, manifests, { link, asked });
  }
  if (answer === "withheld") {
    context.shard.sentAway(link, CLONE_RETRY_S * 1_000);
    throw quarantinedError(link.row.name);
  }
  return answer === null ? c.body(null, 204) : c.json(answer);
}

async function answerNow(
  context: Context,
  manifests: Manifests,
  { link, asked }: { readonly link: Link; readonly asked: PollRequest },
): Promise<PollAnswer | "withheld" | null> {
  const { shard, channels } = context;
  const isNewer = link.row.generation > asked.generation;
  const manifest = isNewer && !link.row.quarantined ? await manifests.get(link.row.id, link.row.generation, shard.cluster) : null;
  if (isNewer && manifest === null) return "withheld";
  // Last: what is taken here counts as told.
  const asks = channels.takeAsks(link.row.id, asked.channels);
  if (manifest === null && asks.length === 0) return null;
  return {
    ...(manifest === null ? {} : { manifest: manifest.jws }),
    challenge: asked.challenge,
    channels: asks,
    keySetVersion: shard.cluster.keySetVersion,
  };
}

/** The agent would refuse an older set, and answering it at once would only make it ask again without end. */
function warnWhenBehind({ log }: Context, link: Link, generation: number): void {
  if (generation > link.row.generation && !link.isBehindWarned) {
    link.isBehindWarned = true;
    log.warn(
      { node: link.row.id, held: generation, here: link.row.generation },
      "a node holds a newer set than this database knows; was an old backup restored?",
    );
  }
}
