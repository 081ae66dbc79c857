import type { Context as Request } from "hono";
import { registryOf } from "../../../shared/model/image.ts";
import { Name } from "../../../shared/model/name.ts";
import type { CredentialAnswer } from "../../../shared/wire/poll.ts";
import type { Context } from "../../context.ts";
import { BerthError } from "../../errors.ts";
import { readCredential } from "../../store/read-agents.ts";
import { proveRequest, quarantinedError } from "./proof.ts";

const REGISTRY_CHARS_MAX = 253;

/** Registry credentials, sealed to the node's own key, if a replica assigned to it is pulled with them. */
export async function credentials(context: Context, c: Request): Promise<Response> {
  const { link } = await proveRequest(context, c.req.raw);
  if (link.row.quarantined) throw quarantinedError(link.row.name);
  const namespace = Name.safeParse(c.req.param("namespace"));
  const registry = c.req.param("registry") ?? "";
  const isAsked = namespace.success && registry.length <= REGISTRY_CHARS_MAX;
  const found = isAsked ? await readCredential(context.store, link.row.id, { namespace: namespace.data, registry }) : null;
  if (found === null || !found.references.some((reference) => registryOf(reference) === registry))
    throw new BerthError("not_found", "nothing that is assigned to this node is pulled with these credentials");
  const opened = await context.signer.openAtRest(found.kid, found.sealed);
  const password = new TextDecoder().decode(opened);
  const plaintext = new TextEncoder().encode(JSON.stringify({ username: found.username, password }));
  const answer: CredentialAnswer = { version: found.version, sealed: await context.signer.seal(found.sealKey, plaintext) };
  return c.json(answer);
}
