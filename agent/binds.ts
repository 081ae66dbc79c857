/**
 * Bind mounts against a file system that a container may write to. A path that was a directory when the manifest was
 * read may be a symbolic link to `/` when the engine resolves it (B69). So: before create every part below the allowed
 * root is looked at; after start the container's own view is compared with what was asked for, by device and inode, and
 * a container with a difference is killed.
 */
import type { Mount, ReplicaSpec } from "../shared/model/app.ts";
import { bindRootOf, type Policy } from "./policy.ts";
import type { Host } from "./ports.ts";
import { Unmet } from "./step-failure.ts";

type Bind = Extract<Mount, { kind: "bind" }>;
export const hasBinds = (spec: ReplicaSpec): boolean => bindsOf(spec).length > 0;

/** One run of a container: process ids begin anew with each boot. */
export const runOf = ({ id, pid }: { readonly id: string; readonly pid: number }, bootId: string): string => `${bootId} ${id} ${pid}`;

const bindsOf = (spec: ReplicaSpec): Bind[] => spec.workload.mounts.filter((mount) => mount.kind === "bind");

/**
 * Why it must not be mounted as a sentence, or null. Makes the directories that `createHostPath` asks for. Throws Unmet
 * when nothing is there: a disk may be mounted later than the agent starts.
 */
export async function prepareBinds(spec: ReplicaSpec, policy: Policy, host: Host): Promise<string | null> {
  for (const bind of bindsOf(spec)) {
    const problem = await prepareBind(bind, policy, host);
    if (problem !== null) return problem;
  }
  return null;
}

async function prepareBind(bind: Bind, policy: Policy, host: Host): Promise<string | null> {
  const root = bindRootOf(bind.source, policy);
  if (root === null) {
    if ((await host.kindOf(bind.source)) === null) throw missing(bind.source);
    return null;
  }
  const below = bind.source
    .slice(root === "/" ? 0 : root.length)
    .split("/")
    .filter((part) => part !== "" && part !== ".");
  let path = root === "/" ? "" : root;
  for (const part of below) {
    path = `${path}/${part}`;
    const kind = await host.kindOf(path);
    if (kind === "symlink") return `${path} is a symbolic link; below ${root} none may stand in the path of a mount`;
    if (kind === "other") return `${path} is neither a file nor a directory`;
    if (kind !== null) continue;
    if (!bind.createHostPath) throw missing(path);
    await host.makeDirectory(path);
  }
  if (below.length === 0 && (await host.kindOf(bind.source)) === null) throw missing(bind.source);
  return null;
}

const missing = (path: string): Unmet => new Unmet("bindMissing", `${path} does not exist on this node`);

/** What a running container sees at its mount points, against what was asked for. Null: the same, or it cannot be seen. */
export async function checkBinds(input: {
  readonly spec: ReplicaSpec;
  readonly policy: Policy;
  readonly host: Host;
  readonly process: { readonly pid: number; readonly containerId: string };
}): Promise<string | null> {
  const { spec, policy, host } = input;
  const { pid, containerId } = input.process;
  const binds = bindsOf(spec);
  if (binds.length === 0 || pid <= 0 || !(await host.isProcessOf(pid, containerId))) return null;
  const text = await host.mountInfo(pid);
  if (text === null) return null;
  // The kernel writes mount points with every link resolved, so a target like /var/run/x is found as /run/x.
  const points = text
    .split("\n")
    .map((line) => unescapeOctal(line.split(" ")[4] ?? ""))
    .filter((point) => point !== "");
  const inside = new Set(await Promise.all(points.map((point) => host.identityInside(pid, point))));
  for (const bind of binds) {
    if (!(await isWhereItSeems(bind, policy, host))) return `${bind.source} leads elsewhere than when it was checked`;
    const asked = await host.identityOf(bind.source);
    if (asked !== null && !inside.has(asked)) return `the container has something else than ${bind.source} at ${bind.target}`;
  }
  return null;
}

/** No link below the allowed root. */
async function isWhereItSeems(bind: Bind, policy: Policy, host: Host): Promise<boolean> {
  const root = bindRootOf(bind.source, policy);
  if (root === null) return true;
  const [realRoot, realSource] = [await host.realPath(root), await host.realPath(bind.source)];
  if (realRoot === null || realSource === null) return true;
  const rest = bind.source
    .slice(root === "/" ? 0 : root.length)
    .split("/")
    .filter((part) => part !== "" && part !== ".");
  return realSource === [realRoot === "/" ? "" : realRoot, ...rest].join("/") || realSource === realRoot;
}

/** mountinfo writes space, tab, newline and backslash as octal. */
const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
