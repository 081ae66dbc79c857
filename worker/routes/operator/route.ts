/**
 * The operator API's one path. A route is data (method, path, role, scope, schemas) and one function; what is the same for
 * all of them is done here: parse → authorize → build the changes → commit → ring. The same data makes the OpenAPI
 * document and the table that the authorization tests walk.
 */
import { base64url } from "jose";
import { z } from "zod";
import { listOf, type Role, WATCH_PATTERN } from "../../../shared/api/resources.ts";
import { hashText } from "../../../shared/model/content.ts";
import type { Principal, Scope } from "../../auth.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import type { Flights, Place } from "../../flights.ts";
import { operationId } from "../../idempotency.ts";
import { parseRequest } from "../../parse-request.ts";
import type { Revocation } from "../../revocation.ts";
import { shareOf } from "../../share.ts";
import { stamped } from "../../stamp.ts";
import type { Guard, Mutation, NewEvent, RowChange } from "../../store/commit-types.ts";
import { readOperation } from "../../store/read-operations.ts";
import type { Marks } from "../../store/store.ts";
import type { Watchers } from "../../watch.ts";

/** What the app hands a route: authorized, with nothing parsed yet but the form of the JSON. */
export interface RawCall {
  readonly context: Context;
  readonly watchers: Watchers;
  /** Among the requests of its share that are under way. */
  readonly place: Place;
  readonly previews: Flights;
  readonly revocation: Revocation;
  readonly principal: Principal;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly request: Request;
}

export interface Call<Params, Query, Body> {
  readonly context: Context;
  readonly principal: Principal;
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** Aborts when the caller goes away. */
  readonly signal: AbortSignal;
}

export const METHODS = ["get", "post", "put", "patch", "delete"] as const;
export type Method = (typeof METHODS)[number];
type Shape = Readonly<Record<string, z.ZodType>>;
type Out<S extends Shape> = z.output<z.ZodObject<S>>;

interface Head {
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly role: Role;
  readonly scope: Scope;
}

export interface Route extends Head {
  readonly method: Method;
  readonly kind: "read" | "list" | "mutation" | "stream";
  readonly params: Shape;
  readonly query: Shape;
  readonly body: z.ZodType | null;
  readonly answer: z.ZodType;
  readonly status: 200 | 201;
  readonly contentType: "application/json" | "application/x-ndjson";
  readonly handle: (call: RawCall) => Promise<Response>;
}

interface ReadSpec<P extends Shape, Q extends Shape, A> extends Head {
  readonly params?: P;
  readonly query?: Q;
  readonly answer: z.ZodType;
  readonly read: (call: Call<Out<P>, Out<Q>, null>) => Promise<A>;
}

/** `GET` of one thing. */
export function read<A, P extends Shape = Record<never, never>, Q extends Shape = Record<never, never>>(spec: ReadSpec<P, Q, A>): Route {
  const { params, query, parse } = parser(spec.params, spec.query, null);
  return {
    ...spec,
    params,
    query,
    body: null,
    method: "get",
    kind: "read",
    status: 200,
    contentType: "application/json",
    handle: async (raw) => json(await spec.read(parse(raw)), 200),
  };
}

export interface Loaded<Item> {
  readonly marks: Marks;
  readonly items: readonly Item[];
  /** Values of `beside`. */
  readonly beside?: Readonly<Record<string, unknown>>;
}

interface ListSpec<P extends Shape, Q extends Shape, Item> extends Head {
  readonly params?: P;
  readonly query?: Q;
  readonly item: z.ZodType;
  /** What the answer says besides the items. */
  readonly beside?: Shape;
  readonly load: (call: Call<Out<P>, Out<Q>, null>) => Promise<Loaded<Item>>;
}

const WATCH = { watch: z.string().regex(WATCH_PATTERN, "the `watch` of an earlier answer").optional() };

