/**
 * The agent's durable memory. After `open` everything is in memory and the disk is only written.
 *
 * Invariants.
 * - A manifest is accepted only when every body that it names is on disk: a reboot with no network can run all of it.
 *   What of them is lost later is fetched again; until then what needs it waits, and all else runs.
 * - The manifest is kept as received and verified again when it is read.
 * - A terminal record is on disk before anyone is told of it.
 * - Nothing in here crash-loops: what cannot be read is fetched again or proved again from the containers themselves.
 */
import { z } from "zod";
import { accept, type Acceptance, type Held } from "../shared/converge/accept.ts";
import { ReplicaRecord } from "../shared/converge/record.ts";
import { ReplicaSpec } from "../shared/model/app.ts";
import { JOSE_TYPES } from "../shared/wire/jose.ts";
import type { KeySet } from "../shared/wire/keys.ts";
import { type AssignmentRef, Manifest } from "../shared/wire/poll.ts";
import { digestHex, verifyKeySet, verifyLease } from "./crypto.ts";
import type { Identity } from "./identity.ts";
import type { PulledEntry } from "./images.ts";
import { type Disk, type Log, PREVIOUS_SUFFIX } from "./ports.ts";
import { SealedFile } from "./sealed-file.ts";

/** With the key set that it was verified under: keys may have been rotated since. */
const ManifestFile = z.object({ jws: z.string(), keySet: z.string() });
const CredentialFile = z.object({ namespace: z.string(), registry: z.string(), version: z.number(), sealed: z.string() });
const PulledFile = z.object({ images: z.array(z.object({ reference: z.string(), imageId: z.string().nullable() })) });

export interface Accepted {
  readonly manifest: Manifest;
  readonly held: Held;
}
export type Credential = z.infer<typeof CredentialFile>;

const credentialKey = (namespace: string, registry: string): string => digestHex(`${namespace} ${registry}`).slice(0, 32);
const RECORD_NAME = /^(r_[a-z2-7]{16})\.json$/;

export class Ledger {
  readonly #disk: Disk;
  readonly #log: Log;
  readonly #manifestFile: SealedFile<typeof ManifestFile>;
  readonly #pulledFile: SealedFile<typeof PulledFile>;
  /** By hash; text: why it cannot be used. */
  readonly #specs = new Map<string, ReplicaSpec | string>();
  readonly #credentials = new Map<string, Credential>();
  readonly #records = new Map<string, ReplicaRecord>();
  /** The last write of each file: writes of one file never overtake each other. */
  readonly #writes = new Map<string, Promise<void>>();
  #accepted: Accepted | null = null;
  #isAbandoned = false;
  #isConfirmed = false;
  /** Everything that the accepted manifest names is here. */
  #isWhole = true;
  #pulled: readonly PulledEntry[] = [];

  private constructor(disk: Disk, log: Log) {
    this.#disk = disk;
    this.#log = log;
    this.#manifestFile = new SealedFile({ disk, log, path: "manifest.json", schema: ManifestFile, keepPrevious: true });
    this.#pulledFile = new SealedFile({ disk, log, path: "images.json", schema: PulledFile });
  }

