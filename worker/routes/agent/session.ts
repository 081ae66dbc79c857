/**
 * A node opens a session: it proves its key, and gets a number (the rev of the commit) and the key that its further
 * requests are signed with. The number is the server's, so an agent whose disk was rolled back is not locked out.
 *
 * Clones: a started agent picks a random instance id and never uses it again. So an instance that comes back after
 * another one has taken over shows that two of them run with one key. Three such returns within 10 min quarantine the
 * node: it keeps what it runs and gets nothing new until an operator has dealt with the clone. Who never spoke in its
 * session has not taken over: requests of an agent and of its next start may wait, and be answered in any order.
 */
import type { Context as Request } from "hono";
import { NodeId } from "../../../shared/model/name.ts";
import { JOSE_TYPES } from "../../../shared/wire/jose.ts";
import { type Removal, type SessionGrant, SessionPayload, SignedBody } from "../../../shared/wire/session.ts";
import { PROTOCOL_VERSION_MIN } from "../../../shared/wire/version.ts";
import { parseJson, readBody } from "../../body.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { parseRequest } from "../../parse-request.ts";
import type { RateLimit } from "../../rate-limit.ts";
import { type NewEvent, NOW, REV, type Row } from "../../store/commit-types.ts";
import { readForSession } from "../../store/read-agents.ts";
import { cleanText } from "./clean.ts";
import { importEd25519, readHeader, readPayload, splitCompact, verifyCompact } from "./jws.ts";
import { quarantinedError, removedError } from "./proof.ts";

const TRIES_MAX = 5;
const APPROVAL_RETRY_S = 5;
const CLONE_WINDOW_MS = 600_000;
const CLONE_RETURNS = 3;
/** `nodes.instance` keeps the newest instances, newest first: enough to know one that returns among a few clones. */
const INSTANCES_KEPT = 4;

export async function openSession(context: Context, limit: RateLimit, c: Request): Promise<Response> {
  const { jws } = parseRequest(SignedBody, parseJson(await readBody(c.req.raw)));
  const [header, body] = splitCompact(jws);
  const kid = NodeId.safeParse(readHeader(header, { alg: "Ed25519", typ: JOSE_TYPES.session }));
  if (!kid.success) throw new BerthError("bad_proof", "the signature's kid must be the node's id", { reason: "kid" });
  const payload = cleanText(readPayload(body, SessionPayload));
  if (payload.node !== kid.data) throw new BerthError("bad_proof", "the payload names another node than the signature", { reason: "node" });
  if (!(await context.signer.nonceIsFresh(payload.serverNonce)))
    throw new BerthError("stale_nonce", "the nonce is over its time; use the one of this answer", { reason: "nonce" });

  const view = await readForSession(context.store, payload.node);
  if (view.node === null) {
    // Whoever asks has not proved a key: a removed node and one that never was look alike but for the code.
    if (view.isRemoved) return await removal(context, c, payload);
    throw new BerthError("unauthenticated", "this node is not known to this cluster", { reason: "unknown" });
  }
  await verifyCompact(jws, await importEd25519(view.node.signKey));
  if (payload.protocol < PROTOCOL_VERSION_MIN)
    throw new BerthError(
      "unsupported_protocol",
      `this agent speaks protocol ${payload.protocol}; ${PROTOCOL_VERSION_MIN} or later is needed`,
      { reason: "protocol" },
    );

  // After the proof: nobody else uses up what a node has.
  limit.take({ key: payload.node, name: "this node" });
  const opened = await commitSession(context, payload);
  if (opened === null) return await removal(context, c, payload);
  const key = await context.signer.sessionKey(payload.node, opened.session);
  const { clusterId, era } = context.shard.cluster;
  const grant: SessionGrant = {
    iss: clusterId,
    aud: payload.node,
    era,
    challenge: payload.challenge,
    session: opened.session,
    sealedKey: await context.signer.seal(opened.node.sealKey, key),
  };
  return c.json({ jws: await context.signer.sign(JOSE_TYPES.sessionGrant, grant) });
}

/** Signed: it ends all that the node runs, and whoever answers in the control plane's place must not be able to say so. */
async function removal({ signer, shard }: Context, c: Request, { node, challenge }: SessionPayload): Promise<Response> {
  const claims: Removal = { iss: shard.cluster.clusterId, aud: node, challenge };
  return c.json({ ...removedError().toBody(), jws: await signer.sign(JOSE_TYPES.removal, claims) }, 410);
}

