/**
 * One node's agent, put together: the link brings manifests into the ledger, the converger carries out what the ledger
 * holds, the reporter tells what is. None of them waits for another, so a dead link or a dead engine stops only itself.
 */
import type { KeySet } from "../shared/wire/keys.ts";
import { type ChannelAsk, CredentialAnswer, type Manifest } from "../shared/wire/poll.ts";
import type { NodeFacts } from "../shared/wire/report.ts";
import { Channels } from "./channels.ts";
import { Converger } from "./converger.ts";
import { VerifyError, verifyKeySet } from "./crypto.ts";
import type { Engine } from "./engine/engine.ts";
import { FactBook } from "./fact-book.ts";
import type { Identity, identityFile } from "./identity.ts";
import { Ledger, openManifest } from "./ledger.ts";
import { Link } from "./link/link.ts";
import { Reporter } from "./link/reporter.ts";
import { describeAnswer, parseAnswer, type Session, type Transport } from "./link/transport.ts";
import { describeNode } from "./machine.ts";
import { pause } from "./pause.ts";
import { type Policy, POLICY_FILE, type ReadPolicy, readPolicy, unreadable } from "./policy.ts";
import type { Clock, Disk, Host, Log, Random, Sockets } from "./ports.ts";

/** Bodies are small and many: eight requests hide the round trip without crowding a thin link. */
const FETCHES_MAX = 8;
const POLICY_LOOK_EVERY_MS = 5_000;
const POLICY_GONE_AFTER_MS = 1_000;
const EMPTY_LOOK_EVERY_MS = 100;

interface PolicyFound {
  /** Null: there is no file, or none that can be read. */
  readonly text: string | null;
  readonly problem: string | null;
}

export interface NodeAgentInput {
  readonly identity: Identity;
  readonly identityFile: ReturnType<typeof identityFile>;
  readonly disk: Disk;
  readonly host: Host;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly engine: Engine;
  readonly transport: Transport;
  readonly sockets: Sockets;
  readonly agentVersion: string;
  /** For people who watch: what the link does. */
  onState(sentence: string): void;
}

export type AgentEnd = "stopped" | "removed";

export class NodeAgent {
  readonly #input: NodeAgentInput;
  readonly #node: string;
  readonly #cluster: string;
  #identity: Identity;
  #keySet: { readonly keySet: KeySet; readonly jws: string } | null = null;
  #policy: ReadPolicy = readPolicy(null, null);
  #policyFound: PolicyFound | null = null;
  #policyLastGood: Policy | null = null;
  #nodeFacts: Promise<NodeFacts> | null = null;

  constructor(input: NodeAgentInput) {
    if (input.identity.enrolled === null) throw new Error("this machine is not enrolled");
    this.#input = input;
    this.#identity = input.identity;
    this.#node = input.identity.enrolled.node;
    this.#cluster = input.identity.enrolled.cluster;
  }

