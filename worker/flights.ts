/**
 * How many requests of one share, or rehearsals of one namespace, are under way at once. The rate limit alone lets a share
 * start hundreds of dear lists in a second, and the database answers one at a time: what is under way is what everybody
 * else waits for. The share's other requests stand in line, before anything of them is read; a long line is refused.
 *
 * A held watch costs nothing and is counted by Watchers; it gives its place up while it waits, and stands in line again
 * when it has something to answer.
 */
import { BerthError } from "./errors.ts";
import type { Share } from "./share.ts";

export interface FlightLimits {
  /** What is counted, in the plural. */
  readonly noun: string;
  readonly underWayMax: number;
  readonly lineMax: number;
}
/**
 * Eight of the dearest lists are about a quarter of a second of one core; a browser sends six at a time. Every watch that a
 * share may hold can begin or end at one moment.
 */
export const REQUESTS: FlightLimits = { noun: "requests", underWayMax: 8, lineMax: 64 };
/** A rehearsal of a large app is seconds of planning, for nothing but a look. */
export const PREVIEWS: FlightLimits = { noun: "dry runs", underWayMax: 1, lineMax: 4 };
/** Of a namespace, of its real deploys too, whose refusal would be a nuisance: eight shares may send eight each. */
export const REHEARSALS: FlightLimits = { noun: "deploys", underWayMax: 1, lineMax: 64 };

interface Flight {
  underWay: number;
  /** Watches that gave their place up. */
  aside: number;
  readonly line: (() => void)[];
}

export interface Place {
  /** Runs `wait` without a place, and returns when there is one again. */
  aside<T>(wait: () => Promise<T>): Promise<T>;
}

export class Flights {
  readonly #limits: FlightLimits;
  readonly #flights = new Map<string, Flight>();

  constructor(limits: FlightLimits) {
    this.#limits = limits;
  }

  /** Throws `rate_limited`. */
  async run<T>({ key, name }: Share, work: (place: Place) => Promise<T>): Promise<T> {
    const flight = this.#flights.get(key) ?? { underWay: 0, aside: 0, line: [] };
    const { noun, underWayMax, lineMax } = this.#limits;
    if (flight.line.length >= lineMax)
      throw new BerthError(
        "rate_limited",
        `of the ${noun} of ${name}, ${underWayMax} ${underWayMax === 1 ? "is" : "are"} under way and ${lineMax} wait; send the next when one is answered`,
        { retryAfterS: 1 },
      );
    this.#flights.set(key, flight);
    await enter(flight, underWayMax);
    try {
      return await work({ aside: (wait) => aside(flight, underWayMax, wait) });
    } finally {
      leave(flight);
      if (flight.underWay === 0 && flight.aside === 0) this.#flights.delete(key);
    }
  }
}

async function aside<T>(flight: Flight, underWayMax: number, wait: () => Promise<T>): Promise<T> {
  flight.aside += 1;
  leave(flight);
  try {
    return await wait();
  } finally {
    flight.aside -= 1;
    await enter(flight, underWayMax);
  }
}

async function enter(flight: Flight, underWayMax: number): Promise<void> {
  if (flight.underWay >= underWayMax) await new Promise<void>((resume) => flight.line.push(resume));
  else flight.underWay += 1;
}

/** Hands the place to the first in line, or gives it up. */
function leave(flight: Flight): void {
  const next = flight.line.shift();
  if (next === undefined) flight.underWay -= 1;
  else next();
}
