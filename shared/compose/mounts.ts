/** `volumes`, `tmpfs` and `configs` of a service → mounts. */
import type { Workload } from "../model/app.ts";
import { answerFor, type Loading } from "./files.ts";
import { isAbsolute, normalizePath, resolvePath } from "./paths.ts";
import { parseBytes } from "./sizes.ts";
import type { Found, Section } from "./section.ts";
import type { Stores } from "./stores.ts";
import { scalarText, type Tree } from "./tree.ts";

type Mount = Workload["mounts"][number];
type Propagation = Extract<Mount, { kind: "bind" }>["propagation"];
export type MountContext = { service: string; stores: Stores; loading: Loading };

const PROPAGATIONS: ReadonlySet<string> = new Set(["private", "rprivate", "shared", "rshared", "slave", "rslave"]);
/** Options of the short form that ask for what is so anyway, or for what only Docker Desktop has. */
const IDLE_OPTIONS: ReadonlySet<string> = new Set(["rw", "cached", "delegated", "consistent"]);

type Wish = {
  source: string | undefined;
  target: string;
  readOnly: boolean;
  noCopy: boolean;
  propagation?: Propagation;
  createHostPath: boolean;
};

export function mountsOf(service: Section, context: MountContext): Mount[] {
  const placed: { mount: Mount; from: Found<unknown> }[] = [];
  for (const item of service.items("volumes")) {
    const within = { service, context };
    const mount = item.value.kind === "scalar" ? shortMount(item, within) : longMount(item, within);
    if (mount !== undefined) placed.push({ mount, from: item });
  }
  for (const found of service.strings("tmpfs")) {
    const mount = shortTmpfs(found, service);
    if (mount !== undefined) placed.push({ mount, from: found });
  }
  for (const item of service.items("configs")) {
    const mount = configMount(item, service, context);
    if (mount !== undefined) placed.push({ mount, from: item });
  }
  const mounts = new Map<string, Mount>();
  for (const { mount, from } of placed) {
    const target = normalizePath(mount.target);
    if (!isAbsolute(target)) service.wrong(from, `"${mount.target}" is no absolute path`, "begin the path in the container with /");
    if (mounts.has(target)) service.wrong(from, `two mounts have the place ${target}`, "keep one of them");
    mounts.set(target, { ...mount, target });
  }
  return [...mounts.values()];
}

function shortMount(item: Found<Tree>, within: Within): Mount | undefined {
  const { service } = within;
  const text = item.value.kind === "scalar" ? scalarText(item.value) : "";
  const parts = text.split(":");
  const [first = "", second, options = ""] = parts;
  if (parts.length > 3 || first === "" || second === "") {
    service.wrong(item, `"${text}" is no mount`, "write SOURCE:TARGET, SOURCE:TARGET:ro or TARGET");
    return undefined;
  }
  const wish: Wish = {
    source: second === undefined ? undefined : first,
    target: second ?? first,
    readOnly: false,
    noCopy: false,
    createHostPath: true,
  };
  for (const option of options === "" ? [] : options.split(",")) {
    if (option === "ro") wish.readOnly = true;
    else if (option === "nocopy") wish.noCopy = true;
    else if (PROPAGATIONS.has(option)) wish.propagation = option as Propagation;
    else if (option === "z" || option === "Z")
      service.approximated(item, "Mounted without relabelling; on a node that enforces SELinux, label the path yourself.");
    else if (!IDLE_OPTIONS.has(option))
      service.wrong(item, `"${option}" is no option of a mount`, "use ro, rw, z, Z, nocopy or a propagation such as rslave");
  }
  const isPath = wish.source !== undefined && /^[./~]/.test(wish.source);
  return isPath ? bind(wish, item, within) : volume(wish, item, within);
}

type Within = { service: Section; context: MountContext };

