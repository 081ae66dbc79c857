/**
 * Which nodes a service's words allow, whatever is free on them: constraints and taints, as sets of nodes. Equal
 * expressions are evaluated once a plan, over an attribute's distinct values rather than over nodes.
 */
import type { Constraint } from "../model/app.ts";
import { admits, NODE_OS } from "../model/constraint.ts";
import type { ClusterSnapshot, NodeState, SiteState } from "../plan/snapshot.ts";
import { allOf, andInto, type Bits, bitsFor, setBit } from "./bits.ts";
import type { Fleet } from "./fleet.ts";

/** One attribute over all nodes: values interned, one number a node. */
export interface AttributeColumn {
  /** Undefined: the node does not have the attribute. */
  readonly values: readonly (string | undefined)[];
  readonly of: Int32Array;
}

type Toleration = { readonly key: string; readonly value?: string };

export class Feasibility {
  readonly #fleet: Fleet;
  readonly #sites: ReadonlyMap<string, SiteState>;
  readonly #columns = new Map<string, AttributeColumn>();
  readonly #constraints = new Map<string, Bits>();
  readonly #tolerations = new Map<string, Bits>();
  readonly #open = new Map<string, Bits>();
  readonly #tainted: boolean;

  constructor(fleet: Fleet, snapshot: ClusterSnapshot) {
    this.#fleet = fleet;
    this.#sites = new Map(snapshot.sites.map((site) => [site.name, site]));
    this.#tainted = fleet.nodes.some((node) => node.taints.length > 0);
  }

  column(key: string): AttributeColumn {
    let column = this.#columns.get(key);
    if (column) return column;
    const numbers = new Map<string | undefined, number>();
    const values: (string | undefined)[] = [];
    const of = new Int32Array(this.#fleet.count);
    const read = reader(key);
    this.#fleet.nodes.forEach((node, rank) => {
      const value = read(node, this.#sites.get(node.site));
      let number = numbers.get(value);
      if (number === undefined) {
        number = values.push(value) - 1;
        numbers.set(value, number);
      }
      of[rank] = number;
    });
    column = { values, of };
    this.#columns.set(key, column);
    return column;
  }

  /** Nodes that satisfy all of the constraints. */
  satisfying(constraints: readonly Constraint[]): Bits {
    if (constraints.length === 1) return this.#one(constraints[0]!);
    const key = JSON.stringify(constraints);
    let bits = this.#constraints.get(key);
    if (bits) return bits;
    bits = allOf(this.#fleet.count);
    for (const constraint of constraints) andInto(bits, this.#one(constraint));
    this.#constraints.set(key, bits);
    return bits;
  }

  /** Nodes each of whose taints is tolerated. */
  tolerating(tolerations: readonly Toleration[]): Bits {
    const key = this.#tainted ? JSON.stringify(tolerations) : "";
    let bits = this.#tolerations.get(key);
    if (bits) return bits;
    bits = bitsFor(this.#fleet.count);
    for (let rank = 0; rank < this.#fleet.count; rank += 1) {
      const tolerated = this.#fleet.nodes[rank]!.taints.every((taint) =>
        tolerations.some((t) => t.key === taint.key && (t.value === undefined || t.value === taint.value)),
      );
      if (tolerated) setBit(bits, rank);
    }
    this.#tolerations.set(key, bits);
    return bits;
  }

  /** Equal for services that the same nodes suit, as long as neither ports nor counts come into it. */
  classKey(constraints: readonly Constraint[], tolerations: readonly Toleration[], demandKey: string): string {
    return `${constraints.length === 0 ? "" : JSON.stringify(constraints)}|${this.#tainted ? JSON.stringify(tolerations) : ""}|${demandKey}`;
  }

  /**
   * Nodes still open to replicas of this class (constraints, tolerations, counted demand): ready, active, admitted,
   * with an engine that answers, and allowed. Whoever finds one too full clears its bit for the rest of the plan: free capacity only shrinks.
   */
  open(key: string, constraints: readonly Constraint[], tolerations: readonly Toleration[]): Bits {
    let bits = this.#open.get(key);
    if (bits) return bits;
    bits = this.satisfying(constraints).slice();
    const { ready, active, admitted, engine } = this.#fleet;
    for (const other of [this.tolerating(tolerations), ready, active, admitted, engine]) andInto(bits, other);
    this.#open.set(key, bits);
    return bits;
  }

  #one(constraint: Constraint): Bits {
    const key = JSON.stringify([constraint]);
    let bits = this.#constraints.get(key);
    if (bits) return bits;
    const { values, of } = this.column(constraint.key);
    const admitted = values.map((value) => admits(constraint, value));
    bits = bitsFor(this.#fleet.count);
    for (let rank = 0; rank < of.length; rank += 1) if (admitted[of[rank]!]!) setBit(bits, rank);
    this.#constraints.set(key, bits);
    return bits;
  }
}

function reader(key: string): (node: NodeState, site: SiteState | undefined) => string | undefined {
  const label = (labels: Readonly<Record<string, string>> | undefined, name: string) =>
    labels && Object.hasOwn(labels, name) ? labels[name] : undefined;
  if (key.startsWith("node.labels.")) return (node) => label(node.labels, key.slice("node.labels.".length));
  if (key.startsWith("node.declared.")) return (node) => label(node.declared, key.slice("node.declared.".length));
  if (key.startsWith("site.labels.")) return (_, site) => label(site?.labels, key.slice("site.labels.".length));
  switch (key) {
    case "node.name":
      return (node) => node.name;
    case "node.id":
      return (node) => node.id;
    case "node.site":
      return (node) => node.site;
    case "node.arch":
      return (node) => node.arch;
    case "node.os":
      return () => NODE_OS;
    case "node.hostname":
      return (node) => node.hostname;
    default:
      return () => undefined;
  }
}
