/**
 * The agent's link to its control plane as a total machine: every state answers every event. The shell performs the
 * action that a state names and feeds back what happened. Nothing in here stops a container, save `removed`.
 */
export const LINK_STATES = [
  /** Asks for a session. */
  "opening",
  /** Has one, and holds a poll. */
  "polling",
  /** Could not get through; waits, then goes on with the session that it has. */
  "pausing",
  /** Waits, then asks for a new session. */
  "pausingUnopened",
  /** Enrolled, and an operator has to approve it. */
  "pending",
  /** Two machines use this node's key: the control plane says nothing more until an operator has looked. */
  "quarantined",
  /** The control plane no longer speaks this agent's protocol. */
  "outdated",
  /** An operator removed this node. Final. */
  "removed",
] as const;
export type LinkState = (typeof LINK_STATES)[number];

export const LINK_EVENTS = [
  /** A session was granted. */
  "granted",
  /** A poll was answered, with or without news. */
  "answered",
  /** A held poll was cut after a while: what proxies do to a quiet connection. */
  "cut",
  /** No connection, a time-out, a foreign answer (F27), a server error. */
  "failed",
  /** Another session replaced this one, or this one is not known, or the era moved. */
  "sessionLost",
  "pendingApproval",
  "quarantine",
  "unsupported",
  "removal",
  /** The pause is over. */
  "waited",
] as const;
export type LinkEvent = (typeof LINK_EVENTS)[number];

/** What the shell does in a state. */
export const LINK_ACTIONS: Readonly<Record<LinkState, "open" | "poll" | "pause" | "stop">> = {
  opening: "open",
  polling: "poll",
  pausing: "pause",
  pausingUnopened: "pause",
  pending: "pause",
  quarantined: "pause",
  outdated: "pause",
  removed: "stop",
};

const anywhere = { pendingApproval: "pending", quarantine: "quarantined", unsupported: "outdated", removal: "removed" } as const;
/** Waiting with no session: what arrives late changes nothing, the end of the wait asks for a session. */
const waitingUnopened = (state: LinkState) =>
  ({ ...anywhere, granted: state, answered: state, cut: state, failed: state, sessionLost: state, waited: "opening" }) as const;

export const LINK_TRANSITIONS: Readonly<Record<LinkState, Readonly<Record<LinkEvent, LinkState>>>> = {
  opening: {
    ...anywhere,
    granted: "polling",
    answered: "opening",
    cut: "pausingUnopened",
    failed: "pausingUnopened",
    sessionLost: "pausingUnopened",
    waited: "opening",
  },
  polling: {
    ...anywhere,
    granted: "polling",
    answered: "polling",
    cut: "polling",
    failed: "pausing",
    sessionLost: "opening",
    waited: "polling",
  },
  pausing: {
    ...anywhere,
    granted: "pausing",
    answered: "pausing",
    cut: "pausing",
    failed: "pausing",
    sessionLost: "pausingUnopened",
    waited: "polling",
  },
  pausingUnopened: waitingUnopened("pausingUnopened"),
  pending: waitingUnopened("pending"),
  quarantined: waitingUnopened("quarantined"),
  outdated: waitingUnopened("outdated"),
  removed: {
    granted: "removed",
    answered: "removed",
    cut: "removed",
    failed: "removed",
    sessionLost: "removed",
    pendingApproval: "removed",
    quarantine: "removed",
    unsupported: "removed",
    removal: "removed",
    waited: "removed",
  },
};

export const nextLinkState = (state: LinkState, event: LinkEvent): LinkState => LINK_TRANSITIONS[state][event];

/** Waits double from half a second; with 10,000 agents back at once the cap and full jitter offer about 700 requests a second. */
export const PAUSE_FIRST_MS = 500;
export const PAUSE_MAX_MS = 30_000;

/**
 * How long to wait after the `failures`-th failure in a row (from 1). `fraction` is random in [0, 1): the upper half of
 * the range is jitter, so that agents that lost their control plane together do not return together.
 */
export function pauseMs(state: LinkState, failures: number, fraction: number): number {
  const ceilingMs =
    state === "quarantined" || state === "outdated"
      ? PAUSE_MAX_MS
      : state === "pending"
        ? 5_000
        : Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** Math.min(failures - 1, 10));
  return Math.round(ceilingMs * (0.5 + fraction / 2));
}
