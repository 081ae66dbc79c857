import { playHistory } from "./history.ts";
const [from = "1", to = from, only] = process.argv.slice(2);
for (let seed = Number(from); seed <= Number(to); seed++) {
  const t0 = performance.now();
  const out = await playHistory({
    seed: String(seed),
    traceLines: from === to ? 20000 : 0,
    ...(only === undefined ? {} : { faults: only.split(",") }),
  });
  console.log(
    seed,
    out.steps,
    Math.round(performance.now() - t0),
    "ms",
    out.digest.slice(0, 8),
    JSON.stringify(out.counts),
    out.violations.length,
  );
  const seen = new Set();
  for (const v of out.violations) {
    const k = v.invariant + v.message.replace(/[0-9a-z_]{10,}/g, "*").slice(0, 60);
    if (seen.has(k)) continue;
    seen.add(k);
    console.log("   ", v.invariant, (v.atMs / 1000).toFixed(1), v.message.slice(0, 400));
  }
  if (out.trace.length) {
    (await import("node:fs")).writeFileSync("/tmp/sim-rows.json", JSON.stringify(out.rows, null, 1));
    (await import("node:fs")).writeFileSync("/tmp/sim-trace.txt", out.trace.map((l) => l.slice(0, 1500)).join("\n"));
  }
}
