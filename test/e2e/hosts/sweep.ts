// Removes what dead runs of the lab left: `node test/e2e/hosts/sweep.ts [name...]`, all labs by default.
import { labNames, sweepLab } from "./record.ts";

const named = process.argv.slice(2);
for (const name of named.length > 0 ? named : labNames()) {
  try {
    console.log((await sweepLab(name)) ? `${name}: swept` : `${name}: nothing there`);
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
