/**
 * Manifests: the complete set of one node, signed once a generation. Building reads one consistent view, so what is
 * signed is the set of exactly the generation that it names.
 */
import { registryOf } from "../shared/model/image.ts";
import type { NodeId } from "../shared/model/name.ts";
import { JOSE_TYPES } from "../shared/wire/jose.ts";
import { Manifest } from "../shared/wire/poll.ts";
import type { Signer } from "./ports.ts";
import { type ManifestView, readManifest } from "./store/read-agents.ts";
import type { Store } from "./store/store.ts";

export interface SignedManifest {
  readonly generation: number;
  /** Compact JWS. */
  readonly jws: string;
}

/** 5,000 nodes of 20 replicas at 450 characters each are 45 MB. */
const CACHE_CHARS_MAX = 64_000_000;

export class Manifests {
  readonly #store: Store;
  readonly #signer: Signer;
  /** Newest generation asked for of each node, least recently used first. */
  readonly #signed = new Map<string, SignedManifest>();
  readonly #building = new Map<string, Promise<SignedManifest | null>>();
  #chars = 0;

  constructor(store: Store, signer: Signer) {
    this.#store = store;
    this.#signer = signer;
  }

  /** The node's manifest at `generation` or later; null: no such node, or it is quarantined. */
  async get(
    node: NodeId,
    generation: number,
    cluster: { readonly clusterId: string; readonly era: string },
  ): Promise<SignedManifest | null> {
    const known = this.#signed.get(node);
    if (known !== undefined && known.generation >= generation) {
      this.#signed.delete(node);
      this.#signed.set(node, known);
      return known;
    }
    const key = `${node}.${generation}`;
    const building = this.#building.get(key) ?? this.#build(node, cluster).finally(() => this.#building.delete(key));
    this.#building.set(key, building);
    return building;
  }

  async #build(node: NodeId, cluster: { readonly clusterId: string; readonly era: string }): Promise<SignedManifest | null> {
    const view = await readManifest(this.#store, node);
    if (view === null || view.quarantined) return null;
    const manifest = manifestOf(node, view, cluster);
    const signed = { generation: view.generation, jws: await this.#signer.sign(JOSE_TYPES.manifest, manifest) };
    this.#keep(node, signed);
    return signed;
  }

  #keep(node: string, signed: SignedManifest): void {
    const old = this.#signed.get(node);
    if (old !== undefined && old.generation > signed.generation) return;
    this.#drop(node);
    this.#signed.set(node, signed);
    this.#chars += signed.jws.length;
    for (const oldest of this.#signed.keys()) {
      if (this.#chars <= CACHE_CHARS_MAX) break;
      this.#drop(oldest);
    }
  }

  #drop(node: string): void {
    this.#chars -= this.#signed.get(node)?.jws.length ?? 0;
    this.#signed.delete(node);
  }
}

/** The payload. Parsed by its own schema: what an agent would refuse is not signed. */
export function manifestOf(node: NodeId, view: ManifestView, cluster: { readonly clusterId: string; readonly era: string }): Manifest {
  const used = new Set(view.replicas.map(({ namespace, reference }) => `${namespace} ${registryOf(reference)}`));
  return Manifest.parse({
    iss: cluster.clusterId,
    aud: node,
    era: cluster.era,
    generation: view.generation,
    assignments: view.replicas.map((row) => ({
      replica: row.id,
      namespace: row.namespace,
      app: row.app,
      service: row.service,
      slot: row.slot,
      revision: row.revision,
      spec: row.spec,
      image: {
        reference: row.reference,
        digest: row.digest,
        imageId: row.digest === null ? row.imageId : null,
        resolve: row.digest === null && row.imageId === null && row.resolver === node,
      },
    })),
    credentials: view.registries.filter(({ namespace, registry }) => used.has(`${namespace} ${registry}`)),
    dropVolumes: view.dropVolumes,
  });
}
