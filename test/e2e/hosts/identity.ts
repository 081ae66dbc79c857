import { readFileSync } from "node:fs";
import { until } from "./until.ts";

/**
 * A process that cannot be mistaken for another: numbers are reused, a number with
 * its start time (clock ticks since the machine's boot) is not.
 */
export type ProcessIdentity = { pid: number; startTicks: string };

/** Undefined when there is no such process, or only its unreaped remains. */
export function identify(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The program's name, field 2, may hold spaces and brackets: count from behind it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, startTicks] = [fields[0], fields[19]];
  if (startTicks === undefined || state === "Z" || state === "X") return undefined;
  return { pid, startTicks };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startTicks === identity.startTicks;
}

/** Sends the signal to exactly this process; false when it is no more. */
export function signal(identity: ProcessIdentity, name: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, name);
    return true;
  } catch {
    return false;
  }
}

export async function endProcess(identity: ProcessIdentity): Promise<void> {
  if (!signal(identity, "SIGKILL")) return;
  await until(`process ${identity.pid} to end`, () => !isAlive(identity));
}

/** The processes whose parent this one is. */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
    return text.split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
