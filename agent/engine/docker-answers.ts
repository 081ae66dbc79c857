/** What the engine answers, and what the agent makes of it. */
import { CONTAINER_STATUS, type ContainerStatus } from "../../shared/converge/world.ts";
import type { PortBinding } from "../../shared/wire/report.ts";
import type { EngineInfo, InspectedContainer } from "./engine.ts";

export interface RawVersion {
  Version: string;
  ApiVersion: string;
  MinAPIVersion?: string;
  Components?: { Name: string }[] | null;
  Os: string;
}
export interface RawInfo {
  Name: string;
  Driver: string;
  CgroupVersion?: string;
  LoggingDriver?: string;
  OperatingSystem: string;
  OSType: string;
  SecurityOptions?: string[] | null;
  MemTotal: number;
  NCPU: number;
}
export interface RawSummary {
  Id: string;
  Names: string[];
  Labels: Record<string, string> | null;
  State: string;
}
export interface RawInspect {
  Id: string;
  Name: string;
  Image: string;
  State: {
    Status: string;
    Pid: number;
    ExitCode: number;
    OOMKilled: boolean;
    StartedAt: string;
    FinishedAt: string;
    Health?: { Status: string; Log?: { Start: string; End: string; ExitCode: number }[] | null } | null;
  };
  Config: { Tty: boolean; Labels: Record<string, string> | null };
  NetworkSettings: { Ports?: Record<string, { HostIp: string; HostPort: string }[] | null> | null };
}
export interface RawEvent {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes?: Record<string, string> | null };
  timeNano?: number;
}

export const toStatus = (raw: string): ContainerStatus =>
  (CONTAINER_STATUS as readonly string[]).includes(raw) ? (raw as ContainerStatus) : "dead";

/** The engine's zero time is the year 1. */
function toWallMs(time: string): number | null {
  const ms = Date.parse(time);
  return Number.isFinite(ms) && ms > 0 ? ms : null;
}

export function toInfo(version: RawVersion, info: RawInfo): EngineInfo {
  return {
    version: version.Version,
    apiVersion: version.ApiVersion,
    cgroup: info.CgroupVersion ?? "1",
    storage: info.Driver,
    name: info.Name,
    os: info.OSType,
    logDriver: info.LoggingDriver ?? "json-file",
    isRootless: (info.SecurityOptions ?? []).some((option) => option.includes("rootless")),
    isPodman: (version.Components ?? []).some((component) => component.Name.toLowerCase().includes("podman")),
    isDesktop: info.OperatingSystem.includes("Docker Desktop"),
  };
}

export function toInspected(raw: RawInspect): InspectedContainer {
  const { State } = raw;
  const health = State.Health?.Status;
  const ports: PortBinding[] = [];
  for (const [key, bindings] of Object.entries(raw.NetworkSettings.Ports ?? {})) {
    const [target, protocol] = key.split("/");
    if (protocol !== "tcp" && protocol !== "udp") continue;
    for (const { HostIp, HostPort } of bindings ?? []) {
      if (HostPort !== "") ports.push({ target: Number(target), protocol, hostIp: HostIp, hostPort: Number(HostPort) });
    }
  }
  return {
    id: raw.Id,
    name: raw.Name.replace(/^\//, ""),
    labels: raw.Config.Labels ?? {},
    imageId: raw.Image,
    status: toStatus(State.Status),
    pid: State.Pid,
    exitCode: State.ExitCode,
    oomKilled: State.OOMKilled,
    health: health === "starting" || health === "healthy" || health === "unhealthy" ? health : "none",
    startedWallMs: toWallMs(State.StartedAt),
    finishedWallMs: toWallMs(State.FinishedAt),
    healthySinceWallMs: health === "healthy" ? healthySince(State.Health?.Log ?? []) : null,
    ports,
    tty: raw.Config.Tty,
  };
}

/** End of the first of the last unbroken run of successful probes. */
function healthySince(log: readonly { End: string; ExitCode: number }[]): number | null {
  let since: number | null = null;
  for (const probe of log.toReversed()) {
    if (probe.ExitCode !== 0) break;
    since = toWallMs(probe.End);
  }
  return since;
}
