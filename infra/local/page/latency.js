/** The last delays, and what they were like. */
export class Latencies {
  /** @type {number[]} oldest first */
  #values_ms = [];
  #limit;

  /** @param {number} limit */
  constructor(limit) {
    this.#limit = limit;
  }

  /** @param {number} value_ms */
  add(value_ms) {
    this.#values_ms.push(value_ms);
    if (this.#values_ms.length > this.#limit) this.#values_ms.shift();
  }

  /** @returns {readonly number[]} oldest first */
  get values_ms() {
    return this.#values_ms;
  }

  /** @param {number} share 0.5 for the median */
  quantile_ms(share) {
    return quantile(
      [...this.#values_ms].sort((a, b) => a - b),
      share,
    );
  }
}

/**
 * Nearest rank: always a value that was measured, never one between two.
 * @param {readonly number[]} sorted
 * @param {number} share 0 to 1
 * @returns {number | null} null when there is nothing to measure
 */
export function quantile(sorted, share) {
  if (sorted.length === 0) return null;
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
}

/** @param {number} ms a delay, to the millisecond */
export function inMs(ms) {
  return `${Math.round(ms).toLocaleString("en")} ms`;
}

/** @param {number} ms a duration, as precise as one cares to know it */
export function inWords(ms) {
  if (Number.isNaN(ms)) return ""; // a time that could not be read
  if (ms < 1_000) return inMs(ms);
  if (ms < 120_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}