/** Null: the node was removed meanwhile. */
async function commitSession(
  context: Context,
  payload: SessionPayload,
): Promise<{ readonly session: number; readonly node: Row<"nodes"> } | null> {
  const { store, shard } = context;
  for (let attempt = 1; attempt <= TRIES_MAX; attempt++) {
    const { node, nowMs, reportedSession } = await readForSession(store, payload.node);
    if (node === null) return null;
    if (node.admission === "pending")
      throw new BerthError("pending_approval", `node ${node.name} waits for an operator: berth node approve ${node.name}`, {
        retryAfterS: APPROVAL_RETRY_S,
      });
    const history = countReturns(node, { instance: payload.instance, nowMs, isUsed: reportedSession === node.session });
    const isQuarantined = node.quarantined || history.instanceChangesMs.length >= CLONE_RETURNS;
    // One of the clones keeps the session and stays seen; two that took it from each other for ever would help nobody.
    if (node.quarantined && history.isOther && node.status === "ready") throw quarantinedError(node.name);
    const result = await store.commit({
      guards: [{ table: "nodes", key: { id: node.id }, rev: node.rev }],
      changes: [
        {
          op: "update",
          table: "nodes",
          rows: [
            {
              id: node.id,
              session: REV,
              instance: history.instances,
              bootId: payload.bootId,
              hardware: payload.hardware,
              instanceChangesMs: history.instanceChangesMs,
              quarantined: isQuarantined,
              ...(node.status === "ready" ? {} : { status: "ready" as const, statusMs: NOW }),
            },
          ],
        },
      ],
      events: eventsOf(node, { isQuarantined, hardware: payload.hardware }),
    });
    if (result.kind !== "committed") continue;
    // Before the grant leaves: its first request must find the session here.
    await shard.refresh();
    const link = await shard.link(payload.node);
    if (link !== null) shard.proved(link);
    if (node.status !== "ready") shard.ring();
    return { session: result.rev, node };
  }
  throw new BerthError("conflict", "this node is being changed by others; try again", { retryAfterS: 1 });
}

interface InstanceHistory {
  /** For `nodes.instance`. */
  readonly instances: string;
  /** For `nodes.instanceChangesMs`: when an instance returned after another, within the window. */
  readonly instanceChangesMs: number[];
  /** Another instance than the one that holds the session. */
  readonly isOther: boolean;
}

/** `isUsed`: who holds the session has reported in it. */
export function countReturns(
  node: Pick<Row<"nodes">, "instance" | "instanceChangesMs">,
  { instance, nowMs, isUsed }: { readonly instance: string; readonly nowMs: number; readonly isUsed: boolean },
): InstanceHistory {
  const known = node.instance === "" ? [] : node.instance.split(" ");
  const isOther = known.length > 0 && known[0] !== instance;
  const isReturn = isOther && isUsed && known.includes(instance);
  const recent = node.instanceChangesMs.filter((atMs) => atMs > nowMs - CLONE_WINDOW_MS);
  return {
    instances: [instance, ...known.filter((other) => other !== instance)].slice(0, INSTANCES_KEPT).join(" "),
    instanceChangesMs: (isReturn ? [...recent, nowMs] : recent).slice(-CLONE_RETURNS - 1),
    isOther,
  };
}

function eventsOf(node: Row<"nodes">, now: { readonly isQuarantined: boolean; readonly hardware: string }): NewEvent[] {
  const event = (type: string, level: NewEvent["level"], text: string): NewEvent => ({
    namespace: null,
    objectKind: "node",
    objectId: node.id,
    app: null,
    type,
    level,
    message: `node ${node.name} ${text}`,
  });
  const events: NewEvent[] = [];
  if (node.status !== "ready")
    events.push(event("ready", "info", node.session === 0 ? "has connected for the first time" : "answers again"));
  if (node.hardware !== "" && node.hardware !== now.hardware)
    events.push(event("hardware", "warning", "has connected from other hardware than before"));
  if (now.isQuarantined && !node.quarantined)
    events.push(
      event("quarantined", "error", "is quarantined: two machines use its key in turns. Stop one of them, then run berth node reissue"),
    );
  return events;
}
