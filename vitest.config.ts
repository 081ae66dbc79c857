import { defineConfig } from "vitest/config";

/** One project for each layer, so that each can be run and budgeted alone. Suites that use every core or engines by themselves run one file at a time. */
const project = (name: string, include: string[], options: { oneByOne?: boolean; timeoutMs?: number } = {}) => ({
  test: {
    name,
    include,
    testTimeout: options.timeoutMs ?? 20_000,
    hookTimeout: options.timeoutMs ?? 20_000,
    fileParallelism: options.oneByOne !== true,
    maxWorkers: options.oneByOne === true ? 1 : 2,
  },
});

export default defineConfig({
  test: {
    projects: [
      project("core", ["test/core/**/*.test.ts"]),
      project("store", ["test/store/**/*.test.ts"], { timeoutMs: 60_000 }),
      project("worker", ["test/worker/**/*.test.ts"], { timeoutMs: 60_000 }),
      project("cli", ["test/cli/**/*.test.ts"], { timeoutMs: 60_000 }),
      project("sim", ["test/sim/**/*.test.ts"], { oneByOne: true, timeoutMs: 1_200_000 }),
      project("agent", ["test/agent/**/*.test.ts"], { timeoutMs: 120_000 }),
      project("hosts", ["test/e2e/hosts/**/*.test.ts"], { oneByOne: true, timeoutMs: 300_000 }),
      project("e2e", ["test/e2e/*.test.ts"], { oneByOne: true, timeoutMs: 600_000 }),
      project("docs", ["test/docs/**/*.test.ts"], { oneByOne: true, timeoutMs: 600_000 }),
    ],
  },
});
