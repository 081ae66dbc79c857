/**
 * Who asks, and what they may. Bearer tokens are `berth_` and 39 base32 characters: 160 random bits and a CRC-32 of
 * them, so that a mistyped or cut token is refused before anything is read. Only the SHA-256 of a token is stored.
 *
 * Deny by default: a route names the least role and the scope it needs. A token of one namespace sees that namespace,
 * by exact match; any other is the very same 404 as one that does not exist.
 */
import { ROLES, type Role } from "../shared/api/resources.ts";
import { hashText } from "../shared/model/content.ts";
import { BerthError } from "./errors.ts";
import { base32 } from "./new-id.ts";
import type { Clock, Random } from "./ports.ts";
import { readToken, type TokenView } from "./store/read-tokens.ts";
import type { Store } from "./store/store.ts";

export interface Principal {
  readonly tokenId: string;
  readonly name: string;
  readonly role: Role;
  /** Null: all namespaces. */
  readonly namespace: string | null;
}

const TOKEN_PATTERN = /^berth_([a-z2-7]{32})([a-z2-7]{7})$/;
/** Secret scanners find a token by its prefix; 20 bytes are beyond guessing. */
const SECRET_BYTES = 20;

export function newToken(random: Random): string {
  const secret = base32(random.bytes(SECRET_BYTES));
  return `berth_${secret}${checksum(secret)}`;
}

export const hashToken = (token: string): string => hashText(token);

/** True for text that newToken could have made. */
export function isToken(text: string): boolean {
  const match = TOKEN_PATTERN.exec(text);
  return match !== null && checksum(match[1]!) === match[2];
}

/** CRC-32 (IEEE 802.3, reflected) in 7 base32 characters. */
function checksum(text: string): string {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i++) {
    crc ^= text.charCodeAt(i);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  crc = ~crc;
  return base32(Uint8Array.of(crc >>> 24, (crc >>> 16) & 255, (crc >>> 8) & 255, crc & 255));
}

const refuse = (message: string, reason: string) => new BerthError("unauthenticated", message, { reason });

/** The token of a request. Throws `invalid` for two of them, `unauthenticated` for none or one that cannot be right. */
export function bearerOf(headers: Headers): string {
  const value = headers.get("authorization");
  if (value === null) throw refuse("send a token: Authorization: Bearer berth_…", "missing");
  // Several headers of one name arrive joined by commas, and no token has one.
  if (value.includes(",")) throw new BerthError("invalid", "the request has two Authorization headers; send one", { reason: "headers" });
  const token = /^Bearer +(\S+)$/i.exec(value)?.[1];
  if (token === undefined) throw refuse("the Authorization header must be: Bearer berth_…", "scheme");
  if (!isToken(token)) throw refuse("this is not a whole berth token; copy it again", "checksum");
  return token;
}

interface Remembered {
  readonly view: TokenView;
  /** Nothing was committed since: the row is as it was. */
  readonly rev: number;
  readonly readMs: number;
}

/** Without a commit a row cannot change, but it can expire: the clock is asked again after this. */
const REMEMBER_MS = 5_000;
/** A token is 100 bytes or so here; a cluster has tens. */
const REMEMBERED_MAX = 1_000;

export interface AuthenticatorParts {
  readonly store: Store;
  readonly clock: Clock;
  /** Newest rev that this process knows of. */
  readonly rev: () => number;
}

export class Authenticator {
  readonly #parts: AuthenticatorParts;
  readonly #remembered = new Map<string, Remembered>();

  constructor(parts: AuthenticatorParts) {
    this.#parts = parts;
  }

  async authenticate(headers: Headers): Promise<Principal> {
    const view = await this.#view(hashToken(bearerOf(headers)));
    if (view === null) throw refuse("this token is not known here; it may have been deleted", "unknown");
    if (view.expiresMs !== null && view.expiresMs <= view.nowMs)
      throw refuse("this token has expired; ask an admin for a new one", "expired");
    return { tokenId: view.id, name: view.name, role: view.role, namespace: view.namespace };
  }

  async #view(hash: string): Promise<TokenView | null> {
    const { store, clock, rev } = this.#parts;
    const known = this.#remembered.get(hash);
    const atRev = rev();
    const atMs = clock.nowMs();
    if (known !== undefined && known.rev === atRev && atMs - known.readMs < REMEMBER_MS) return known.view;
    const view = await readToken(store, hash);
    if (view === null) {
      this.#remembered.delete(hash);
      return null;
    }
    if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear();
    this.#remembered.set(hash, { view, rev: atRev, readMs: atMs });
    return view;
  }
}

/** namespace: the path names it. cluster: needs a token of all namespaces. any: every token. */
export type Scope = "namespace" | "cluster" | "any";

export const noNamespace = (namespace: string) =>
  new BerthError("not_found", `there is no namespace ${namespace}`, { reason: "namespace" });

/** Throws unless `principal` may use a route of this scope and role. `namespace` is the path's, whatever it holds. */
export function authorize(principal: Principal, needs: { readonly role: Role; readonly scope: Scope }, namespace: string | null): void {
  // Before the role: which routes a token may use in a foreign namespace says nothing about that namespace.
  if (needs.scope === "namespace" && (namespace === null || !mayEnter(principal, namespace))) throw noNamespace(namespace ?? "");
  if (needs.scope === "cluster" && principal.namespace !== null)
    throw new BerthError("forbidden", `this needs a token of all namespaces; ${principal.name} is bound to ${principal.namespace}`, {
      reason: "scope",
    });
  if (rank(principal.role) < rank(needs.role))
    throw new BerthError("forbidden", `this needs the role ${needs.role}; ${principal.name} is a ${principal.role}`, { reason: "role" });
}

export const mayEnter = (principal: Principal, namespace: string): boolean =>
  principal.namespace === null || principal.namespace === namespace;
const rank = (role: Role): number => ROLES.indexOf(role);