function longMount(item: Found<Tree>, within: Within): Mount | undefined {
  const long = within.service.within(item);
  const type = long.text("type")?.value;
  const target = long.text("target");
  if (target === undefined || target.value === "") {
    long.wrong(item, "a mount needs target:", "give the absolute path in the container");
    return undefined;
  }
  const propagation = long.section("bind").text("propagation");
  if (propagation !== undefined && !PROPAGATIONS.has(propagation.value))
    long.wrong(propagation, `"${propagation.value}" is no propagation`, `use one of ${[...PROPAGATIONS].join(", ")}`);
  const wish: Wish = {
    source: long.text("source")?.value,
    target: target.value,
    readOnly: long.boolean("read_only") ?? false,
    noCopy: long.section("volume").boolean("nocopy") ?? false,
    createHostPath: long.section("bind").boolean("create_host_path") ?? false,
    ...(propagation === undefined ? {} : { propagation: propagation.value as Propagation }),
  };
  if (type === "tmpfs") return longTmpfs(long, target.value);
  if (type === "volume") return volume(wish, item, within);
  if (type === "bind") {
    if (wish.source !== undefined) return bind(wish, item, within);
    long.wrong(item, "a bind needs source:", "give the absolute path on the node");
    return undefined;
  }
  if (type === "image" || type === "npipe" || type === "cluster")
    long.refuse(item, `mounts of type ${type} are not supported`, "use volume, bind or tmpfs");
  else long.wrong(item, type === undefined ? "a mount needs type:" : `"${type}" is no type of a mount`, "use volume, bind or tmpfs");
  return undefined;
}

function volume(wish: Wish, item: Found<Tree>, within: Within): Mount | undefined {
  const { service, context } = within;
  const common = { kind: "volume" as const, target: wish.target, readOnly: wish.readOnly, noCopy: wish.noCopy };
  if (wish.source === undefined || wish.source === "") {
    const name = context.stores.anonymousVolume(context.service, wish.target);
    service.approximated(item, `Kept in the volume ${name} of the app, where Compose would make one without a name.`);
    return { ...common, volume: name };
  }
  const name = context.stores.volumeName(wish.source);
  if (name !== undefined) return { ...common, volume: name };
  service.complain("undefined_reference", item, {
    message: `there is no volume "${wish.source}"`,
    mend: `declare it (volumes: {${wish.source}: }), or begin a path with / or ./`,
  });
  return undefined;
}

function bind(wish: Wish, item: Found<Tree>, within: Within): Mount | undefined {
  const { service } = within;
  const source = wish.source ?? "";
  if (isAbsolute(source)) {
    return {
      kind: "bind",
      source: normalizePath(source),
      target: wish.target,
      readOnly: wish.readOnly,
      createHostPath: wish.createHostPath,
      propagation: wish.propagation ?? "rprivate",
    };
  }
  if (source.startsWith("~")) {
    service.refuse(item, "~ is a home directory on this machine, not on the node", "give the absolute path on the node");
    return undefined;
  }
  return fileBind(wish, item, { path: resolvePath(item.at.base, source), within });
}

/** A file beside the Compose file is sent along; the node has no such file. */
function fileBind(wish: Wish, item: Found<Tree>, at: { path: string; within: Within }): Mount | undefined {
  const { path } = at;
  const { service, context } = at.within;
  const answer = answerFor(path, context.loading);
  switch (answer.kind) {
    case "text":
      service.approximated(
        item,
        wish.readOnly
          ? "Sent along as a versioned config; a changed file takes effect with the next deploy."
          : "Sent along as a versioned config, read-only; a changed file takes effect with the next deploy.",
      );
      return {
        kind: "config",
        config: context.stores.fileConfig(path, answer.text),
        target: wish.target,
        mode: answer.executable === true ? 0o555 : 0o444,
        uid: 0,
        gid: 0,
      };
    case "directory":
      service.refuse(
        item,
        `${wish.source} is a directory beside the Compose file, which no node has`,
        "put its files into the image or configs:, use a named volume, or bind an absolute path of the node",
      );
      return undefined;
    case "missing":
      service.complain("file_missing", item, {
        message: `${wish.source} does not exist beside the Compose file, and a directory made there would be on no node`,
        mend: "make the file, use a named volume, or bind an absolute path of the node",
      });
      return undefined;
    case "binary":
      service.complain("file_not_text", item, {
        message: `${wish.source} is not UTF-8 text, so it cannot become a config`,
        mend: "put it into the image, or bind an absolute path of the node",
      });
      return undefined;
    case "too-large":
      service.complain("file_too_large", item, {
        message: `${wish.source} has ${answer.bytes} bytes; a config holds at most 1000000`,
        mend: "put it into the image, or bind an absolute path of the node",
      });
      return undefined;
    case "unreadable":
      service.complain("file_unreadable", item, {
        message: `${wish.source} cannot be read (${answer.reason})`,
        mend: "check its permissions",
      });
      return undefined;
  }
}

