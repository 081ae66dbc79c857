/**
 * Looks once a day whether the served certificate is to be another one: its own near its end or under changed names, or
 * the operator's files replaced. Connections that are open go on; new ones get the new one.
 */
import { errorText } from "./error-text.ts";
import type { Clock, Log } from "./ports.ts";
import type { ServerCertificate } from "./tls.ts";

const LOOK_EVERY_MS = 86_400_000;

export interface RenewalParts {
  readonly served: ServerCertificate;
  /** The one to serve now. */
  readonly make: () => Promise<ServerCertificate>;
  readonly serve: (certificate: ServerCertificate) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Returns what stops it. */
export function renewDaily({ served, make, serve, clock, log }: RenewalParts): () => void {
  let isStopped = false;
  let cancel = () => {};
  let current = served;
  const look = async () => {
    try {
      const made = await make();
      if (isStopped) return;
      if (made.cert !== current.cert) {
        serve(made);
        current = made;
        log.info({}, "the server's certificate was replaced");
      }
    } catch (error) {
      log.warn({ error: errorText(error) }, "the server's certificate could not be renewed; trying again tomorrow");
    }
    schedule();
  };
  const schedule = () => {
    if (!isStopped) cancel = clock.after(LOOK_EVERY_MS, () => void look());
  };
  schedule();
  return () => {
    isStopped = true;
    cancel();
  };
}
