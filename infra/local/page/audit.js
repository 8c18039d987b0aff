/**
 * Did everything arrive? The page does not take the stream's word for it: it reads the log itself, through /replay, and
 * compares. What the log holds and the stream did not bring, although it had the time, was missed.
 *
 * This is the page's way to show the promise "no silent hole". An application has no need of it.
 */
import { fetchLog } from "./stack.js";

const PAGE = 500;
const PAGES_AT_MOST = 10;
/** An event that is in the log but not yet here may be on its way. After this it is not. */
const GRACE_MS = 3_000;

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Audit {
  #connection;
  #seen;
  #after;
  #running = false;

  /**
   * @param {import("./connection.js").Connection} connection
   * @param {import("./seen.js").Seen} seen
   * @param {string} after the cursor at which the stream began
   */
  constructor(connection, seen, after) {
    this.#connection = connection;
    this.#seen = seen;
    this.#after = after;
  }

  /**
   * Compares the log since the last check with what arrived.
   * @returns {Promise<import("./connection.js").Envelope[] | null>} what was missed, each reported once; null when
   *   nothing can be said now: the stream is not live, or another check runs. Rejects when the log cannot be read.
   */
  async check() {
    if (this.#running || this.#connection.state !== "live") return null;
    this.#running = true;
    try {
      const { absent, cursor } = await this.#compare();
      if (absent.length > 0) await pause(GRACE_MS);
      const late = absent.filter((envelope) => !this.#seen.has(envelope));
      // While the stream is down nothing is missed yet: it will be brought when it is back. Ask again then.
      if (late.length > 0 && this.#connection.state !== "live") return null;
      this.#after = cursor;
      return late;
    } finally {
      this.#running = false;
    }
  }

  async #compare() {
    const absent = [];
    let cursor = this.#after;
    for (let page = 0, more = true; more && page < PAGES_AT_MOST; page += 1) {
      const token = await this.#connection.token();
      const answer = await fetchLog({ topics: this.#connection.topics, after: cursor, token, limit: PAGE });
      absent.push(...answer.events.filter((envelope) => !this.#seen.has(envelope)));
      ({ cursor, more } = answer);
    }
    return { absent, cursor };
  }
}
