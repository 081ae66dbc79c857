/** What the checkers have found, and how often each invariant was looked at. Numbers are those of docs/spec/invariants.md. */
import type { Kernel } from "../kernel.ts";

export interface Violation {
  readonly invariant: string;
  readonly atMs: number;
  readonly message: string;
}

export class Findings {
  readonly violations: Violation[] = [];
  readonly looked = new Map<string, number>();
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  get nowMs(): number {
    return this.#kernel.nowMs;
  }

  fail(invariant: string, message: string): void {
    this.violations.push({ invariant, atMs: this.nowMs, message });
    this.#kernel.log("checker", `${invariant} is broken: ${message}`);
  }

  looks(invariant: string, times = 1): void {
    this.looked.set(invariant, (this.looked.get(invariant) ?? 0) + times);
  }

  /** Looks once; `isSo` has to hold. */
  expect(invariant: string, isSo: boolean, message: () => string): void {
    this.looks(invariant);
    if (!isSo) this.fail(invariant, message());
  }
}
