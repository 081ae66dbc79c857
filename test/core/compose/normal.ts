/** What both parsers are compared by: an app in few words, the same from either side. */
export type NormalService = {
  image: string;
  command: string[] | undefined;
  entrypoint: string[] | undefined;
  env: Record<string, string>;
  labels: Record<string, string>;
  /** `IP|HOST|CONTAINER/PROTOCOL`, sorted. */
  ports: string[];
  /** One line a mount, sorted. */
  mounts: string[];
  dependsOn: Record<string, "started" | "healthy" | "completed">;
  healthcheck: { test: string[]; intervalMs?: number; timeoutMs?: number; startPeriodMs?: number; retries?: number } | undefined;
  restart: { condition: string; attemptsMax?: number; windowMs?: number; delayMs?: number };
  mode: string;
  replicas: number;
  update: { parallelism?: number; delayMs?: number; minHealthyMs?: number; failureAction?: string; order?: string };
  /** `KEY OPERATOR VALUE`. */
  constraints: string[];
  spreadBy: string[];
  maxPerNode: number | undefined;
  limits: Record<string, number | string>;
  reservation: { cpuMillis?: number; memoryMiB?: number };
  ulimits: Record<string, [number, number]>;
  sysctls: Record<string, string>;
  extraHosts: string[];
  devices: string[];
  logging: { driver: string; options: Record<string, string> } | undefined;
  /** Further names inside the app. */
  aliases: string[];
  /** The plain ones: user, hostname, privileged, cap_add, … under berth's names; unset ones left out. */
  plain: Record<string, unknown>;
};

export type NormalApp = {
  services: Record<string, NormalService>;
  volumes: Record<string, { external?: string; labels: Record<string, string> }>;
};