/** `GET` of a list, which can be watched. */
export function list<Item, P extends Shape = Record<never, never>, Q extends Shape = Record<never, never>>(
  spec: ListSpec<P, Q, Item>,
): Route {
  const { params, query, parse } = parser(spec.params, { ...WATCH, ...spec.query } as typeof WATCH & Q, null);
  return {
    ...spec,
    params,
    query,
    body: null,
    answer: listOf(spec.item).extend(spec.beside ?? {}),
    method: "get",
    kind: "list",
    status: 200,
    contentType: "application/json",
    handle: async (raw) => {
      const call = parse(raw) as Call<Out<P>, Out<Q> & { watch?: string }, null>;
      // Before waiting: a refusal must not take 25 s.
      let { marks, items, beside } = await spec.load(call);
      const since = call.query.watch;
      if (
        since !== undefined &&
        (await raw.watchers.wait(since, { marks, principal: call.principal, request: raw.request, place: raw.place }))
      )
        ({ marks, items, beside } = await spec.load(call));
      return json({ rev: marks.rev, watch: `${marks.rev}.${marks.observed}`, ...beside, items }, 200);
    },
  };
}

interface PageSpec<P extends Shape, Q extends Shape, Item, Place> extends Omit<ListSpec<P, Q, Item>, "load"> {
  /** Most items a page, and how many when the caller does not say. */
  readonly pageMax: number;
  readonly pageDefault: number;
  /** Where a page ended. Its JSON is the cursor, which callers take for opaque. */
  readonly place: z.ZodType<Place>;
  readonly load: (
    call: Call<Out<P>, Out<Q>, null>,
    page: Page<Place>,
  ) => Promise<{ readonly marks: Marks; readonly items: readonly Item[]; readonly next: Place | null }>;
}

export interface Page<Place> {
  readonly limit: number;
  /** Null: from the beginning. */
  readonly after: Place | null;
}

const CURSOR_MAX = 1_000;
/** A watch misses nothing: what was newer by a later page is newer than the first one's mark. */
const PAGE_BESIDE = { next: z.string().nullable().describe("The `cursor` of the page that follows; null on the last.") };

/** `GET` of a list that can be long: a page of it, and where the next one begins. */
export function pages<Item, Place, P extends Shape = Record<never, never>, Q extends Shape = Record<never, never>>(
  spec: PageSpec<P, Q, Item, Place>,
): Route {
  const PAGE = {
    limit: z.coerce.number().int().min(1).max(spec.pageMax).default(spec.pageDefault).describe("Most items of the page."),
    cursor: z.string().max(CURSOR_MAX).optional().describe("`next` of the page before; not with watch, which is of the first page."),
  };
  return list<Item, P, Q & typeof PAGE>({
    ...spec,
    beside: PAGE_BESIDE,
    query: { ...spec.query, ...PAGE } as Q & typeof PAGE,
    load: async (call) => {
      const { limit, cursor, watch } = call.query as unknown as { limit: number; cursor?: string; watch?: string };
      if (cursor !== undefined && watch !== undefined)
        throw new BerthError("invalid", "watch is of the first page; send it without cursor", { reason: "cursor" });
      const after = cursor === undefined ? null : placeIn(cursor, spec.place);
      const { next, ...loaded } = await spec.load(call as unknown as Call<Out<P>, Out<Q>, null>, { limit, after });
      return { ...loaded, beside: { next: next === null ? null : base64url.encode(JSON.stringify(next)) } };
    },
  });
}

function placeIn<Place>(cursor: string, schema: z.ZodType<Place>): Place {
  try {
    return schema.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(base64url.decode(cursor))));
  } catch (cause) {
    throw new BerthError("invalid", "this cursor is not of this list; begin without one", { reason: "cursor", cause });
  }
}

interface StreamSpec<P extends Shape, Q extends Shape> extends Head {
  readonly params?: P;
  readonly query?: Q;
  readonly item: z.ZodType;
  readonly open: (call: Call<Out<P>, Out<Q>, null>) => Promise<ReadableStream<Uint8Array>>;
}

/** `GET` of newline-delimited JSON that goes on until either end stops. */
export function stream<P extends Shape = Record<never, never>, Q extends Shape = Record<never, never>>(spec: StreamSpec<P, Q>): Route {
  const { params, query, parse } = parser(spec.params, spec.query, null);
  return {
    ...spec,
    params,
    query,
    body: null,
    answer: spec.item,
    method: "get",
    kind: "stream",
    status: 200,
    contentType: "application/x-ndjson",
    handle: async (raw) => {
      const body = await spec.open(parse(raw));
      raw.revocation.opened();
      return new Response(body, {
        headers: { "content-type": "application/x-ndjson", "cache-control": "no-store", "x-accel-buffering": "no" },
      });
    },
  };
}

