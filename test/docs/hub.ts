/**
 * Docker's own registry, as far as the control plane asks it what a tag means: its name, TLS, and an open registry of the
 * lab behind. Engines, which trust no other certificate for that name, are given the open registry as a mirror.
 */
import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { createServer } from "node:https";
import { join } from "node:path";
import { mustExecute } from "../e2e/hosts/command.ts";

export const HUB = "registry-1.docker.io";

export interface Hub {
  /** File with the certificate to trust. */
  readonly certificate: string;
  close(): Promise<void>;
}

/** Listens on `ip`, port 443; `registry` is "ip:port". Files go to `directory`. */
export async function openHub(ip: string, registry: string, directory: string): Promise<Hub> {
  const [certificate, key] = [join(directory, "hub.crt"), join(directory, "hub.key")];
  const subject = ["-subj", `/CN=${HUB}`, "-addext", `subjectAltName=DNS:${HUB}`, "-days", "2"];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await mustExecute(["openssl", "req", "-x509", ...curve, ...subject, "-out", certificate, "-keyout", key]);
  const server = createServer({ cert: await readFile(certificate), key: await readFile(key) }, (asked, answer) => {
    const sent = request(`http://${registry}${asked.url ?? "/"}`, { method: asked.method ?? "GET", headers: asked.headers }, (got) => {
      answer.writeHead(got.statusCode ?? 502, got.headers);
      got.pipe(answer);
    });
    sent.on("error", () => answer.destroy());
    asked.pipe(sent);
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(443, ip, resolve));
  return {
    certificate,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
