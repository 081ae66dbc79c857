// A machine is a process tree in namespaces of its own: processes, mounts, network, hostname, clock.
// Invariants:
// - its first process is the parent of all others; when that is killed, the kernel kills the rest:
//   agents, engine, shims and containers end together, as when the power goes;
// - /etc, /var, /usr, /opt, /root, /home and /srv are writable layers over the real machine's that last
//   until the lab is closed; /run is lost at power-off; everything else, /tmp too, is the real machine's;
// - a boot has a new boot id, and clocks (boot and monotonic) that start at zero.
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ExecOptions, type ExecResult, execute, mustExecute } from "./command.ts";
import { childrenOf, endProcess, identify } from "./identity.ts";
import type { LabRecord } from "./record.ts";
import { type Exit, Spawned, type SpawnOptions } from "./spawned.ts";
import { until } from "./until.ts";

const LAYERED = ["etc", "var", "usr", "opt", "root", "home", "srv"] as const;

/** What a login gives; nothing of the environment in which the lab runs is passed on. */
const LOGIN_ENV = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  USER: "root",
  LANG: "C.UTF-8",
  // The real machine's /tmp is shared by all; this is the machine's own.
  TMPDIR: "/var/tmp",
};

export type MachineOptions = {
  name: string;
  /** Where the machine's layers, logs and sockets live. */
  dir: string;
  record: LabRecord;
  address: string;
  /** Where its name server would be. */
  gatewayIp: string;
  /** More lines of /etc/hosts: address by name. */
  names: Readonly<Record<string, string>>;
};

export class Machine {
  readonly name: string;
  readonly dir: string;
  readonly address: string;
  readonly #record: LabRecord;
  readonly #gatewayIp: string;
  readonly #names: Readonly<Record<string, string>>;
  #power: { pid: number; bootId: string; exited: Promise<Exit> } | undefined;
  #logCount = 0;

  constructor({ name, dir, record, address, gatewayIp, names }: MachineOptions) {
    this.name = name;
    this.dir = dir;
    this.address = address;
    this.#record = record;
    this.#gatewayIp = gatewayIp;
    this.#names = names;
  }

  /** The number of the machine's first process on the real machine; its namespaces are reached through it. */
  get pid(): number {
    return this.#powered().pid;
  }

  get bootId(): string {
    return this.#powered().bootId;
  }

  get isOn(): boolean {
    return this.#power !== undefined;
  }