  static async open(input: { readonly disk: Disk; readonly log: Log; readonly identity: Identity }): Promise<Ledger> {
    const ledger = new Ledger(input.disk, input.log);
    for (const name of await input.disk.list("replicas")) {
      const id = RECORD_NAME.exec(name)?.[1];
      const record = id === undefined ? null : await ledger.#recordFile(id).read();
      if (id !== undefined && record !== null && record.ref.replica === id) ledger.#records.set(id, record);
    }
    for (const name of await input.disk.list("credentials")) {
      const credential = await new SealedFile({
        disk: input.disk,
        log: input.log,
        path: `credentials/${name}`,
        schema: CredentialFile,
      }).read();
      if (credential !== null) ledger.#credentials.set(credentialKey(credential.namespace, credential.registry), credential);
    }
    ledger.#pulled = (await ledger.#pulledFile.read())?.images ?? [];
    for (const record of ledger.#records.values()) await ledger.#loadSpec(record.ref.spec);
    await ledger.#loadManifest(input.identity);
    return ledger;
  }

  get accepted(): Accepted | null {
    return this.#accepted;
  }
  get records(): ReadonlyMap<string, ReplicaRecord> {
    return this.#records;
  }
  get pulled(): readonly PulledEntry[] {
    return this.#pulled;
  }
  /** Of the accepted manifest: all but those whose body was lost. */
  assignments(): AssignmentRef[] {
    const all = this.#accepted?.manifest.assignments ?? [];
    return this.#isWhole ? all : all.filter(({ spec }) => this.#specs.has(spec));
  }
  /** To be told to the control plane: of a set that is not whole it is 0, so that the set is sent again. */
  generation(era: string | null): number {
    const held = this.#accepted?.held;
    return held === undefined || !this.#isWhole || (era !== null && held.era !== era) ? 0 : held.generation;
  }
  get isWhole(): boolean {
    return this.#isWhole;
  }
  /** Something that the accepted manifest names was found missing. */
  foundIncomplete(): void {
    this.#isWhole = false;
  }
  /** Text: why this agent cannot use it. */
  spec(hash: string): ReplicaSpec | string {
    return this.#specs.get(hash) ?? "its body is not in the ledger";
  }

  /** Verified already; what it says is judged here. */
  judge(manifest: Manifest, jws: string, sessionEra: string): Acceptance {
    return accept(this.#accepted?.held ?? null, heldOf(manifest, jws), sessionEra);
  }

  /** Bodies that the manifest names and the disk does not hold whole. */
  async missingSpecs(manifest: Manifest): Promise<string[]> {
    const missing: string[] = [];
    for (const hash of new Set(manifest.assignments.map((assignment) => assignment.spec))) {
      if (!this.#specs.has(hash) && !(await this.#loadSpec(hash))) missing.push(hash);
    }
    return missing;
  }

  async missingConfigs(manifest: Manifest): Promise<string[]> {
    const wanted = new Set(manifest.assignments.flatMap((assignment) => configsOf(this.#specs.get(assignment.spec))));
    const missing: string[] = [];
    for (const hash of wanted) if ((await this.config(hash)) === null) missing.push(hash);
    return missing;
  }

  missingCredentials(manifest: Manifest): Manifest["credentials"] {
    return manifest.credentials.filter(({ namespace, registry, version }) => this.credential(namespace, registry)?.version !== version);
  }

  /** Throws when the text is not what the hash names. */
  async addBody(hash: string, text: string): Promise<void> {
    if (digestHex(text) !== hash) throw new Error(`the body that was sent for ${hash} is another one`);
    await this.#disk.writeAtomic(`bodies/${hash}`, text);
  }

  async addCredential(credential: Credential): Promise<void> {
    const key = credentialKey(credential.namespace, credential.registry);
    await new SealedFile({ disk: this.#disk, log: this.#log, path: `credentials/${key}`, schema: CredentialFile }).write(credential);
    this.#credentials.set(key, credential);
  }

  credential(namespace: string, registry: string): Credential | undefined {
    return this.#credentials.get(credentialKey(namespace, registry));
  }

  /** Null: not there, or not whole. */
  async config(hash: string): Promise<string | null> {
    const bytes = await this.#disk.read(`bodies/${hash}`);
    if (bytes === null) return null;
    const text = new TextDecoder().decode(bytes);
    return digestHex(text) === hash ? text : null;
  }

  /** Everything it names must be there. Durable when this returns; then what the old one needed alone is deleted. */
  async commit(manifest: Manifest, jws: string, keySet: string): Promise<void> {
    await this.#manifestFile.write({ jws, keySet });
    this.#accepted = { manifest, held: heldOf(manifest, jws) };
    this.#isConfirmed = true;
    this.#isWhole = true;
    await this.#sweep(manifest);
  }

  /**
   * The control plane holds the manifest that is held here to be its newest. Until it has said so to this process, what
   * the manifest does not name is not known to be unwanted: a disk can be rolled back, or its newest file be torn.
   */
  confirm(): void {
    if (this.#accepted !== null && this.#isWhole) this.#isConfirmed = true;
  }
  get isConfirmed(): boolean {
    return this.#isConfirmed;
  }

  /** Nothing is started from it any more, by whoever starts next and hears nobody either. */
  async forgetManifest(): Promise<void> {
    for (const path of [this.#manifestFile.path, `${this.#manifestFile.path}${PREVIOUS_SUFFIX}`]) await this.#disk.remove(path);
  }

  /** This node was removed: an empty set, whatever the manifest on disk says. Nobody acknowledges any more. */
  abandon(identity: Identity): void {
    const manifest: Manifest = {
      iss: identity.enrolled?.cluster ?? "",
      aud: identity.enrolled?.node ?? ("" as Manifest["aud"]),
      era: "",
      generation: 0,
      assignments: [],
      credentials: [],
      dropVolumes: [],
    };
    this.#accepted = { manifest, held: { era: "", generation: 0, digest: "" } };
    this.#isAbandoned = true;
    this.#isConfirmed = true;
    this.#isWhole = true;
  }
  get isAbandoned(): boolean {
    return this.#isAbandoned;
  }

  record(replica: string): ReplicaRecord | undefined {
    return this.#records.get(replica);
  }

  /** In memory at once, durable when the promise resolves. */
  async putRecord(record: ReplicaRecord): Promise<void> {
    const id = record.ref.replica;
    this.#records.set(id, record);
    await this.#inOrder(`replicas/${id}`, async () => {
      // A later value may have come while this one waited for its turn: the last one is what counts.
      const latest = this.#records.get(id);
      if (latest !== undefined) await this.#recordFile(id).write(latest);
    });
  }

  /** Of what has ended: on disk first, and only then for anyone to see. */
  async concludeRecord(record: ReplicaRecord): Promise<void> {
    const id = record.ref.replica;
    await this.#inOrder(`replicas/${id}`, () => this.#recordFile(id).write(record));
    this.#records.set(id, record);
  }

  /** Known until the process ends: where it is can be found again from its container. */
  rememberRecord(record: ReplicaRecord): void {
    this.#records.set(record.ref.replica, record);
  }

  async forget(replica: string): Promise<void> {
    this.#records.delete(replica);
    await this.#inOrder(`replicas/${replica}`, () => this.#disk.remove(`replicas/${replica}.json`));
    await this.#disk.remove(`configs/${replica}`);
  }

  async putPulled(images: readonly PulledEntry[]): Promise<void> {
    this.#pulled = images;
    await this.#inOrder("images", () => this.#pulledFile.write({ images: [...this.#pulled] }));
  }

  #recordFile(id: string): SealedFile<typeof ReplicaRecord> {
    return new SealedFile({ disk: this.#disk, log: this.#log, path: `replicas/${id}.json`, schema: ReplicaRecord });
  }

  #inOrder(key: string, write: () => Promise<void>): Promise<void> {
    const turn = (this.#writes.get(key) ?? Promise.resolve()).catch(() => undefined).then(write);
    this.#writes.set(key, turn);
    const done = () => {
      if (this.#writes.get(key) === turn) this.#writes.delete(key);
    };
    turn.then(done, done);
    return turn;
  }

  async #loadSpec(hash: string): Promise<boolean> {
    const text = await this.config(hash);
    if (text === null) return false;
    const spec = ReplicaSpec.safeParse(JSON.parse(text));
    this.#specs.set(hash, spec.success ? spec.data : describeSpecProblem(spec.error));
    return true;
  }

  async #loadManifest(identity: Identity): Promise<void> {
    const file = await this.#manifestFile.read();
    if (file === null || identity.enrolled === null) return;
    try {
      const keySet = await verifyKeySet(file.keySet, identity.root);
      const manifest = await openManifest(file.jws, { keySet, node: identity.enrolled.node, cluster: identity.enrolled.cluster });
      this.#accepted = { manifest, held: heldOf(manifest, file.jws) };
      const missing = {
        specs: (await this.missingSpecs(manifest)).length,
        configs: (await this.missingConfigs(manifest)).length,
        credentials: this.missingCredentials(manifest).length,
      };
      this.#isWhole = missing.specs + missing.configs + missing.credentials === 0;
      if (!this.#isWhole) this.#log.warn({ missing }, "the ledger has lost some of what its manifest names; that is fetched again");
    } catch (error) {
      this.#log.warn({ error: String(error) }, "the manifest in the ledger cannot be used; it is fetched again");
    }
  }

  async #sweep(manifest: Manifest): Promise<void> {
    const specs = new Set(manifest.assignments.map((assignment) => assignment.spec));
    for (const record of this.#records.values()) specs.add(record.ref.spec);
    for (const hash of this.#specs.keys()) if (!specs.has(hash)) this.#specs.delete(hash);
    const keep = new Set([...specs, ...[...this.#specs.values()].flatMap(configsOf)]);
    for (const name of await this.#disk.list("bodies")) if (!keep.has(name)) await this.#disk.remove(`bodies/${name}`);
    const credentials = new Set(manifest.credentials.map(({ namespace, registry }) => credentialKey(namespace, registry)));
    for (const key of this.#credentials.keys()) {
      if (credentials.has(key)) continue;
      this.#credentials.delete(key);
      await this.#disk.remove(`credentials/${key}`);
    }
  }
}

const configsOf = (spec: ReplicaSpec | string | undefined): string[] => (typeof spec === "object" ? Object.values(spec.configs) : []);

function describeSpecProblem(error: z.ZodError): string {
  const issue = error.issues[0];
  return `this agent does not understand ${issue?.path.join(".") ?? "the spec"}: ${issue?.message ?? ""}; a newer agent may`;
}

const heldOf = (manifest: Manifest, jws: string): Held => ({
  era: manifest.era,
  generation: manifest.generation,
  digest: digestHex(jws.split(".")[1] ?? ""),
});

/** Signature, audience (compared whole) and issuer. Throws VerifyError or a schema error. */
export async function openManifest(
  jws: string,
  expected: { readonly keySet: KeySet; readonly node: string; readonly cluster: string },
): Promise<Manifest> {
  const manifest = Manifest.parse(await verifyLease(jws, JOSE_TYPES.manifest, expected.keySet));
  if (manifest.aud !== expected.node) throw new Error(`the manifest is for ${manifest.aud}, not for this node`);
  if (manifest.iss !== expected.cluster) throw new Error(`the manifest is of cluster ${manifest.iss}, not of this one`);
  return manifest;
}
