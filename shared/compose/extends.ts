/**
 * `extends`: a service takes everything from another, of the same file or another one, and merges its own keys over
 * it. Paths of the base stay relative to the base's file, because every value keeps its mark.
 */
import { loadExtended } from "./documents.ts";
import { type Loading, readText } from "./files.ts";
import type { Variables } from "./interpolate.ts";

import { mergeTrees } from "./merge.ts";
import { directoryOf, resolvePath } from "./paths.ts";
import { child, type Entry, type Mapping, scalarText, type Tree, withEntry, withoutKey } from "./tree.ts";

/** People chain 2 or 3; this bounds recursion. */
const CHAIN_MAX = 20;

type Origin = { file: string; variables: Variables };
type Link = { file: string; service: string };

/** The document with every service extended and no `extends` left. */
export function applyExtends(document: Mapping, origin: Origin, loading: Loading): Mapping {
  const services = document.entries.get("services");
  if (services?.value.kind !== "mapping") return document;
  const entries = new Map<string, Entry>();
  for (const [name, entry] of services.value.entries) {
    const value = new Chain(document, origin, loading).extended(name, entry.value, []);
    entries.set(name, { ...entry, value });
  }
  return withEntry(document, "services", { ...services, value: { ...services.value, entries } });
}

class Chain {
  readonly #document: Mapping;
  readonly #origin: Origin;
  readonly #loading: Loading;

  constructor(document: Mapping, origin: Origin, loading: Loading) {
    this.#document = document;
    this.#origin = origin;
    this.#loading = loading;
  }

  extended(name: string, service: Tree, links: readonly Link[]): Tree {
    const extending = service.kind === "mapping" ? service.entries.get("extends") : undefined;
    if (service.kind !== "mapping" || extending === undefined) return service;
    const own = withoutKey(service, "extends");
    const target = this.#target(name, extending);
    if (target === undefined) return own;
    const here: Link = { file: this.#origin.file, service: name };
    const path = `services.${name}.extends`;
    const chain = [...links, here];
    const next: Link = { file: target.file ?? this.#origin.file, service: target.service };
    if (chain.some((link) => link.file === next.file && link.service === next.service) || chain.length > CHAIN_MAX) {
      const round = [...chain, next].map((link) => link.service).join(" → ");
      this.#loading.problems.add({
        code: "extends_cycle",
        at: extending.at,
        path,
        message: `extends goes in a circle: ${round}`,
        mend: "let one of these services stand alone",
      });
      return own;
    }
    const base = this.#base(next, target, { entry: extending, path, chain });
    if (base === undefined) return own;
    return mergeTrees(mergeTrees(undefined, base, "services.*"), own, "services.*") ?? own;
  }

  #target(name: string, extending: Entry): { service: string; file?: string } | undefined {
    const { value } = extending;
    const service = value.kind === "scalar" ? value : child(value, "service");
    const file = value.kind === "mapping" ? child(value, "file") : undefined;
    if (service?.kind !== "scalar" || service.value === null || (file !== undefined && file.kind !== "scalar")) {
      this.#loading.problems.add({
        code: "wrong_type",
        at: value.at,
        path: `services.${name}.extends`,
        message: "extends takes a service's name, or a mapping with service: and file:",
        mend: "write extends: {service: base, file: common.yaml}",
      });
      return undefined;
    }
    if (file === undefined || file.value === null) return { service: scalarText(service) };
    return { service: scalarText(service), file: resolvePath(file.at.base, scalarText(file)) };
  }

  #base(next: Link, target: { file?: string }, from: { entry: Entry; path: string; chain: readonly Link[] }): Tree | undefined {
    const { entry, path, chain } = from;
    let document = this.#document;
    let origin = this.#origin;
    if (target.file !== undefined && target.file !== this.#origin.file) {
      const text = readText(target.file, { at: entry.value.at, keyPath: path, what: "the extended file" }, this.#loading);
      if (text === undefined) return undefined;
      origin = { ...this.#origin, file: target.file };
      document = loadExtended({ file: target.file, base: directoryOf(target.file), text }, origin.variables, this.#loading);
    }
    const base = child(child(document, "services"), next.service);
    if (base === undefined) {
      this.#loading.problems.add({
        code: "extends_missing",
        at: entry.value.at,
        path,
        message: `${next.file} has no service "${next.service}" to extend`,
        mend: "check the name and the file:",
      });
      return undefined;
    }
    return new Chain(document, origin, this.#loading).extended(next.service, base, chain);
  }
}
