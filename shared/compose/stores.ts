/** The volumes and configs of an app: those declared at the top of the file, and those that mounts bring about. */
import { type AppSpecInput, OWN_VOLUME_PREFIX } from "../model/app.ts";
import { NameBook, nameFrom } from "./app-names.ts";
import { type Loading, readText } from "./files.ts";
import { baseNameOf, directoryOf, resolvePath } from "./paths.ts";
import type { Problems } from "./problem.ts";
import type { Report } from "./report.ts";
import { Section } from "./section.ts";
import { child, isNull, type Mapping, type Mark } from "./tree.ts";

type VolumeInput = NonNullable<AppSpecInput["volumes"]>[string];
type Place = { at: Mark; path: string };
export type StoreContext = {
  problems: Problems;
  report: Report;
  loading: Loading;
  variables: ReadonlyMap<string, string>;
  directory: string;
};

export class Stores {
  readonly volumes = new Map<string, VolumeInput>();
  readonly configs = new Map<string, { content: string }>();
  readonly #context: StoreContext;
  readonly #volumeNames = new NameBook();
  readonly #configNames = new NameBook();
  readonly #declaredConfigs: Section;
  readonly #usedConfigs = new Set<string>();

  constructor(project: Mapping, context: StoreContext) {
    this.#context = context;
    const root = new Section(project, "", context);
    const volumes = child(project, "volumes");
    if (volumes?.kind === "mapping") {
      for (const [key, entry] of volumes.entries)
        this.#declareVolume(key, new Section(isNull(entry.value) ? undefined : entry.value, `volumes.${key}`, context), entry.at);
    }
    this.#declaredConfigs = new Section(root.tree("configs")?.value, "configs", context);
  }

  volumeName(key: string): string | undefined {
    return this.#volumeNames.nameOf(key);
  }

  /** A volume for a mount that names none: kept under the service and the place. */
  anonymousVolume(service: string, target: string): string {
    const name = this.#volumeNames.claimNear(`\0${service}\0${target}`, `${service}-${target.replaceAll("/", "-").replace(/^-+/, "")}`);
    this.volumes.set(name, {});
    return name;
  }

  /** The config of a declared key, read now; undefined where that failed or there is none. */
  configName(key: string, user: Place): string | undefined {
    const declared = this.#declaredConfigs.tree(key);
    if (declared === undefined) {
      this.#context.problems.add({
        code: "undefined_reference",
        at: user.at,
        path: user.path,
        message: `${user.path}: there is no config "${key}"`,
        mend: "declare it under the top-level configs:",
      });
      return undefined;
    }
    const known = this.#configNames.nameOf(key);
    if (known !== undefined || this.#usedConfigs.has(key)) return known;
    this.#usedConfigs.add(key);
    const content = this.#contentOf(new Section(declared.value, `configs.${key}`, this.#context), {
      at: declared.at,
      path: `configs.${key}`,
    });
    if (content === undefined) return undefined;
    const name = this.#claimed(this.#configNames, key, { at: declared.at, path: `configs.${key}` });
    if (name !== undefined) this.configs.set(name, { content });
    return name;
  }

  /**
   * The config that a file beside the project becomes when it is bound by a relative path. Its name says where in the
   * project it is, and not where the project is: a checkout elsewhere must not look like a change.
   */
  fileConfig(path: string, content: string): string {
    const { directory } = this.#context;
    const inside = path.startsWith(`${directory}/`)
      ? path.slice(directory.length + 1)
      : `${baseNameOf(directoryOf(path))}/${baseNameOf(path)}`;
    const name = this.#configNames.claimNear(`\0${path}`, inside.replaceAll("/", "-"));
    this.configs.set(name, { content });
    return name;
  }

  unusedConfigs(): { key: string; at: Mark }[] {
    return this.#declaredConfigs.entries().filter(({ key }) => !this.#usedConfigs.has(key));
  }

  #declareVolume(key: string, volume: Section, at: Mark): void {
    const place = { at, path: `volumes.${key}` };
    const driver = volume.text("driver");
    if (driver !== undefined && driver.value !== "local")
      volume.refuse(
        driver,
        `the volume driver ${driver.value} is not supported`,
        "use local, or mount the share on the node and bind its absolute path",
      );
    const external = volume.tree("external");
    const isExternal = external?.value.kind === "mapping" || volume.boolean("external") === true;
    const labels = Object.fromEntries(volume.pairs("labels").map(({ key: label, value }) => [label, value ?? ""]));
    const name = this.#claimed(this.#volumeNames, key, place);
    if (name === undefined) return;
    const oldName = external?.value.kind === "mapping" ? volume.section("external").text("name")?.value : undefined;
    const engineName = volume.text("name");
    if (isExternal && engineName !== undefined)
      this.#context.report.say("applied", engineName.at, { path: engineName.path, note: "The engine's name of the external volume." });
    if (!isExternal && engineName !== undefined)
      volume.approximated(engineName, "No effect: berth names the app's own volumes; to use an existing one, add external: true.");
    const externalName = oldName ?? engineName?.value ?? key;
    const isTheirs = isExternal && externalName.startsWith(OWN_VOLUME_PREFIX);
    if (isTheirs)
      this.#context.problems.add({
        code: "wrong_value",
        at: engineName?.at ?? place.at,
        path: engineName?.path ?? place.path,
        message: `${externalName} is a name that berth gives to volumes of its apps, and another app's data is not to be mounted`,
        mend: `use a volume of your own, whose name does not begin with ${OWN_VOLUME_PREFIX}`,
      });
    this.volumes.set(name, {
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
      ...(isExternal && !isTheirs ? { externalName } : {}),
    });
  }

  #claimed(book: NameBook, key: string, place: Place): string | undefined {
    const name = nameFrom(key);
    if (name === undefined) {
      this.#context.problems.add({
        code: "wrong_value",
        at: place.at,
        path: place.path,
        message: `${place.path}: "${key}" cannot be a name`,
        mend: "use lower-case letters, digits, '-', '_' and '.'",
      });
      return undefined;
    }
    if (!book.claim(key, name)) {
      this.#context.problems.add({
        code: "name_conflict",
        at: place.at,
        path: place.path,
        message: `${place.path}: another one is already called ${name}`,
        mend: "rename one of them; case makes no difference",
      });
      return undefined;
    }
    if (name !== key)
      this.#context.report.approximated(place.at, place.path, `Called ${name}: names are lower-case letters, digits, '-', '_' and '.'.`);
    return name;
  }

  #contentOf(config: Section, place: Place): string | undefined {
    const sources = (["file", "content", "environment"] as const).flatMap((key) => config.text(key) ?? []);
    const source = sources[0];
    if (source === undefined || sources.length > 1) {
      if (!config.has("external"))
        config.wrong(
          place,
          sources.length === 0 ? "a config needs its content" : "a config takes one source of content",
          "give one of file:, content: and environment:",
        );
      return undefined;
    }
    if (source.path.endsWith(".content")) return source.value;
    if (source.path.endsWith(".file"))
      return readText(
        resolvePath(source.at.base, source.value),
        { at: source.at, keyPath: source.path, what: "the config file" },
        this.#context.loading,
      );
    const value = this.#context.variables.get(source.value);
    if (value === undefined)
      config.complain("variable_required", source, {
        message: `the variable ${source.value} is not set`,
        mend: `set ${source.value} in the environment or in .env`,
      });
    return value;
  }
}
