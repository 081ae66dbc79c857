/** Which engine is there, and one sentence for each that berth cannot use. */
import type { EngineInfo } from "./engine.ts";

export const SOCKET_DEFAULT = "/var/run/docker.sock";
const API_OLDEST_MINOR = 41;

/** From DOCKER_HOST or the default. A sentence when it names something that is no local socket. */
export function engineSocket(dockerHost: string | undefined): { readonly path: string } | { readonly problem: string } {
  if (dockerHost === undefined || dockerHost === "") return { path: SOCKET_DEFAULT };
  if (dockerHost.startsWith("unix://")) return { path: dockerHost.slice("unix://".length) || SOCKET_DEFAULT };
  if (dockerHost.startsWith("/")) return { path: dockerHost };
  return {
    problem: `DOCKER_HOST is ${dockerHost}; berth runs on the machine of its engine and needs a local socket, as unix:///var/run/docker.sock`,
  };
}

export function describePlatformProblem(platform: string): string | null {
  if (platform === "linux") return null;
  const name = platform === "darwin" ? "macOS" : platform === "win32" ? "Windows" : platform;
  return `the agent runs on Linux; this is ${name}. Run it in a Linux virtual machine, or on another machine, and use the berth command from here`;
}

export function describeEngineProblem(info: EngineInfo): string | null {
  if (info.isPodman)
    return `the engine is Podman ${info.version}, whose Docker-compatible API leaves out parts that berth needs; install Docker Engine`;
  if (info.os !== "linux") return `the engine runs ${info.os} containers; berth runs Linux containers`;
  if (info.isRootless)
    return "the engine is rootless Docker, which cannot set the limits and mounts that berth promises; install Docker Engine as a system service";
  if (info.isDesktop)
    return "the engine is Docker Desktop, whose containers run in a virtual machine apart from this file system; install Docker Engine";
  if (Number(info.apiVersion.split(".")[1] ?? 0) < API_OLDEST_MINOR)
    return `the engine (${info.version}) speaks API ${info.apiVersion}; berth needs 1.${API_OLDEST_MINOR} or later, which Docker Engine 20.10 brought`;
  return null;
}

/** When nothing answers at the socket. */
export const describeUnreachable = (path: string, reason: string): string =>
  /EACCES/.test(reason)
    ? `the container engine's socket ${path} may not be opened by this user; run the agent as root`
    : `no container engine answers at ${path}; install Docker Engine and start it, or name its socket in DOCKER_HOST (${reason})`;