/** The engine's own defaults for a tmpfs: asking for them changes nothing. */
const TMPFS_DEFAULTS: ReadonlySet<string> = new Set(["rw", "noexec", "nosuid", "nodev"]);

function shortTmpfs(found: Found<string>, service: Section): Mount | undefined {
  const colon = found.value.indexOf(":");
  const target = colon < 0 ? found.value : found.value.slice(0, colon);
  const mount: Extract<Mount, { kind: "tmpfs" }> = { kind: "tmpfs", target };
  for (const option of colon < 0 ? [] : found.value.slice(colon + 1).split(",")) {
    const [key = "", value = ""] = option.split("=");
    const size = key === "size" ? parseBytes(value) : undefined;
    const mode = key === "mode" ? parseMode(value) : undefined;
    if (size !== undefined) mount.sizeBytes = size;
    else if (mode !== undefined) mount.mode = mode;
    else if (!TMPFS_DEFAULTS.has(option))
      service.refuse(found, `the tmpfs option "${option}" is not supported`, "use size=, mode=, rw, noexec, nosuid or nodev");
  }
  return mount;
}

function longTmpfs(long: Section, target: string): Mount {
  const options = long.section("tmpfs");
  const size = options.bytes("size")?.value;
  const mode = modeAt(options);
  return { kind: "tmpfs", target, ...(size === undefined ? {} : { sizeBytes: size }), ...(mode === undefined ? {} : { mode }) };
}

function configMount(item: Found<Tree>, service: Section, context: MountContext): Mount | undefined {
  const long = service.within(item);
  const source = item.value.kind === "scalar" ? { ...item, value: scalarText(item.value) } : long.text("source");
  if (source === undefined) {
    long.wrong(item, "a config needs source:", "name a config of the top-level configs:");
    return undefined;
  }
  const config = context.stores.configName(source.value, item);
  if (config === undefined) return undefined;
  const target = long.text("target")?.value ?? source.value;
  return {
    kind: "config",
    config,
    target: isAbsolute(target) ? target : `/${target}`,
    mode: modeAt(long) ?? 0o444,
    uid: idAt(long, "uid"),
    gid: idAt(long, "gid"),
  };
}

function idAt(long: Section, key: "uid" | "gid"): number {
  const found = long.text(key);
  if (found === undefined) return 0;
  if (/^[0-9]{1,10}$/.test(found.value)) return Number(found.value);
  long.wrong(found, `"${found.value}" is no number`, `write the numeric ${key}, in quotes`);
  return 0;
}

/** A number was written as YAML octal (0440) and is typed already; a string is read as octal. */
function modeAt(section: Section): number | undefined {
  const found = section.tree("mode");
  if (found?.value.kind !== "scalar") return undefined;
  const { value } = found.value;
  const mode = typeof value === "number" ? value : parseMode(String(value));
  if (mode === undefined) section.wrong(found, `"${String(value)}" is no file mode`, "write it in octal, e.g. 0440");
  return mode;
}

const parseMode = (text: string): number | undefined =>
  /^(?:0o)?[0-7]{1,5}$/.test(text) ? Number.parseInt(text.replace("0o", ""), 8) : undefined;
