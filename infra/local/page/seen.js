/**
 * Which envelopes were handled already. Delivery is at least once; dropping what is in here makes it exactly once.
 *
 * `source` + `id` is what CloudEvents 1.0 (section 3.1.1) makes unique. The position is not the key: after a
 * failover an event may be restored under a new position, and it is still the same event.
 */
export class Seen {
  /** @type {Set<string>} insertion order is age, which is all the bookkeeping an upper bound needs */
  #keys = new Set();
  #limit;

  /** @param {number} limit how many to remember; well above what one reconnect can bring again */
  constructor(limit = 10_000) {
    this.#limit = limit;
  }

  /**
   * @param {{source: string, id: string}} envelope
   * @returns {boolean} true when it is new (and is remembered from now on), false for a double
   */
  add(envelope) {
    const key = keyOf(envelope);
    if (this.#keys.has(key)) return false;
    this.#keys.add(key);
    if (this.#keys.size > this.#limit) {
      const [oldest] = this.#keys;
      this.#keys.delete(oldest);
    }
    return true;
  }

  /** @param {{source: string, id: string}} envelope */
  has(envelope) {
    return this.#keys.has(keyOf(envelope));
  }
}

/** @param {{source: string, id: string}} envelope */
function keyOf({ source, id }) {
  return `${source}\n${id}`; // a newline can be in neither, so two pairs never share a key
}