/** What a mutation would write and answer. No changes: nothing is to be done, and the answer says so. */
export interface Draft<Answer> {
  readonly marks: Marks;
  readonly changes: readonly RowChange[];
  readonly guards?: readonly Guard[];
  /** Nodes that run these revisions get a new manifest. */
  readonly bumpNodesOf?: NonNullable<Mutation["bumpNodesOf"]>;
  readonly events?: readonly NewEvent[];
  /** Namespace and object for the audit log; `detail` never holds a secret. */
  readonly audit: { readonly namespace: string | null; readonly object: string; readonly detail: string };
  /** With STAMP where the commit's rev and time go. */
  readonly answer: Answer;
  /** What a dry run answers, where that differs (a token is not made). */
  readonly dryAnswer?: Answer;
}

interface MutationSpec<P extends Shape, Q extends Shape, B extends z.ZodType | null, A> extends Head {
  readonly method: Exclude<Method, "get">;
  readonly params?: P;
  readonly query?: Q;
  readonly body: B;
  readonly answer: z.ZodType;
  readonly status?: 201;
  /** One word for the audit log. */
  readonly verb: string;
  /** The answer holds a secret: what is kept for a replay is sealed. */
  readonly isSecret?: boolean;
  readonly draft: (call: Call<Out<P>, Out<Q>, B extends z.ZodType ? z.output<B> : null>) => Promise<Draft<A>>;
}

const DRY_RUN = { dryRun: z.enum(["true", "false"]).default("false") };

/** Everything that changes something. */
export function mutation<A, B extends z.ZodType | null, P extends Shape = Record<never, never>, Q extends Shape = Record<never, never>>(
  spec: MutationSpec<P, Q, B, A>,
): Route {
  const { params, query, parse } = parser(spec.params, { ...DRY_RUN, ...spec.query } as typeof DRY_RUN & Q, spec.body);
  const status = spec.status ?? 200;
  return {
    ...spec,
    params,
    query,
    status,
    kind: "mutation",
    contentType: "application/json",
    handle: async (raw) => {
      const call = parse(raw) as Call<Out<P>, Out<Q> & { dryRun: "true" | "false" }, B extends z.ZodType ? z.output<B> : null>;
      if (call.query.dryRun === "true") {
        const draft = await raw.previews.run(shareOf(call.principal), () => spec.draft(call));
        return json(stamped(draft.dryAnswer ?? draft.answer, draft.marks), 200, {
          "berth-dry-run": "true",
          "berth-rev": String(draft.marks.rev),
        });
      }
      const { answer, rev, replayed } = await carryOut(raw, { ...spec, draft: () => spec.draft(call) });
      return json(answer, status, { "berth-rev": String(rev), ...(replayed ? { "idempotent-replayed": "true" } : {}) });
    },
  };
}

/** Of two that write the same row one loses and looks again. Three in a row is a crowd: the caller may try later. */
const TRIES_MAX = 3;

interface Kept {
  /** Of the request that it answers. */
  readonly request: string;
  readonly answer?: unknown;
  readonly sealed?: { readonly kid: string; readonly sealed: string };
}

interface Work<A> {
  readonly verb: string;
  readonly isSecret?: boolean;
  readonly draft: () => Promise<Draft<A>>;
}

