#!/usr/bin/env node
// Puts on a Debian machine what the real-engine tests need. Plain JavaScript, so that the
// machine's own old Node runs it too. Nothing is installed when everything is already there.
import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, rmSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

/** Each package with one file that proves it is there: asking dpkg would cost 50 ms each. */
const PACKAGES = [
  ["docker.io", "/usr/sbin/dockerd"],
  ["iptables", "/usr/sbin/iptables"],
  ["iproute2", "/usr/sbin/ip", "/sbin/ip", "/bin/ip"],
  ["busybox-static", "/bin/busybox"],
  ["docker-registry", "/usr/bin/docker-registry"],
  ["debootstrap", "/usr/sbin/debootstrap"],
  ["curl", "/usr/bin/curl"],
  ["ca-certificates", "/usr/sbin/update-ca-certificates"],
  ["tini", "/usr/bin/tini"],
  ["openssl", "/usr/bin/openssl"],
  ["systemd", "/usr/bin/systemd-analyze"],
];

const POLICY_PATH = "/usr/sbin/policy-rc.d";
/** 101 is "action forbidden by policy": the packages' services are not started. */
const POLICY = "#!/bin/sh\nexit 101\n";

/** The names of the packages that are not there. */
export function missingPackages() {
  return PACKAGES.filter(([, ...proofs]) => !proofs.some(isExecutable)).map(([name]) => name);
}

/**
 * Installs what is missing and returns the names of what it installed.
 * @param {(line: string) => void} [log]
 * @returns {string[]}
 * @throws if this is no Debian, if the user is not root, or if apt fails (its output is in the message)
 */
export function install(log = () => {}) {
  const missing = missingPackages();
  if (missing.length === 0) return [];
  if (process.getuid?.() !== 0) {
    throw new Error(`The real-engine tests need root to install ${missing.join(", ")}.`);
  }
  if (!existsSync("/usr/bin/apt-get")) {
    throw new Error(`The real-engine tests need apt-get to install ${missing.join(", ")}.`);
  }
  log(`installing ${missing.join(", ")}`);
  // One unreachable third-party source fails the update while Debian's own lists are fine:
  // whether the packages can be had is for the install to say.
  apt(["update"], { tolerant: true });
  const ownsPolicy = !existsSync(POLICY_PATH);
  if (ownsPolicy) writeFileSync(POLICY_PATH, POLICY, { mode: 0o755 });
  try {
    apt(["install", "-y", "--no-install-recommends", ...missing]);
  } finally {
    if (ownsPolicy) rmSync(POLICY_PATH, { force: true });
  }
  const still = missingPackages();
  if (still.length > 0) {
    throw new Error(`apt-get installed ${still.join(", ")}, but their programs are not where expected.`);
  }
  return missing;
}

function apt(args, { tolerant = false } = {}) {
  try {
    // The lock is waited for: another install may be under way on the same machine.
    execFileSync("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=600", ...args], {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
      stdio: ["ignore", "pipe", "pipe"],
      maxBuffer: 64 * 1024 * 1024,
    });
  } catch (error) {
    if (tolerant) return;
    const tail = `${error.stdout ?? ""}${error.stderr ?? ""}`.split("\n").slice(-20).join("\n");
    throw new Error(`apt-get ${args.join(" ")} failed:\n${tail}`, { cause: error });
  }
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const installed = install((line) => console.log(line));
  console.log(installed.length === 0 ? "everything is there" : `installed ${installed.join(", ")}`);
}
