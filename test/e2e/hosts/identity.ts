import { readFileSync } from "node:fs";
import { until } from "./until.ts";

/**
 * A process that cannot be mistaken for another: numbers are reused, a number with
 * its start time (clock ticks since the machine's boot) is not.
 */
export type ProcessIdentity = { pid: number; startTicks: string };

/** Undefined when there is no such process, or only its unreaped remains. */
export function identify(pid: number): ProcessIdentity | undefined {
  const { state, startTicks } = readStat(pid);
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

/** Kills the process, and when it leads a process group, all that is in it: a wrapper with what it wraps. */
export async function endProcess(identity: ProcessIdentity): Promise<void> {
  if (!isAlive(identity)) return;
  if (readStat(identity.pid).group === String(identity.pid)) {
    try {
      process.kill(-identity.pid, "SIGKILL");
    } catch {
      // All of them ended in this very moment.
    }
  }
  signal(identity, "SIGKILL");
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

type Stat = { state?: string | undefined; group?: string | undefined; startTicks?: string | undefined };

function readStat(pid: number): Stat {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return {};
  }
  // The program's name, field 2, may hold spaces and brackets: count from behind it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0], group: fields[2], startTicks: fields[19] };
}