async function carryOut<A>(raw: RawCall, work: Work<A>): Promise<{ answer: unknown; rev: number; replayed: boolean }> {
  const { context, principal, request } = raw;
  const key = request.headers.get("idempotency-key");
  const opId = key === null ? null : operationId(key, principal.tokenId);
  const fingerprint = hashText(
    JSON.stringify([request.method, new URL(request.url).pathname, Object.entries(raw.query).sort(), raw.body ?? null]),
  );
  if (opId !== null) {
    const known = await readOperation(context.store, opId);
    if (known !== null) return replay(raw, known, fingerprint);
  }
  for (let attempt = 1; ; attempt++) {
    let draft: Draft<A>;
    try {
      draft = await work.draft();
    } catch (refusal) {
      // The same request, sent again while the first was under way, may be refused for what the first has done.
      const known = opId === null ? null : await readOperation(context.store, opId);
      if (known === null) throw refusal;
      return replay(raw, known, fingerprint);
    }
    const isNothing = draft.changes.length === 0;
    if (isNothing && opId === null) return { answer: stamped(draft.answer, draft.marks), rev: draft.marks.rev, replayed: false };
    const kept = opId === null ? undefined : await keep(context, { request: fingerprint, answer: draft.answer }, work.isSecret === true);
    const result = await context.store.commit(
      isNothing ? asRecord(draft, { opId: opId!, kept }) : asMutation(draft, { opId, kept, principal, verb: work.verb }),
    );
    if (result.kind === "committed") {
      if (isNothing) return { answer: stamped(draft.answer, result), rev: result.rev, replayed: false };
      // Whoever reads next, through this process, sees it: watches, the token cache, and the caller's own next request.
      await context.shard.refresh();
      context.shard.ring();
      return { answer: stamped(draft.answer, result), rev: result.rev, replayed: false };
    }
    if (result.kind === "replayed") {
      const known = await readOperation(context.store, opId!);
      if (known === null) throw new Error("an operation was replayed and is not recorded");
      return replay(raw, known, fingerprint);
    }
    if (result.what === "op") throw new BerthError("refused", result.message, { reason: "idempotency" });
    if (attempt === TRIES_MAX)
      throw new BerthError("conflict", `${result.message}; others are changing the same thing, try again`, { retryAfterS: 1 });
  }
}

/** Nothing changes, and the same key again must find that still: tomorrow it might be a change. Takes no rev. */
const asRecord = <A>(draft: Draft<A>, { opId, kept }: { opId: string; kept: Kept | undefined }): Mutation => ({
  advance: "none",
  guards: draft.guards ?? [],
  changes: [],
  opId,
  result: kept,
});

function asMutation<A>(
  draft: Draft<A>,
  made: { opId: string | null; kept: Kept | undefined; principal: Principal; verb: string },
): Mutation {
  return {
    changes: draft.changes,
    guards: draft.guards ?? [],
    ...(draft.bumpNodesOf === undefined || draft.bumpNodesOf.length === 0 ? {} : { bumpNodesOf: draft.bumpNodesOf }),
    events: draft.events ?? [],
    audit: { actor: `${made.principal.name} (${made.principal.tokenId})`, verb: made.verb, ...draft.audit },
    ...(made.opId === null ? {} : { opId: made.opId, result: made.kept }),
  };
}

async function keep(context: Context, kept: Kept, isSecret: boolean): Promise<Kept> {
  if (!isSecret) return kept;
  return { request: kept.request, sealed: await context.signer.sealAtRest(new TextEncoder().encode(JSON.stringify(kept.answer))) };
}

async function replay(raw: RawCall, known: { rev: number; nowMs: number; result: unknown }, fingerprint: string) {
  const kept = known.result as Kept;
  if (kept.request !== fingerprint)
    throw new BerthError("refused", "this Idempotency-Key was used for another request; make a new key for each", {
      reason: "idempotency",
    });
  const answer =
    kept.sealed === undefined
      ? kept.answer
      : (JSON.parse(new TextDecoder().decode(await raw.context.signer.openAtRest(kept.sealed.kid, kept.sealed.sealed))) as unknown);
  return { answer: stamped(answer, known), rev: known.rev, replayed: true };
}

/** Strict on every side: an unknown key is refused, because accepting a word and not acting on it is a defect. */
function parser<P extends Shape, Q extends Shape, B extends z.ZodType | null>(params: P | undefined, query: Q | undefined, body: B) {
  const shapes = { params: params ?? ({} as P), query: query ?? ({} as Q) };
  const schemas = { params: z.strictObject(shapes.params), query: z.strictObject(shapes.query) };
  return {
    ...shapes,
    parse: (raw: RawCall): Call<Out<P>, Out<Q>, B extends z.ZodType ? z.output<B> : null> => ({
      context: raw.context,
      principal: raw.principal,
      params: parseRequest(schemas.params, raw.params) as Out<P>,
      query: parseRequest(schemas.query, raw.query) as Out<Q>,
      body: (body === null ? null : parseRequest(body, raw.body)) as B extends z.ZodType ? z.output<B> : null,
      signal: raw.request.signal,
    }),
  };
}

function json(value: unknown, status: number, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(JSON.stringify(value), {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store", ...headers },
  });
}
