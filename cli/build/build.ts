/** `berth deploy --build`: builds the images of `build:` services with the docker client, and pushes them. */
import { execFile, spawn } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import type { Build } from "../../shared/compose/build.ts";
import { parseImage } from "../../shared/model/image.ts";
import { CliError } from "../exit.ts";
import { seconds } from "../render/amount.ts";
import { Live, spinner } from "../render/live.ts";
import { visible, visibleLog } from "../render/visible.ts";
import type { Shell } from "../shell.ts";
import { line } from "../terminal.ts";

/** The arguments of `docker build`. Values come from the Compose file, so each stands alone and none can be taken for an option. */
export function buildArguments(build: Build): string[] {
  const isRemote = /^[a-z][a-z0-9+.-]*:\/\/|^git@/.test(build.context);
  const dockerfile =
    build.dockerfile === undefined ? [] : ["--file", isRemote ? build.dockerfile : path.resolve(build.context, build.dockerfile)];
  const args = Object.entries(build.args).flatMap(([key, value]) => ["--build-arg", `${key}=${value}`]);
  const target = build.target === undefined ? [] : ["--target", build.target];
  return ["build", "--tag", build.image, ...dockerfile, ...args, ...target, "--", build.context];
}

/** Image → the digest that its registry has given it. */
export async function buildAndPush(shell: Shell, builds: readonly Build[]): Promise<ReadonlyMap<string, string>> {
  const digests = new Map<string, string>();
  for (const build of builds) {
    const { image } = build;
    if (digests.has(image)) continue;
    await docker(shell, `building ${visible(image)} for ${visible(build.service)}`, buildArguments(build));
    await docker(shell, `pushing ${visible(image)}`, ["push", image]);
    digests.set(image, await pushedDigest(shell, image));
  }
  return digests;
}

async function pushedDigest(shell: Shell, image: string): Promise<string> {
  const asked = ["image", "inspect", "--format", "{{json .RepoDigests}}", image];
  let cause: unknown;
  try {
    const { stdout } = await promisify(execFile)("docker", asked, { cwd: shell.cwd, signal: shell.signal });
    const digest = digestOf(image, JSON.parse(stdout) as readonly string[] | null);
    if (digest !== null) return digest;
  } catch (error) {
    if (shell.signal.aborted) throw error;
    cause = error;
  }
  throw new CliError(`docker does not say under which digest ${visible(image)} was pushed`, {
    cause,
    next: `docker image inspect ${image}`,
  });
}

/** Among the names with a digest that an image has, that of the repository it was pushed to. */
export function digestOf(image: string, names: readonly string[] | null): string | null {
  const wanted = parseImage(image);
  for (const name of names ?? []) {
    const found = parseImage(name);
    if (found !== null && found.registry === wanted?.registry && found.repository === wanted.repository) return found.digest;
  }
  return null;
}

/** Lines kept of a failed build. */
const TAIL_LINES = 20;

async function docker(shell: Shell, what: string, args: readonly string[]): Promise<void> {
  const { terminal } = shell;
  const isQuiet = shell.output !== "table";
  const live = terminal.isTty && !isQuiet ? new Live(terminal) : null;
  const begin = performance.now();
  const tail: string[] = [];
  if (live === null && !isQuiet) line(terminal, what);
  const draw = (): void =>
    live?.draw([
      `${terminal.style.accent(spinner(performance.now()))} ${what}  ${terminal.style.quiet(seconds(performance.now() - begin))}`,
      terminal.style.quiet(`  ${tail.at(-1) ?? ""}`),
    ]);
  const timer = setInterval(draw, 100);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      const child = spawn("docker", args, { stdio: ["ignore", "pipe", "pipe"], cwd: shell.cwd, signal: shell.signal });
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding("utf8").on("data", (text: string) => {
          tail.push(
            ...text
              .split(/\r|\n/)
              .map(visibleLog)
              .filter((part) => part.trim() !== ""),
          );
          tail.splice(0, Math.max(0, tail.length - TAIL_LINES));
        });
      }
      child.on("error", (error) =>
        reject(
          "code" in error && error.code === "ENOENT"
            ? new CliError("`deploy --build` uses the docker client, and there is none on the PATH", {
                details: ["Install docker, or build and push the images elsewhere and deploy without --build."],
              })
            : error,
        ),
      );
      child.on("close", resolve);
    });
    if (code !== 0)
      throw new CliError(`${what} failed: docker exited with ${code}`, {
        details: tail.map((text) => `  | ${text}`),
        next: `docker ${args.map((arg) => (/^[\w./:=@-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", `'\\''`)}'`)).join(" ")}`,
      });
  } finally {
    clearInterval(timer);
    live?.clear();
  }
  if (!isQuiet) line(terminal, `${terminal.style.good("✓")} ${what}  ${terminal.style.quiet(seconds(performance.now() - begin))}`);
}
