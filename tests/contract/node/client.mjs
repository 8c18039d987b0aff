// What every script here needs: the client as an application makes it, a prefix for its keys, and patience.
import { Redis } from "@upstash/redis";

export const prefix = process.env.KEY_PREFIX;

/** Makes a client for the gateway; without retries, so that a failure is seen as it is. */
export function connect(options = {}) {
  return new Redis({
    url: process.env.UPSTASH_REDIS_REST_URL,
    token: process.env.UPSTASH_REDIS_REST_TOKEN,
    retry: false,
    ...options,
  });
}

/** Collects what a subscriber is told, so that a script can await the next event. */
export class Inbox {
  #events = [];
  #waiting = [];

  constructor(subscriber, ...types) {
    for (const type of [...types, "error"]) {
      subscriber.on(type, (data) => this.#push([type, data]));
    }
  }

  #push(event) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(event);
    else this.#events.push(event);
  }

  next() {
    if (this.#events.length > 0) return Promise.resolve(this.#events.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
