/** `build`: refused with the commands that do it, or handed to the CLI, which builds and pushes. */
import { resolvePath } from "./paths.ts";
import type { Section } from "./section.ts";

export type Build = {
  service: string;
  /** Directory, absolute; or a URL as written. */
  context: string;
  /** Relative to the context; absent: the builder's default. */
  dockerfile?: string;
  args: Record<string, string>;
  target?: string;
  /** What to build as and push. */
  image: string;
};

type Wanted = { name: string; allowBuild: boolean; variables: ReadonlyMap<string, string> };

/** The build of a service, or undefined where there is none or it was refused. */
export function buildOf(service: Section, wanted: Wanted): Build | undefined {
  const found = service.tree("build");
  if (found === undefined) return undefined;
  const build = service.section("build");
  const context = build.text("context");
  const image = service.text("image");
  const written = context?.value ?? (found.value.kind === "scalar" ? String(found.value.value) : ".");
  if (!wanted.allowBuild) {
    const reference = image?.value ?? `REGISTRY/${wanted.name}:TAG`;
    const also = image === undefined ? `, set image: ${reference}` : "";
    service.complain("build_refused", found, {
      message: "berth runs images from a registry, and builds only when asked to",
      mend: `build and push it yourself: docker build -t ${reference} ${written} && docker push ${reference}${also} and remove build:; or let berth do both: berth deploy --build`,
    });
    return undefined;
  }
  if (image === undefined) {
    service.wrong(found, "a built image needs a name that it can be pushed to", "add image: REGISTRY/NAME:TAG");
    return undefined;
  }
  const dockerfile = build.text("dockerfile")?.value;
  const target = build.text("target")?.value;
  const args = build.pairs("args").flatMap(({ key, value }) => {
    const given = value ?? wanted.variables.get(key);
    return given === undefined ? [] : [[key, given] as const];
  });
  const base = context?.at.base ?? found.at.base;
  return {
    service: wanted.name,
    context: /^[a-z][a-z0-9+.-]*:\/\/|^git@/.test(written) ? written : resolvePath(base, written),
    ...(dockerfile === undefined ? {} : { dockerfile }),
    args: Object.fromEntries(args),
    ...(target === undefined ? {} : { target }),
    image: image.value,
  };
}
