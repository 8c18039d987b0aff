/**
 * What outlives a reload, and for how long.
 *
 * The tab (sessionStorage) keeps its client id and its cursors; the browser (localStorage) keeps the user, so that all
 * its tabs are one user and the limit of streams per user shows. A browser that refuses storage gets values that live as
 * long as the page.
 */
const WRITE_EVERY_MS = 250;

/**
 * @param {Storage | null} storage
 * @param {string} key
 * @param {string} value
 */
function keep(storage, key, value) {
  try {
    storage?.setItem(key, value);
  } catch {
    // Full or forbidden: the page works, only a reload starts anew.
  }
}

/** @param {"localStorage" | "sessionStorage"} name */
function storageOrNull(name) {
  try {
    return window[name]; // the getter itself throws when site data is blocked
  } catch {
    return null;
  }
}

/** Not crypto.randomUUID(): that is missing on plain http origins other than localhost. */
function freshName() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Storage | null} storage
 * @param {string} key
 * @param {() => string} make
 */
function recall(storage, key, make) {
  const known = storage?.getItem(key);
  if (known) return known;
  const made = make();
  keep(storage, key, made);
  return made;
}

export class Session {
  #tab = storageOrNull("sessionStorage");
  #browser = storageOrNull("localStorage");
  /** @type {Map<string, string>} cursors not yet written */
  #pending = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  client = recall(this.#tab, "tidemark.client", () => `tab-${freshName()}`);
  user = recall(this.#browser, "tidemark.user", () => `dev-${freshName()}`);

  /** A duplicated tab is a copy with the same name, and the two take the stream from each other. One gets a new name. */
  renameClient() {
    this.client = `tab-${freshName()}`;
    keep(this.#tab, "tidemark.client", this.client);
    return this.client;
  }

  /** @param {readonly string[]} topics */
  cursor(topics) {
    const key = cursorKey(topics);
    return this.#pending.get(key) ?? this.#tab?.getItem(key) ?? null;
  }

  /**
   * Written at most four times a second, for storage is synchronous and events may come by the hundred. What a crash
   * takes with it is the last quarter of a second: an older cursor brings doubles, never a hole.
   * @param {readonly string[]} topics
   * @param {string} cursor
   */
  keepCursor(topics, cursor) {
    this.#pending.set(cursorKey(topics), cursor);
    this.#timer ??= setTimeout(() => this.flush(), WRITE_EVERY_MS);
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [key, cursor] of this.#pending) keep(this.#tab, key, cursor);
    this.#pending.clear();
  }
}

/** @param {readonly string[]} topics */
function cursorKey(topics) {
  return `tidemark.cursor ${[...topics].sort().join(" ")}`; // a topic holds no blank
}
