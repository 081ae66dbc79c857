/** What options of several commands have in common. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Shell } from "../shell.ts";

export type ShellOf = (command: Command) => Shell;

const collect = (value: string, before: readonly string[]): string[] => [...before, value];
export const many = (flags: string, text: string): Option => new Option(flags, text).argParser(collect).default([]);

export const whole =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`a whole number from ${min} to ${max}`);
    return value;
  };

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
export function durationMs(text: string): number {
  const match = /^([0-9]{1,6})([smhd])$/.exec(text);
  if (match === null) throw new InvalidArgumentError("write 90s, 5m, 2h or 7d");
  return Number(match[1]) * (UNITS[match[2] ?? "s"] ?? 1_000);
}

/** Of commands that begin a deployment and follow it. */
export const waitOptions = (command: Command): Command =>
  command
    .option("-y, --yes", "do not ask", false)
    .option("--detach", "do not wait for the result", false)
    .option("--wait <time>", "wait at most this long (exit code 4 after it); default: until it ends", durationMs);