  /** Lays the machine's disk. Once, before the first boot. */
  async install(): Promise<void> {
    await mkdir(this.dir);
    for (const name of LAYERED) {
      await mkdir(join(this.dir, "disk", name), { recursive: true });
      await mkdir(join(this.dir, "work", name), { recursive: true });
    }
    const etc = join(this.dir, "disk", "etc");
    const names = Object.entries({ localhost: "127.0.0.1", [this.name]: this.address, ...this.#names });
    await writeFile(join(etc, "hosts"), names.map(([name, address]) => `${address} ${name}\n`).join(""));
    await writeFile(join(etc, "hostname"), `${this.name}\n`);
    await writeFile(join(etc, "machine-id"), `${randomUUID().replaceAll("-", "")}\n`, { mode: 0o444 });
    // Nothing answers there, and says so at once: a name that does not exist fails fast.
    await writeFile(join(etc, "resolv.conf"), `nameserver ${this.#gatewayIp}\noptions timeout:1 attempts:1\n`);
  }

  /** Power on. Returns when the first process runs; the network is plugged by the caller. */
  async boot(): Promise<void> {
    if (this.#power !== undefined) throw new Error(`${this.name} is already on.`);
    const bootId = randomUUID();
    const ready = join(this.dir, "booted");
    const script = join(this.dir, "boot.sh");
    const logFile = join(this.dir, "boot.log");
    await rm(ready, { force: true });
    await writeFile(script, bootScript(this.dir, this.name, bootId));
    const outer = await Spawned.recorded(this.#record, await unshareCommand(script), { logFile });
    await until(
      `${this.name} to boot`,
      () => {
        if (!outer.running) throw new Error("its first process ended");
        return existsSync(ready);
      },
      { detail: () => outer.logTail() },
    );
    const [pid] = childrenOf(outer.pid);
    const identity = pid === undefined ? undefined : identify(pid);
    if (identity === undefined) throw new Error(`${this.name} went off while booting:\n${await outer.logTail()}`);
    this.#record.add({ kind: "process", ...identity, what: `${this.name}, first process` });
    this.#power = { pid: identity.pid, bootId, exited: outer.exited };
  }

  /** Pulls the power cord: everything on the machine ends at once, nothing is told. */
  async cutPower(): Promise<void> {
    const power = this.#powered();
    this.#power = undefined;
    const identity = identify(power.pid);
    if (identity !== undefined) await endProcess(identity);
    await power.exited;
  }

  exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return execute(this.command(argv, options), forExec(options));
  }

  /** Like `exec`, but throws a CommandError when the command fails. Returns its standard output. */
  run(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    return mustExecute(this.command(argv, options), forExec(options));
  }

  /** Starts a long-running process; it ends with the machine's power at the latest. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<Spawned> {
    const { logFile = join(this.dir, `spawned-${++this.#logCount}.log`) } = options;
    return Spawned.entered([...this.#enter(), "--no-fork"], [...login(options), ...argv], { logFile });
  }

  /** The command line that runs `argv` on this machine, from outside. */
  command(argv: readonly string[], options: Pick<ExecOptions, "env" | "cwd"> = {}): string[] {
    return [...this.#enter(), ...login(options), ...argv];
  }

  /** Seconds since its boot, as the machine's own /proc/uptime says. */
  async uptimeSeconds(): Promise<number> {
    return Number.parseFloat(await this.run(["cat", "/proc/uptime"]));
  }

  #enter(): string[] {
    const flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--time"];
    return ["nsenter", "-t", String(this.pid), ...flags];
  }

  #powered(): { pid: number; bootId: string; exited: Promise<Exit> } {
    if (this.#power === undefined) throw new Error(`${this.name} is powered off.`);
    return this.#power;
  }
}

/** The command that clears the environment, sets the login's and changes the directory. */
export function login({ env, cwd = "/root" }: Pick<ExecOptions, "env" | "cwd">): string[] {
  const pairs = Object.entries({ ...LOGIN_ENV, ...env }).map(([key, value]) => `${key}=${value}`);
  return ["/usr/bin/env", "-i", "-C", cwd, ...pairs];
}

/** The environment and directory are the machine's affair, already in the command. */
function forExec({ input, timeoutMs }: ExecOptions): ExecOptions {
  return { ...(input === undefined ? {} : { input }), ...(timeoutMs === undefined ? {} : { timeoutMs }) };
}

async function unshareCommand(script: string): Promise<string[]> {
  // Whole seconds, rounded down: a clock that starts below zero is refused by the kernel.
  const bootSeconds = Math.floor(Number.parseFloat(await readFile("/proc/uptime", "utf8")));
  const monotonicSeconds = Math.floor(Number(process.hrtime.bigint() / 1_000_000_000n));
  const namespaces = ["--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--time"];
  const clocks = ["--boottime", `-${bootSeconds}`, "--monotonic", `-${monotonicSeconds}`];
  return ["unshare", ...namespaces, ...clocks, "--kill-child", "/bin/sh", script];
}

function bootScript(dir: string, name: string, bootId: string): string {
  return `set -eu
mount -t proc proc /proc
# A view of this network namespace's own devices, with the cgroup hierarchies kept under it.
mkdir -p '${dir}/cgroup'
mount --rbind /sys/fs/cgroup '${dir}/cgroup'
mount -t sysfs sysfs /sys
mount --rbind '${dir}/cgroup' /sys/fs/cgroup
umount -l '${dir}/cgroup'
for part in ${LAYERED.join(" ")}; do
  [ -d "/$part" ] || continue
  mount -t overlay overlay -o "lowerdir=/$part,upperdir=${dir}/disk/$part,workdir=${dir}/work/$part" "/$part"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock
echo '${bootId}' > /run/.boot-id
mount --bind /run/.boot-id /proc/sys/kernel/random/boot_id
hostname '${name}'
ip link set lo up
# As on a machine with systemd; the engine needs it for binds that propagate.
mount --make-rshared /
touch '${dir}/booted'
exec tini -s -- sleep infinity
`;
}
