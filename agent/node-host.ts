/** The Host port over Linux. */
import { createHash } from "node:crypto";
import { lstat, mkdir, readFile, realpath, stat } from "node:fs/promises";
import { arch, availableParallelism, hostname, networkInterfaces, release, totalmem } from "node:os";
import type { Host } from "./ports.ts";

const MIB = 1_048_576;
const orNull = async <T>(work: Promise<T>): Promise<T | null> => work.catch(() => null);

export async function openHost(): Promise<Host> {
  const bootId = ((await orNull(readFile("/proc/sys/kernel/random/boot_id", "utf8"))) ?? "unknown").trim();
  const identity = async (path: string): Promise<string | null> => {
    const found = await orNull(stat(path, { bigint: true }));
    return found === null ? null : `${found.dev}:${found.ino}`;
  };
  return {
    bootId,
    async kindOf(path) {
      const found = await orNull(lstat(path));
      if (found === null) return null;
      return found.isSymbolicLink() ? "symlink" : found.isDirectory() ? "directory" : found.isFile() ? "file" : "other";
    },
    realPath: (path) => orNull(realpath(path)),
    async makeDirectory(path) {
      await mkdir(path, { recursive: true });
    },
    mountInfo: (pid) => orNull(readFile(`/proc/${pid}/mountinfo`, "utf8")),
    async isProcessOf(pid, containerId) {
      const groups = await orNull(readFile(`/proc/${pid}/cgroup`, "utf8"));
      return groups?.includes(containerId) ?? false;
    },
    identityOf: identity,
    identityInside: (pid, path) => identity(`/proc/${pid}/root${path}`),
    /** Machine id, product uuid and the first hardware address: what a cloned disk shares only in part. */
    async hardware() {
      const parts = [
        await orNull(readFile("/etc/machine-id", "utf8")),
        await orNull(readFile("/sys/class/dmi/id/product_uuid", "utf8")),
        await orNull(readFile("/proc/device-tree/serial-number", "utf8")),
        firstHardwareAddress(),
      ];
      return createHash("sha256")
        .update(parts.map((part) => part?.trim() ?? "").join("\n"))
        .digest("hex");
    },
    async describe() {
      return {
        hostname: hostname().slice(0, 253),
        os: await osName(),
        kernel: release().slice(0, 128),
        arch: arch() === "arm64" ? "arm64" : "x64",
        cpuMillis: availableParallelism() * 1000,
        memoryMiB: Math.max(1, Math.floor(totalmem() / MIB)),
        addresses: addresses(),
      };
    },
  };
}

/** Virtual interfaces come and go with containers: only what is there at boot says which machine this is. */
const isPhysical = (name: string): boolean => !/^(?:lo|docker|br-|veth|virbr|cni|flannel|tailscale|wg|tun|tap)/.test(name);

function firstHardwareAddress(): string {
  for (const [name, list] of Object.entries(networkInterfaces()).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const mac = list?.[0]?.mac;
    if (isPhysical(name) && mac !== undefined && mac !== "00:00:00:00:00:00") return mac;
  }
  return "";
}

function addresses(): string[] {
  return Object.entries(networkInterfaces())
    .filter(([name]) => isPhysical(name))
    .flatMap(([, list]) => list ?? [])
    .filter((address) => !address.internal && !address.address.startsWith("fe80:"))
    .map((address) => address.address)
    .sort()
    .slice(0, 64);
}

async function osName(): Promise<string> {
  const text = (await orNull(readFile("/etc/os-release", "utf8"))) ?? "";
  const name = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(text)?.[1];
  return (name ?? "Linux").slice(0, 64);
}
