/** `GET …/logs`: the output of an app's replicas, read by their agents and joined here. */
import { z } from "zod";
import { errorText } from "../../error-text.ts";
import { LogLine } from "../../../shared/api/resources.ts";
import { Name } from "../../../shared/model/name.ts";
import type { Context } from "../../context.ts";
import { noApp } from "../../deploy.ts";
import { asBerthError } from "../../errors.ts";
import { type Share, shareOf } from "../../share.ts";
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
      const share = shareOf(principal);
      const unread: LogLine[] = [];
      const opened: ReachableReplica[] = [];
      for (const row of chosen) {
        const { node } = row;
        if (node === null) unread.push(missing(row, "its node was removed"));
        else if (node.status === "lost") unread.push(missing(row, `${node.name} is lost: it has not been heard for a while`));
        else if (opened.length < REPLICAS_MAX) opened.push({ ...row, node });
        else unread.push(missing(row, `logs of at most ${REPLICAS_MAX} replicas are read at once; name a service or a slot`));
      }
      // Where some can be opened, the others are named as missing.
      const refusals = opened.map(({ node }) => context.channels.refusal({ nodeId: node.id, share }));
      const [refusal] = refusals;
      if (refusal && !refusals.includes(null)) throw refusal;
      const leaving = new AbortController();
      signal.addEventListener("abort", () => leaving.abort(), { once: true });
      if (signal.aborted) leaving.abort();
      const ask = {
        token: principal.tokenId,
        share,
        follow: asked.follow === "true",
        tail: asked.tail,
        sinceMs: asked.since === undefined ? null : msOfTime(asked.since),
        timestamps: asked.timestamps === "true",
        signal: leaving.signal,
      };
      return joined([...opened.map((row) => linesOf(context, row, ask)), unread], leaving);
    },
  }),
];

interface Ask {
  readonly token: string;
  readonly share: Share;
  readonly follow: boolean;
  readonly tail: number;
  readonly sinceMs: number | null;
  readonly timestamps: boolean;
  readonly signal: AbortSignal;
}
type Source = AsyncIterable<LogLine> | Iterable<LogLine>;
type ReachableReplica = LiveReplica & { readonly node: NonNullable<LiveReplica["node"]> };

const placeOf = ({ replica, node }: LiveReplica) => ({
  replica: replica.id,
  service: replica.service,
  slot: replica.slot,
  node: node?.name ?? replica.nodeId,
});
const missing = (row: LiveReplica, message: string): LogLine => ({ kind: "missing", ...placeOf(row), message });

/** Never throws: what went wrong is a line, because the other replicas' lines are still worth having. */
async function* linesOf({ channels, log }: Context, row: ReachableReplica, ask: Ask): AsyncGenerator<LogLine, void, void> {
  try {
    for await (const frame of channels.open({ ...ask, nodeId: row.node.id, replica: row.replica.id as `r_${string}` })) {
      if (frame.kind === "line")
        yield { kind: "line", ...placeOf(row), stream: frame.stream, at: frame.at, text: frame.text, cut: frame.cut };
      else if (frame.reason === "error") yield missing(row, frame.message);
    }
  } catch (error) {
    const known = asBerthError(error);
    if (known.code === "internal") log.warn({ replica: row.replica.id, error: errorText(error) }, "a log stream failed");
    yield missing(row, known.message);
  }
}

/**
 * All of them as they come. The reader's pace is the pace of all: each source has at most one line in the writer's queue,
 * which is first in, first out, and goes on when that was taken; so each has its turn.
 */
function joined(sources: readonly Source[], leaving: AbortController): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(
    { start: (controller) => leaving.signal.addEventListener("abort", () => controller.terminate(), { once: true }) },
    undefined,
    { highWaterMark: 16 },
  );
  const writer = writable.getWriter();
  const pass = async (lines: Source) => {
    for await (const line of lines) await writer.write(encoder.encode(`${JSON.stringify(line)}\n`));
  };
  Promise.all(sources.map(pass))
    .then(() => writer.close())
    // Only a reader that goes away fails a write or the close.
    .catch(() => {});
  // Who waits for its next line does not write: the signal ends it.
  writer.closed.catch(() => leaving.abort());
  return readable;
}
