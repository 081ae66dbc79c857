/** `GET …/logs`: the output of an app's replicas, read by their agents and joined here. */
import { z } from "zod";
import { LogLine } from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import type { Context } from "../../context.ts";
import { noApp } from "../../deploy.ts";
import { asBerthError } from "../../errors.ts";
import { msOfTime } from "../../stamp.ts";
import { readApps } from "../../store/read-apps.ts";
import { type LiveReplica, readReplicas } from "../../store/read-replicas.ts";
import { requireNamespace } from "./deployments.ts";
import { type Route, stream } from "./route.ts";

/** One call reads that many replicas' logs at once; the rest are named as missing. A person reads far fewer. */
const REPLICAS_MAX = 50;
/** Named at most: a line each, about 2 MB. */
const NAMED_MAX = 10_000;
const flag = z.enum(["true", "false"]).default("false");

const query = {
  service: Name.optional(),
  slot: z.string().max(64).optional(),
  follow: flag,
  /** Lines from the end of each replica's log. */
  tail: z.coerce.number().int().min(0).max(10_000).default(100),
  since: z.iso.datetime({ offset: true }).optional(),
  timestamps: flag,
};

export const logRoutes: readonly Route[] = [
  stream({
    path: "/v1/namespaces/{namespace}/apps/{app}/logs",
    tag: "Apps",
    summary: "Logs of an app's replicas as newline-delimited JSON; a node that cannot answer is a line of kind missing",
    role: "viewer",
    scope: "namespace",
    params: { namespace: Name, app: Name },
    query,
    item: LogLine,
    open: async ({ context, principal, params: { namespace, app }, query: asked, signal }) => {
      await requireNamespace(context, namespace);
      const { apps } = await readApps(context.store, namespace, app);
      if (apps.length === 0) throw noApp(namespace, app);
      const { service, slot } = asked;
      const page = { withEnded: false, limit: NAMED_MAX, after: null };
      const { live: chosen } = await readReplicas(context.store, { namespace, app, service, slot }, page);
      const token = principal.tokenId;
      // Where some can be read, the others are named as missing.
      const refusals = chosen.map(({ replica: { nodeId } }) => context.channels.refusal({ nodeId, token }));
      const [refusal] = refusals;
      if (refusal && !refusals.includes(null)) throw refusal;
      const leaving = new AbortController();
      signal.addEventListener("abort", () => leaving.abort(), { once: true });
      const ask = {
        token,
        follow: asked.follow === "true",
        tail: asked.tail,
        sinceMs: asked.since === undefined ? null : msOfTime(asked.since),
        timestamps: asked.timestamps === "true",
        signal: leaving.signal,
      };
      return joined(
        chosen.map((row, index) =>
          index < REPLICAS_MAX
            ? linesOf(context, row, ask)
            : one(missing(row, `logs of at most ${REPLICAS_MAX} replicas are read at once; name a service or a slot`)),
        ),
        leaving,
      );
    },
  }),
];

interface Ask {
  readonly token: string;
  readonly follow: boolean;
  readonly tail: number;
  readonly sinceMs: number | null;
  readonly timestamps: boolean;
  readonly signal: AbortSignal;
}
type Lines = AsyncGenerator<LogLine, void, void>;

const placeOf = ({ replica, node }: LiveReplica) => ({
  replica: replica.id,
  service: replica.service,
  slot: replica.slot,
  node: node?.name ?? replica.nodeId,
});
const missing = (row: LiveReplica, message: string): LogLine => ({ kind: "missing", ...placeOf(row), message });

async function* one(line: LogLine): Lines {
  yield line;
}

/** Never throws: what went wrong is a line, because the other replicas' lines are still worth having. */
async function* linesOf({ channels, log }: Context, row: LiveReplica, ask: Ask): Lines {
  if (row.node === null) return yield missing(row, "its node was removed");
  if (row.node.status === "lost") return yield missing(row, `${row.node.name} is lost: it has not been heard for a while`);
  try {
    for await (const frame of channels.open({ ...ask, nodeId: row.node.id, replica: row.replica.id as `r_${string}` })) {
      if (frame.kind === "line")
        yield { kind: "line", ...placeOf(row), stream: frame.stream, at: frame.at, text: frame.text, cut: frame.cut };
      else if (frame.reason === "error") yield missing(row, frame.message);
    }
  } catch (error) {
    const known = asBerthError(error);
    if (known.code === "internal") log.warn({ replica: row.replica.id, error: String(error) }, "a log stream failed");
    yield missing(row, known.message);
  }
}

/** All of them as they come. The reader's pace is the pace of all: a line is taken from a replica when there is room for it. */
function joined(sources: readonly Lines[], leaving: AbortController): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const waiting = new Map<Lines, Promise<{ source: Lines; result: IteratorResult<LogLine, void> }>>();
  const ask = (source: Lines) =>
    waiting.set(
      source,
      source.next().then((result) => ({ source, result })),
    );
  return new ReadableStream<Uint8Array>(
    {
      start: () => {
        for (const source of sources) ask(source);
      },
      pull: async (controller) => {
        while (waiting.size > 0) {
          const { source, result } = await Promise.race(waiting.values());
          if (result.done === true) {
            waiting.delete(source);
            continue;
          }
          ask(source);
          controller.enqueue(encoder.encode(`${JSON.stringify(result.value)}\n`));
          return;
        }
        controller.close();
      },
      cancel: () => leaving.abort(),
    },
    { highWaterMark: 16 },
  );
}
