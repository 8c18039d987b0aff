/**
 * The local stack over plain HTTP: what the page asks for besides the stream.
 * `/dev/…` exists in `tidemark dev` only; an application has its own login instead of `/dev/token`.
 */

/** The server said no. The message is for people: what a problem document (RFC 9457) says, or else the status. */
export class RefusedError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.name = "RefusedError";
    this.status = status;
  }
}

/** A request that hangs is worse than one that fails: nobody tries again. */
const PATIENCE_MS = 10_000;

/**
 * @param {string} path
 * @param {RequestInit} init
 * @returns {Promise<any>}
 */
async function askJson(path, init) {
  const response = await fetch(path, {
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE_MS),
    ...init,
  });
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  const problem = body ?? {};
  throw new RefusedError(
    problem.detail ?? problem.title ?? `${path} answered ${response.status}`,
    response.status,
  );
}

/**
 * @param {string} path
 * @param {object} body
 */
function postJson(path, body) {
  return askJson(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/**
 * @param {readonly string[]} topics
 * @param {string} user
 * @param {number} [ttl_s] an hour without it
 * @returns {Promise<{token: string, expires_in_s: number}>}
 */
export function fetchToken(topics, user, ttl_s) {
  return postJson("/dev/token", { topics, user, ttl_s });
}

/**
 * Has the stack push a Gmail notification to itself, as Google would.
 * @param {string} mailbox
 * @returns {Promise<{status: string, id?: string, message_id: string, history_id: string}>}
 */
export function sendMail(mailbox) {
  return postJson("/dev/mail", { mailbox });
}

/**
 * One page of the log.
 * @param {{topics: readonly string[], after: string, token: string, limit: number}} ask
 * @returns {Promise<{events: import("./connection.js").Envelope[], cursor: string, more: boolean}>}
 */
export function fetchLog({ topics, after, token, limit }) {
  const query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
  query.set("after", after);
  query.set("limit", String(limit));
  return askJson(`/replay?${query}`, { headers: { Authorization: `Bearer ${token}` } });
}
