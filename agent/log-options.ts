/**
 * Which options of a log driver a workload may set by itself. The engine carries them out as root: an address is dialled,
 * a size is written or held in memory. So each is known by name and has a bound. Pure.
 */
export const LOG_DRIVERS = ["json-file", "local", "none", "journald", "syslog", "fluentd", "gelf"] as const;
export type LogDriver = (typeof LOG_DRIVERS)[number];

/** What a log of `json-file` may hold unless the workload says: 30 MB. */
export const JSON_FILE_DEFAULT = { "max-size": "10m", "max-file": "3" } as const;
/** Of its own accord the engine keeps this much for `local`. */
const LOCAL_DEFAULT = { "max-size": "20m", "max-file": "5" } as const;
/** Lines that wait for a slow log are held in the engine's memory: 16 of its own default. */
const BUFFER_BYTES_MAX = 16 * 1024 * 1024;
const FILES_MAX = 1_000;
const MIB = 1024 * 1024;

const isText = () => true;
const isSwitch = (value: string) => value === "true" || value === "false";
/** Plain fields alone: the engine would run whatever else Go's templates can say. */
const isTag = (value: string) => /^(?:[^{}]|\{\{ *\.[A-Za-z]+ *\}\})*$/.test(value);
const isBuffer = (value: string) => (bytesOf(value) ?? Number.POSITIVE_INFINITY) <= BUFFER_BYTES_MAX;
const isFileCount = (value: string) => /^[1-9][0-9]{0,3}$/.test(value) && Number(value) <= FILES_MAX;
const isSize = (value: string) => bytesOf(value) !== null;

type Checks = Readonly<Record<string, (value: string) => boolean>>;
const DELIVERY: Checks = { mode: (value) => value === "blocking" || value === "non-blocking", "max-buffer-size": isBuffer };
const FILES: Checks = { "max-size": isSize, "max-file": isFileCount, compress: isSwitch };
const ATTRIBUTES: Checks = { labels: isText, "labels-regex": isText, env: isText, "env-regex": isText, tag: isTag };

/** Null: options of this driver name places to send to, and are the owner's to allow by allowing the driver. */
const OPTIONS: Readonly<Record<LogDriver, Checks | null>> = {
  "json-file": { ...FILES, ...DELIVERY, ...ATTRIBUTES },
  local: { ...FILES, ...DELIVERY },
  journald: { ...DELIVERY, ...ATTRIBUTES },
  none: {},
  syslog: null,
  fluentd: null,
  gelf: null,
};

export type LogOptionProblem =
  | { readonly kind: "option"; readonly name: string }
  /** The files together, in MiB, rounded up. */
  | { readonly kind: "size"; readonly mib: number };

/** The first option that is unknown or out of its bounds, or a log that may grow over `mibMax`; null: all is well. */
export function judgeLogOptions(driver: LogDriver, options: Readonly<Record<string, string>>, mibMax: number): LogOptionProblem | null {
  const checks = OPTIONS[driver];
  if (checks === null) return null;
  for (const [name, value] of Object.entries(options)) {
    const check = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (check?.(value) !== true) return { kind: "option", name };
  }
  if (driver !== "json-file" && driver !== "local") return null;
  const kept = driver === "json-file" ? jsonFileOptions(options) : { ...LOCAL_DEFAULT, ...options };
  const mib = Math.ceil(((bytesOf(kept["max-size"] ?? "") ?? 0) * Number(kept["max-file"] ?? 1)) / MIB);
  return mib > mibMax ? { kind: "size", mib } : null;
}

/** The engine itself sets no bound to `json-file`; where the workload sets a size alone, it keeps one file of it. */
export const jsonFileOptions = (options: Readonly<Record<string, string>>): Record<string, string> =>
  Object.hasOwn(options, "max-size") ? { ...options } : { ...JSON_FILE_DEFAULT, ...options };

/** As the engine reads it: `10m`, `512k`, `1.5gb`; null: it is none, or not above 0. */
function bytesOf(text: string): number | null {
  const [, count, unit] = /^([0-9]{1,12}(?:\.[0-9]{1,12})?)([kmg]?)b?$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(count) * { "": 1, k: 1024, m: MIB, g: 1024 * MIB }[(unit ?? "").toLowerCase() as "" | "k" | "m" | "g"]);
  return bytes > 0 ? bytes : null;
}
