import type { Context as Request } from "hono";
import { type PollAnswer, PollRequest } from "../../../shared/wire/poll.ts";
import { parseJson } from "../../body.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import type { Manifests } from "../../manifest.ts";
import { parseRequest } from "../../parse-request.ts";
import type { Link } from "../../shard/link.ts";
import { checkSession } from "./check-session.ts";
import { proveRequest, removedError } from "./proof.ts";

/** Answers what is new at once, else holds the request; 204 says that nothing is. No row is written. */
export async function poll(context: Context, manifests: Manifests, c: Request): Promise<Response> {
  const { link, session, body } = await proveRequest(context, c.req.raw);
  const asked = parseRequest(PollRequest, parseJson(body));
  checkSession(context, asked, session);
  warnWhenBehind(context, link, asked.generation);

  let answer = await answerNow(context, manifests, { link, asked });
  if (answer === null) {
    if (context.shard.isStopped) throw new BerthError("unavailable", "the control plane is stopping; ask again", { retryAfterS: 1 });
    await context.shard.hold(link, c.req.raw.signal);
    if (link.isRemoved) throw removedError();
    if (link.row.session !== session) throw new BerthError("session_replaced", "this session is not the node's newest; open a new one");
    answer = await answerNow(context, manifests, { link, asked });
  }
  return answer === null ? c.body(null, 204) : c.json(answer);
}

async function answerNow(
  context: Context,
  manifests: Manifests,
  { link, asked }: { readonly link: Link; readonly asked: PollRequest },
): Promise<PollAnswer | null> {
  const { shard, channels } = context;
  const asks = channels.takeAsks(link.row.id, asked.channels);
  const isNewer = link.row.generation > asked.generation && !link.row.quarantined;
  const manifest = isNewer ? await manifests.get(link.row.id, link.row.generation, shard.cluster) : null;
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
