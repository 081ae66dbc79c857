/**
 * fetch, but never to a link-local address: whoever may deploy chooses a host, and there is no registry at the address where
 * a cloud tells a machine its secrets. What is dialled is judged, not what is written: a name may resolve to anything.
 */
import { lookup, type LookupAddress, type LookupOptions } from "node:dns";
import { isIP, isIPv4 } from "node:net";
import type { Agent, RequestInit, Response } from "undici";
import { LINK_LOCAL } from "./link-local.ts";

type Undici = typeof import("undici");
export type ResolveName = (
  name: string,
  options: LookupOptions & { readonly all: true },
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;
export type RegistryFetch = (url: string | URL, init: RequestInit) => Promise<Response>;

export function makeRegistryFetch(resolveName: ResolveName = lookup): RegistryFetch {
  let dispatcher: Agent | null = null;
  return async (url, init) => {
    // With the first question: it is 60 ms and 28 MB that a start does not need.
    const undici = await import("undici");
    dispatcher ??= dispatcherOf(undici, resolveName);
    return await undici.fetch(url, { ...init, dispatcher });
  };
}

function dispatcherOf({ Agent, buildConnector }: Undici, resolveName: ResolveName): Agent {
  const dial = buildConnector({
    lookup: (name, options, done) =>
      resolveName(name, { ...options, all: true }, (error, all) => {
        if (error !== null) return done(error, "");
        // A name of the local network may have a link-local address beside the one that leads to its registry.
        const addresses = all.filter(({ address }) => !isLinkLocal(address));
        const [first] = addresses;
        if (first === undefined) return done(refusal(name), "");
        if (options.all === true) return done(null, addresses);
        return done(null, first.address, first.family);
      }),
  });
  return new Agent({
    // Of an address nothing is looked up.
    connect: (options, done) => (isLinkLocal(options.hostname) ? done(refusal(options.hostname), null) : dial(options, done)),
  });
}

function isLinkLocal(host: string): boolean {
  const address = host.replace(/^\[|\]$|%.*$/g, "");
  return isIP(address) !== 0 && LINK_LOCAL.check(address, isIPv4(address) ? "ipv4" : "ipv6");
}

const refusal = (host: string) => new Error(`${host} is link-local, where no registry is`);