  /** Until `signal`: containers go on running. Or until the node was removed and what it ran has stopped. */
  async run(signal: AbortSignal): Promise<AgentEnd> {
    const { disk, log, clock, random, host, transport, agentVersion } = this.#input;
    await this.#loadPolicy();
    if (this.#identity.keySet !== null) await this.#loadKeySet(this.#identity.keySet);
    const ledger = await Ledger.open({ disk, log, identity: this.#identity });
    const facts = new FactBook({ onChange: () => reporter.changed(), onAcknowledged: () => converger.wake() });
    const ended = new AbortController();
    const both = AbortSignal.any([signal, ended.signal]);

    const converger = new Converger({
      ...this.#input,
      ledger,
      facts,
      keys: this.#identity.keys,
      node: this.#node,
      nodeName: this.#identity.enrolled?.name ?? "",
      signal: both,
      policy: () => this.#policy,
      policyFile: disk.absolute(POLICY_FILE),
      resolved: (fact) => reporter.resolved(fact),
      onEngineChange: () => {
        this.#nodeFacts = null;
        reporter.changed();
      },
    });
    const reporter = new Reporter(
      {
        transport,
        clock,
        random,
        log,
        source: {
          facts,
          nodeFacts: () => this.#facts(converger),
          engine: () => converger.engine,
          volumes: () => converger.volumes,
          hasDrops: () => (ledger.accepted?.manifest.dropVolumes ?? []).length > 0,
          generation: () => ledger.generation(null),
          isKnown: () => converger.isKnown,
        },
        onRefused: (session, answer) => link.refused(session, answer),
      },
      both,
    );
    const channels = new Channels({ ...this.#input, ledger, policy: () => this.#policy.policy });
    const link = new Link({
      transport,
      clock,
      random,
      log,
      root: this.#identity.root,
      session: {
        keys: this.#identity.keys,
        node: this.#node,
        cluster: this.#cluster,
        bootId: host.bootId,
        hardware: await host.hardware(),
        agentVersion,
      },
      handler: {
        keySet: () => this.#keySet,
        putKeySet: (keySet, jws) => this.#putKeySet(keySet, jws),
        generation: (era) => ledger.generation(era),
        opened: (session) => reporter.opened(session),
        manifest: async (jws, session) => {
          const result = await this.#accept(jws, session, ledger);
          if (result.kind === "accepted") converger.accepted();
          reporter.changed();
          return result;
        },
        confirmed: (era, generation) => {
          const held = ledger.accepted?.held;
          if (ledger.isConfirmed || held === undefined || held.era !== era || held.generation !== generation) return;
          ledger.confirm();
          converger.wake();
        },
        channels: () => channels.open,
        channel: (ask: ChannelAsk, session) => channels.answer(ask, session, both),
        state: (state, message) => {
          log.info({ link: state, message }, "link");
          this.#input.onState(describeLink(state, message, this.#identity));
        },
        heard: () => reporter.linkIsUp(),
      },
    });

    if (this.#identity.removed) ledger.abandon(this.#identity);
    const linked = this.#identity.removed ? Promise.resolve() : link.run(both);
    const untilRemoved = async () => {
      await linked;
      if (both.aborted) return;
      const isNoted = await this.#removed(ledger);
      converger.wake();
      while (!both.aborted && !converger.isEmpty) await pause(clock, EMPTY_LOOK_EVERY_MS, both);
      if (!isNoted && !both.aborted) await this.#noteIdentity({});
      ended.abort();
    };
    try {
      await Promise.all([converger.run(both), untilRemoved(), this.#watchPolicy({ converger, channels, reporter }, both)]);
    } finally {
      ended.abort();
    }
    return this.#identity.removed && !signal.aborted ? "removed" : "stopped";
  }

  /**
   * What it ran ends with it: the control plane has given its work to others. Said once, it holds over restarts; where the
   * disk refuses that, it is said again to whoever starts anew, and no reason to run on. Also a full disk takes it that there
   * is nothing to run. False: the disk refused.
   */
  async #removed(ledger: Ledger): Promise<boolean> {
    const isNoted = await this.#noteIdentity({ removed: true });
    ledger.abandon(this.#identity);
    if (!isNoted)
      await ledger.forgetManifest().catch((error: unknown) => {
        this.#input.log.error({ error: String(error) }, "the manifest of a removed node could not be removed");
      });
    return isNoted;
  }

  async #accept(
    jws: string,
    session: Session,
    ledger: Ledger,
  ): Promise<{ readonly kind: "accepted" } | { readonly kind: "refused"; readonly message: string }> {
    const { log } = this.#input;
    const keys = this.#keySet;
    if (keys === null) return { kind: "refused", message: "no key set" };
    let manifest: Manifest;
    try {
      manifest = await openManifest(jws, { keySet: keys.keySet, node: this.#node, cluster: this.#cluster });
    } catch (error) {
      if (error instanceof VerifyError && error.code === "unknownKey") this.#keySet = null;
      return { kind: "refused", message: `the manifest was not accepted: ${error instanceof Error ? error.message : String(error)}` };
    }
    const verdict = ledger.judge(manifest, jws, session.era);
    if (verdict.kind === "refuse") return { kind: "refused", message: verdict.message };
    if (verdict.kind === "current" && ledger.isWhole) {
      ledger.confirm();
      return { kind: "accepted" };
    }
    try {
      const fetch = (path: string) => this.#fetch(path, session);
      await eachOf(await ledger.missingSpecs(manifest), FETCHES_MAX, async (hash) =>
        ledger.addBody(hash, await fetch(`/agent/v1/bodies/${hash}`)),
      );
      await ledger.missingSpecs(manifest);
      await eachOf(await ledger.missingConfigs(manifest), FETCHES_MAX, async (hash) =>
        ledger.addBody(hash, await fetch(`/agent/v1/bodies/${hash}`)),
      );
      await eachOf(ledger.missingCredentials(manifest), FETCHES_MAX, async ({ namespace, registry }) => {
        const answer = parseAnswer(await fetch(`/agent/v1/credentials/${namespace}/${encodeURIComponent(registry)}`), CredentialAnswer);
        if (answer === null) throw new Error(`the credentials for ${registry} are malformed`);
        await ledger.addCredential({ namespace, registry, version: answer.version, sealed: answer.sealed });
      });
      await ledger.commit(manifest, jws, keys.jws);
      log.info({ generation: manifest.generation, assignments: manifest.assignments.length }, "accepted a manifest");
      return { kind: "accepted" };
    } catch (error) {
      return {
        kind: "refused",
        message: `the manifest of generation ${manifest.generation} is not whole: ${error instanceof Error ? error.message : String(error)}`,
      };
    }
  }

  async #fetch(path: string, session: Session): Promise<string> {
    const answer = await this.#input.transport.exchange({ method: "GET", path, session });
    if (answer.kind !== "ok") throw new Error(`${path}: ${describeAnswer(answer)}`);
    return answer.text;
  }

  #facts(converger: Converger): Promise<NodeFacts> {
    const info = converger.engine.info;
    this.#nodeFacts ??= describeNode({
      host: this.#input.host,
      engine: info,
      policy: this.#policy.policy,
      agentVersion: this.#input.agentVersion,
    });
    return this.#nodeFacts;
  }

  async #loadPolicy(): Promise<boolean> {
    const found = await this.#policyFile();
    if (found.text === this.#policyFound?.text && found.problem === this.#policyFound.problem) return false;
    this.#policyFound = found;
    this.#policy = found.problem === null ? readPolicy(found.text, this.#policyLastGood) : unreadable(found.problem, this.#policyLastGood);
    if (this.#policy.problem === null) this.#policyLastGood = this.#policy.policy;
    else this.#input.log.error({ problem: this.#policy.problem }, "the node's policy cannot be read");
    return true;
  }

  /** Editors take the old file away before they put the new one there: gone for a moment is not gone. */
  async #policyFile(): Promise<PolicyFound> {
    const read = async (): Promise<PolicyFound> => {
      try {
        const bytes = await this.#input.disk.read(POLICY_FILE);
        return { text: bytes === null ? null : new TextDecoder().decode(bytes), problem: null };
      } catch (error) {
        return { text: null, problem: `${POLICY_FILE} cannot be read (${error instanceof Error ? error.message : String(error)})` };
      }
    };
    const found = await read();
    if (found.text !== null || (this.#policyFound?.text ?? null) === null) return found;
    await pause(this.#input.clock, POLICY_GONE_AFTER_MS, new AbortController().signal);
    return read();
  }

  async #watchPolicy(
    { converger, channels, reporter }: { converger: Converger; channels: Channels; reporter: Reporter },
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#input.clock, POLICY_LOOK_EVERY_MS, signal);
      if (signal.aborted || !(await this.#loadPolicy())) continue;
      this.#nodeFacts = null;
      channels.policyChanged();
      converger.wake();
      // Labels, devices and ceilings are told, also by a node on which nothing else happens.
      reporter.changed();
    }
  }

  async #loadKeySet(jws: string): Promise<void> {
    try {
      this.#keySet = { keySet: await verifyKeySet(jws, this.#identity.root), jws };
    } catch (error) {
      this.#input.log.warn({ error: String(error) }, "the key set in the ledger cannot be used; it is fetched again");
    }
  }

  async #putKeySet(keySet: KeySet, jws: string): Promise<void> {
    this.#keySet = { keySet, jws };
    await this.#noteIdentity({ keySet: jws, wallMs: Math.max(this.#identity.wallMs, this.#input.clock.wallMs()) });
  }

  /** What the control plane tells anew at any time: a disk that is full (F8) keeps nobody from acting on it. */
  async #noteIdentity(changes: Partial<Identity>): Promise<boolean> {
    try {
      await this.#writeIdentity(changes);
      return true;
    } catch (error) {
      this.#input.log.error({ error: String(error) }, "the identity could not be written");
      return false;
    }
  }

  /** The join line may be pasted again while this runs: the address and certificate that it left hold from the next start on. */
  async #writeIdentity(changes: Partial<Identity>): Promise<void> {
    const { identityFile } = this.#input;
    const held = await identityFile.read();
    const isOurs = held !== null && held.keys.sign.x === this.#identity.keys.sign.x;
    this.#identity = { ...this.#identity, ...changes };
    await identityFile.write(isOurs ? { ...this.#identity, url: held.url, spki: held.spki } : this.#identity);
  }
}

async function eachOf<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}

function describeLink(state: Link["state"], message: string, identity: Identity): string {
  const name = identity.enrolled?.name ?? "";
  switch (state) {
    case "opening":
      return `connecting to ${identity.url}`;
    case "polling":
      return `connected to ${identity.url} as node ${name}`;
    case "pausing":
    case "pausingUnopened":
      return `${identity.url} cannot be reached (${message}); what runs here goes on running, trying again`;
    case "pending":
      return `waiting for an operator to approve this node: berth node approve ${name}`;
    case "quarantined":
      return `two machines use this node's key: nothing new is started here until an operator has run berth node reissue ${name}`;
    case "outdated":
      return `this agent is too old for its control plane: ${message}; install a newer one`;
    case "removed":
      return `node ${name} was removed from the cluster: what it ran is being stopped`;
  }
}
