/** `npm run bench -- [--only PREFIX] [--json]`: a table for people, or one JSON object a line. */
import { parseArgs } from "node:util";
import { type Bench, isAtLeastAsGood, type Line } from "./bench.ts";

/** Loaded only when asked for: some need engines or build artefacts. */
const FILES: readonly (() => Promise<{ benches: Bench[] }>)[] = [
  () => import("./planner.ts"),
  () => import("./durable.ts"),
  () => import("./wake.ts"),
  () => import("./agent.ts"),
  () => import("./deploy.ts"),
  () => import("./failover.ts"),
  () => import("./start.ts"),
];

const { values: options } = parseArgs({ options: { only: { type: "string", default: "" }, json: { type: "boolean", default: false } } });

let failed = false;
const report = (line: Line): void => {
  if (line.floor !== undefined && !isAtLeastAsGood(line.value, line.floor, line.unit)) failed = true;
  if (options.json) {
    const { spread: _, ...stable } = line;
    console.log(JSON.stringify(stable));
  } else console.log(row(line));
};

function row({ name, value, unit, goal, floor, peer, limit, spread }: Line): string {
  const verdict = isAtLeastAsGood(value, goal, unit)
    ? "ok"
    : floor !== undefined && !isAtLeastAsGood(value, floor, unit)
      ? "FAILED"
      : "below goal";
  const more = [
    spread === undefined ? "" : `±${Math.round(spread * 50)} %`,
    floor === undefined ? "" : `floor ${number(floor)}`,
    peer === undefined ? "" : `peer ${number(peer)}`,
    limit === undefined ? "" : `limit ${number(limit)}`,
  ];
  return `${name.padEnd(34)} ${number(value).padStart(14)} ${unit.padEnd(14)} goal ${number(goal).padStart(10)}  ${verdict.padEnd(10)} ${more.filter(Boolean).join(", ")}`.trimEnd();
}

const number = (value: number) => value.toLocaleString("en-US", { maximumFractionDigits: value >= 100 ? 0 : 3 });

for (const load of FILES) {
  for (const bench of (await load()).benches) if (bench.name.startsWith(options.only)) await bench.run(report);
}
process.exitCode = failed ? 1 : 0;
