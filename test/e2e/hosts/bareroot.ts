import { readdirSync, readFileSync } from "node:fs";
import { access, mkdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { type ExecOptions, mustExecute } from "./command.ts";
import { identify } from "./identity.ts";
import { login, type Machine } from "./machine.ts";

const CACHE_DIR = "/var/cache/berth-e2e";
const APT_DIR = "/etc/apt";
/** Fetches and unpacks some 60 packages; a slow mirror takes minutes. */
const BUILD_TIMEOUT_MS = 9 * 60_000;

/**
 * What an agent and the engine must see under one path, since the engine resolves the paths
 * that an agent names: a config file to bind, a socket.
 */
const SHARED_WITH_HOST = ["/run", "/var/lib/berth"];

/**
 * The directory of a Debian with nothing in it but curl and certificates; built at first use and
 * kept for later runs. Only ever the lower layer of something: nothing writes to it.
 */
export async function bareRootDir(log: (line: string) => void): Promise<string> {
  const suite = debianCodename();
  const target = join(CACHE_DIR, `bare-${suite}-${process.arch}`);
  if (await exists(target)) return target;
  await mkdir(CACHE_DIR, { recursive: true });
  await removeAbandonedBuilds();
  const building = `${target}.building-${process.pid}`;
  const mirror = debianMirror(suite);
  log(`building a bare Debian ${suite} for later runs too, from the machine's own mirror`);
  // In a mount namespace of its own: what debootstrap mounts goes with it, however it ends.
  const options = ["--variant=minbase", "--include=curl,ca-certificates", ...keyringOption()];
  const command = ["unshare", "--mount", "debootstrap", ...options, suite, building, mirror];
  await mustExecute(command, { timeoutMs: BUILD_TIMEOUT_MS, env: await proxyEnv() });
  await rm(join(building, "var/cache/apt/archives"), { recursive: true, force: true });
  await rm(join(building, "var/lib/apt/lists"), { recursive: true, force: true });
  await rename(building, target).catch(async (error: unknown) => {
    // Another run was first with the same thing.
    await rm(building, { recursive: true, force: true });
    if (!(await exists(target))) throw error;
  });
  return target;
}

/** A host seen from a Debian that has only curl: where a user pastes the line that joins a machine. */
export class BareRoot {
  readonly #machine: Machine;
  #mountedAtBoot: string | undefined;
  #mounting: Promise<void> | undefined;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** The command that, run on the host, runs `argv` in the bare root. */
  async command(argv: readonly string[], options: Pick<ExecOptions, "env" | "cwd"> = {}): Promise<string[]> {
    await this.#mount();
    return ["chroot", this.#root, ...login(options), ...argv];
  }

  get #root(): string {
    return join(this.#machine.dir, "bare-root");
  }

  /** Mounted in the host's mount namespace, so a power cut takes it away; what was written stays. */
  async #mount(): Promise<void> {
    const { bootId } = this.#machine;
    if (this.#mountedAtBoot !== bootId) {
      this.#mountedAtBoot = bootId;
      this.#mounting = this.#mountNow();
    }
    await this.#mounting;
  }

  async #mountNow(): Promise<void> {
    const lower = await bareRootDir(() => {});
    const { dir } = this.#machine;
    for (const name of ["bare-disk", "bare-work", "bare-root"]) await mkdir(join(dir, name), { recursive: true });
    const script = `set -eu
mount -t overlay overlay -o 'lowerdir=${lower},upperdir=${dir}/bare-disk,workdir=${dir}/bare-work' '${this.#root}'
for part in proc sys dev; do mount --rbind "/$part" '${this.#root}'/"$part"; done
for part in ${SHARED_WITH_HOST.join(" ")}; do
  mkdir -p "$part" '${this.#root}'"$part"
  mount --rbind "$part" '${this.#root}'"$part"
done
cp /etc/hosts /etc/hostname /etc/resolv.conf /etc/machine-id '${this.#root}/etc/'
`;
    await this.#machine.run(["sh", "-c", script]);
  }
}

function debianCodename(): string {
  const codename = /^VERSION_CODENAME=(.+)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  if (codename === undefined) throw new Error("/etc/os-release names no VERSION_CODENAME: no Debian to build from.");
  return codename.replaceAll('"', "");
}

/** The mirror that this machine's apt is set up with for the suite, in either of apt's formats. */
function debianMirror(suite: string): string {
  for (const text of aptSources()) {
    for (const stanza of text.split(/\n\s*\n/)) {
      const field = (name: string) => new RegExp(`^${name}:(.+)$`, "m").exec(stanza)?.[1]?.trim().split(/\s+/) ?? [];
      const [uri] = field("URIs");
      if (uri !== undefined && field("Suites").includes(suite) && field("Components").includes("main")) return uri;
    }
    for (const line of text.split("\n")) {
      const [, uri, found, components] = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$/.exec(line.trim()) ?? [];
      if (uri !== undefined && found === suite && components?.split(/\s+/).includes("main")) return uri;
    }
  }
  throw new Error(`No source in ${APT_DIR} offers Debian's suite ${suite} with the component main.`);
}

function aptSources(): string[] {
  const parts = join(APT_DIR, "sources.list.d");
  const files = [join(APT_DIR, "sources.list"), ...list(parts).map((name) => join(parts, name))];
  return files.flatMap((file) => {
    try {
      return [readFileSync(file, "utf8")];
    } catch {
      return [];
    }
  });
}

function keyringOption(): string[] {
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  return list("/usr/share/keyrings").includes(basename(keyring)) ? [`--keyring=${keyring}`] : [];
}

/** debootstrap fetches with wget, which does not read apt's own proxy setting. */
async function proxyEnv(): Promise<Record<string, string>> {
  const config = await mustExecute(["apt-config", "dump"]);
  const proxy = /^Acquire::http::Proxy "([^"]+)";$/m.exec(config)?.[1];
  return proxy === undefined ? {} : { http_proxy: proxy };
}

async function removeAbandonedBuilds(): Promise<void> {
  for (const name of list(CACHE_DIR)) {
    const pid = /\.building-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && identify(Number(pid)) === undefined) {
      await rm(join(CACHE_DIR, name), { recursive: true, force: true });
    }
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
