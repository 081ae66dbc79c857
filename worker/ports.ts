/**
 * What the control plane needs from the world. Everything behind these interfaces is made in the entry (`node.ts`), so
 * that the same app object runs under other entries, and under virtual time.
 */
import type { InStatement, Value } from "@libsql/client";

/** Timers and the local clock. `nowMs` is for measuring waits only; it is never compared with a stored time. */
export interface Clock {
  nowMs(): number;
  /** Calls `run` once after `ms`; the returned function cancels it. */
  after(ms: number, run: () => void): () => void;
}

export interface Random {
  bytes(count: number): Uint8Array;
}

/** What one statement answers: values of a row in the order of its columns, integers as numbers. */
export interface SqlResult {
  readonly rows: readonly ArrayLike<Value>[];
  readonly rowsAffected: number;
}

/** The database. `write` is one BEGIN IMMEDIATE batch; both reject with the client's LibsqlError. */
export interface Database {
  read(statements: InStatement[]): Promise<SqlResult[]>;
  write(statements: InStatement[]): Promise<SqlResult[]>;
  /** After a BUSY the client is poisoned until this. */
  reconnect(): void;
}

/** Signing and sealing with the cluster's keys; made by worker/keys.ts over jose. */
export interface Signer {
  /** Compact JWS under the current lease key. */
  sign(typ: string, payload: Record<string, unknown>): Promise<string>;
  /** 32-byte session key of (node, session), by HKDF from the cluster secret. */
  sessionKey(node: string, session: number): Promise<Uint8Array>;
  /** Compact JWE of `plaintext` to an X25519 public key. */
  seal(jwk: { kty: "OKP"; crv: "X25519"; x: string }, plaintext: Uint8Array): Promise<string>;
  /** Sealing for the database, under the cluster's own sealing key. */
  sealAtRest(plaintext: Uint8Array): Promise<{ kid: string; sealed: string }>;
  openAtRest(kid: string, sealed: string): Promise<Uint8Array>;
  /** Stateless nonce: an HMAC over the time slice. */
  nonce(): Promise<string>;
  nonceIsFresh(nonce: string): Promise<boolean>;
}

/** Asks an image registry what a tag means; null when it cannot be reached, does not say, or `signal` aborts before. */
export interface Registry {
  resolve(reference: string, ask: RegistryAsk): Promise<{ digest: string } | null>;
}
export interface RegistryAsk {
  readonly credentials: { readonly username: string; readonly password: string } | null;
  readonly signal: AbortSignal;
}

export interface Log {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}
