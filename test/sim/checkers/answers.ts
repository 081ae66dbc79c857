/** What agents are answered: their own set as it was committed, the bodies that it names, and nothing once they were removed. */
import type { HttpRequest } from "../../../agent/ports.ts";
import { obtain } from "../../../shared/schedule/obtain.ts";
import type { Findings } from "./findings.ts";
import { proverOf } from "./presence.ts";
import type { Batch, ReplicaRow, Rows } from "./rows.ts";
import type { Specs } from "./specs.ts";

interface ManifestClaims {
  readonly aud: string;
  readonly generation: number;
  readonly assignments: readonly { readonly replica: string; readonly spec: string }[];
}

/** That a node was removed is known to who serves so long after its commit: whoever plans looks each minute. Until then it may hear that there is no news. */
const KNOWN_WITHIN_MS = 70_000;

export function claimsOf(jws: string): ManifestClaims {
  return JSON.parse(Buffer.from(jws.split(".")[1] ?? "", "base64url").toString()) as ManifestClaims;
}

export class Answers {
  readonly #rows: Rows;
  readonly #specs: Specs;
  readonly #findings: Findings;
  /** Replicas of each generation of each node's set, as one text. */
  readonly #sets = new Map<string, Map<number, string>>();
  /** Bodies that replicas of each node have named. */
  readonly #named = new Map<string, Set<string>>();
  /** When each removed node's removal was committed. */
  readonly #removedMs = new Map<string, number>();

  constructor(parts: { readonly rows: Rows; readonly specs: Specs; readonly findings: Findings }) {
    this.#rows = parts.rows;
    this.#specs = parts.specs;
    this.#findings = parts.findings;
  }

  begin(): void {
    for (const node of this.#rows.of("nodes").values()) this.#remember(node.id, node.generation);
    for (const row of this.#rows.of("replicas").values()) this.#name(row);
  }

  check(batch: Batch): void {
    for (const { before, after } of batch.of("replicas")) if (before === null && after !== null) this.#name(after);
    for (const { key, before, after } of batch.of("nodes")) {
      if (after === null) this.#removedMs.set(key, this.#findings.nowMs);
      else if (before?.generation !== after.generation) this.#remember(key, after.generation);
    }
  }

  isRemoved(node: string): boolean {
    return this.#removedMs.has(node);
  }

  answered({ url, headers }: HttpRequest, answer: { readonly status: number; readonly body: string }, askedMs: number): void {
    const path = url.slice(url.indexOf("/", 8));
    if (answer.status >= 300 || !path.startsWith("/agent/v1/")) return;
    const node = proverOf(headers?.["authorization"]);
    if (node === null) return;
    const knownMs = (this.#removedMs.get(node) ?? Number.POSITIVE_INFINITY) + KNOWN_WITHIN_MS;
    this.#findings.expect("I28", askedMs < knownMs, () => `${node} is answered ${path} with ${answer.status} long after it was removed`);
    if (answer.status !== 200) return;
    const manifest = path === "/agent/v1/poll" ? ((JSON.parse(answer.body) as { readonly manifest?: string }).manifest ?? null) : null;
    const body = /^\/agent\/v1\/bodies\/(.+)$/.exec(path)?.[1] ?? null;
    const isGiven = manifest !== null || body !== null || path.startsWith("/agent/v1/credentials/");
    if (!isGiven) return;
    const removedMs = this.#removedMs.get(node);
    this.#findings.expect(
      "I28",
      removedMs === undefined || removedMs >= askedMs,
      () => `${node} was answered ${path} ${Math.round(askedMs - removedMs!)} ms after it was removed`,
    );
    if (manifest !== null) this.#manifest(node, claimsOf(manifest));
    if (body !== null)
      this.#findings.expect(
        "I27",
        this.#named.get(node)?.has(body) === true,
        () => `${node} was given the body ${body}, which nothing names that it ever had`,
      );
  }

  #manifest(node: string, { aud, generation, assignments }: ManifestClaims): void {
    this.#findings.expect("I27", aud === node, () => `${node} was given the manifest of ${aud}`);
    const set = setOf(assignments.map(({ replica }) => replica));
    const committed = this.#sets.get(aud)?.get(generation);
    this.#findings.expect(
      "I18",
      committed === set,
      () =>
        `the manifest ${generation} of ${aud} names ${set || "nothing"}, and what was committed is ${committed ?? "no such generation"}`,
    );
  }

  #name({ node_id, spec }: ReplicaRow): void {
    const named = obtain(this.#named, node_id, () => new Set()).add(spec);
    for (const config of this.#specs.of(spec).configs) named.add(config);
  }

  #remember(node: string, generation: number): void {
    const ids = [...this.#rows.of("replicas").values()].filter((row) => row.node_id === node && row.desired === "run").map(({ id }) => id);
    obtain(this.#sets, node, () => new Map()).set(generation, setOf(ids));
  }
}

const setOf = (ids: readonly string[]): string => [...ids].sort().join(" ");
