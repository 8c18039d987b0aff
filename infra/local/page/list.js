/** A bounded list with the newest first: rows are gathered and put in together, the oldest fall off the end. */
import { soon } from "./soon.js";

/** More rows than this in one go come without animation: many small motions are noise. */
const CALM = 6;

export class NewestFirst {
  #list;
  #limit;
  /** @type {Element[]} oldest first */
  #waiting = [];
  #update = soon(() => this.#insert());
  #onInsert;

  /**
   * @param {Element} list
   * @param {number} limit
   * @param {() => void} [onInsert]
   */
  constructor(list, limit, onInsert = () => {}) {
    this.#list = list;
    this.#limit = limit;
    this.#onInsert = onInsert;
  }

  /** @param {Element} row */
  add(row) {
    this.#waiting.push(row);
    if (this.#waiting.length > this.#limit) this.#waiting.shift();
    this.#update();
  }

  #insert() {
    const rows = this.#waiting.reverse();
    this.#waiting = [];
    if (rows.length <= CALM) for (const row of rows) row.classList.add("fresh");
    this.#list.prepend(...rows);
    while (this.#list.childElementCount > this.#limit) this.#list.lastElementChild?.remove();
    this.#onInsert();
  }
}
