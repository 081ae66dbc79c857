/**
 * The agent protocol's version and its history. `test/core/wire.test.ts` hashes every schema of this folder: once a
 * version has been released, this number moves with the hash and gets a line.
 *
 * 1  first version
 */
export const PROTOCOL_VERSION = 1;
/** Oldest agent protocol that this control plane answers. */
export const PROTOCOL_VERSION_MIN = 1;

/** Sent with every request and answer of the agent protocol. */
export const PROTOCOL_HEADER = "berth-protocol";
/** Carries the server's nonce on every answer, 204 included. */
export const NONCE_HEADER = "berth-nonce";
/** Identity of the database's history; an answer from another era makes the agent start a new session. */
export const ERA_HEADER = "berth-era";
