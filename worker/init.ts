/**
 * Makes a cluster: its keys and the row that says who it is. Safe to run again after a crash at any point: keys that are
 * there are kept, and so is the cluster.
 */
import { base64url } from "jose";
import { KeyRing, newEd25519, newKeyRing, PrivateEd25519, publicHalf, signKeySet } from "./keys.ts";
import type { Random } from "./ports.ts";
import type { Store } from "./store/store.ts";

/** Where keys are kept; implemented in worker/key-files.ts. */
export interface KeyFiles {
  /** Null: there is no such key. */
  read(name: string): Promise<string | null>;
  /** Durable when it resolves. Throws when there is one already. */
  create(name: string, text: string): Promise<void>;
}

/** The root key may be taken off the machine (see worker/keys.ts); the ring is needed at every start. */
export const ROOT_KEY_FILE = "root.json";
export const KEY_RING_FILE = "ring.json";

export interface ClusterParts {
  readonly store: Store;
  readonly files: KeyFiles;
  readonly random: Random;
}

/** The keys of this cluster, made when there is none yet. Throws when the database has a cluster and the keys are missing. */
export async function createCluster({
  store,
  files,
  random,
}: ClusterParts): Promise<{ readonly ring: KeyRing; readonly created: boolean }> {
  const isThere = await hasCluster(store);
  const ringText = await files.read(KEY_RING_FILE);
  if (isThere) {
    if (ringText === null)
      throw new Error(`this database belongs to a cluster whose ${KEY_RING_FILE} is missing; restore it from the backup of the keys`);
    return { ring: parseKeys(KEY_RING_FILE, ringText, KeyRing), created: false };
  }
  const ring = ringText === null ? await newKeyRing(random) : parseKeys(KEY_RING_FILE, ringText, KeyRing);
  if (ringText === null) await files.create(KEY_RING_FILE, JSON.stringify(ring));
  const root = await rootKey(files);

  const clusterId = `c_${base64url.encode(random.bytes(12))}`;
  const era = base64url.encode(random.bytes(9));
  const keySetVersion = 1;
  const keySet = await signKeySet(root, {
    iss: clusterId,
    era,
    version: keySetVersion,
    keys: ring.lease.map(({ kid, jwk }) => ({ kid, use: "lease", jwk: publicHalf(jwk) })),
  });
  const { created } = await store.init({ clusterId, era, rootKey: publicHalf(root), keySet, keySetVersion });
  return { ring, created };
}

async function rootKey(files: KeyFiles): Promise<PrivateEd25519> {
  const text = await files.read(ROOT_KEY_FILE);
  if (text !== null) return parseKeys(ROOT_KEY_FILE, text, PrivateEd25519);
  const { jwk } = await newEd25519();
  await files.create(ROOT_KEY_FILE, JSON.stringify(jwk));
  return jwk;
}

async function hasCluster(store: Store): Promise<boolean> {
  const [result] = await store.database.read(["select count(*) from cluster"]);
  return Number(result?.rows[0]?.[0]) > 0;
}

/** Never says what is in the file. */
function parseKeys<Keys>(name: string, text: string, schema: { parse(value: unknown): Keys }): Keys {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw new Error(`${name} does not hold keys of this version of berth, or is damaged; restore it from the backup of the keys`);
  }
}
