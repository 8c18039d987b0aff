/** What a state and its reason mean, for people. */

/** @type {Record<string, string>} why a stream is not open now but will be */
const WHY_AWAY = {
  dropped: "you dropped it",
  lost: "the connection was lost",
  silence: "three heartbeats were missing",
  stuck: "no answer",
  refused: "the server refused the stream",
  token: "no token to be had",
  renewal: "with a new token",
  token_expired: "the token had expired",
  rotate: "the server ends long streams",
  shutdown: "the server shuts down",
  slow_consumer: "this tab read too slowly",
  unavailable: "the log cannot be reached",
  superseded: "another tab had taken over",
  evicted: "newer streams of this user had taken its place",
};

/** @type {Record<string, string>} why it ended. The first word is the server's, so that it can be looked up. */
const WHY_CLOSED = {
  idle: "no mailbox followed yet",
  dropped: "you dropped it",
  refused: "refused: the server said no several times",
  superseded: "superseded: another tab with the same name took over, a copy of this one perhaps",
  evicted: "evicted: this user opened more streams than allowed at once, and this was the oldest",
  token_expired: "token_expired: the token ran out",
  revoked: "revoked: tokens of this user issued until now are void",
};

/** @type {Record<string, string>} what going on means, where it takes something from another tab or gives it a name */
const GOING_ON = {
  superseded: "Go on gives this tab a name of its own, so that the other one keeps its stream.",
  evicted: "Close a tab that you no longer need. If you do not, Go on ends the stream that is the oldest then.",
};

/**
 * The words below a stream that ended: it does not come back by itself, but a person can have it go on.
 * @param {string} reason
 */
export function describeGoingOn(reason) {
  const rest = "It goes on from the cursor, with all that the log still holds.";
  return GOING_ON[reason] ? `${GOING_ON[reason]} ${rest}` : rest;
}

/**
 * The words behind the state.
 * @param {string} state
 * @param {string} reason
 * @param {number} mailboxes how many are followed
 */
export function describe(state, reason, mailboxes) {
  if (state === "closed") return WHY_CLOSED[reason] ?? reason;
  if (state === "live") return mailboxes === 1 ? "following one mailbox" : `following ${mailboxes} mailboxes`;
  if (state === "silent") return "two heartbeats are missing";
  return WHY_AWAY[reason] ?? reason;
}
