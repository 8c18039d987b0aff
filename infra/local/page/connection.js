/**
 * One Tidemark stream, kept alive: what a browser client needs on top of the native EventSource, and nothing else.
 * No DOM and no storage, so it can be copied into an application as it is (with seen.js).
 *
 * What EventSource does by itself, and we let it: parse frames, reconnect when the body ends or the network breaks,
 * keep to the server's `retry:`, send the `Last-Event-ID` header when it reconnects.
 *
 * What it does not do, and this file does:
 *   1. Any status but 200 ends it for good (HTML standard 9.2.3). We make a new one, after a growing pause.
 *   2. A *new* EventSource sends no `Last-Event-ID`. The cursor goes into the query as `last_event_id`.
 *   3. A connection can die without anyone closing it; then there is neither data nor an error. The server promises
 *      a heartbeat, so hearing nothing for three of them means: dead.
 *   4. It cannot send headers. The token is in the query, and so a new token needs a new EventSource. We fetch one and
 *      change over before the old one expires; a machine that sleeps through that changes over when it is told no.
 *   5. After a reconnect an event may come again. Envelopes already seen are dropped here.
 *   6. `tidemark.bye` can ask us not to come back. EventSource knows no such word, so we close it.
 *
 * Events dispatched (all CustomEvent, payload in `detail`):
 *   state   {state, reason, returnsAt_ms}  something changed; `state` is one of STATES
 *   hello   {hello, again, away_ms}        the stream is open; `again` when it was open before
 *   event   {envelope, live}               each envelope once; `live` is false for what happened while we were away
 *   double  {envelope}                     an envelope that came a second time and was dropped
 *   gap     {topic, after, resume}         events between the two may be lost: resynchronise, then go on
 *   cursor  {cursor}                       everything up to here was handled: the place to resume from
 *   frame   {at_ms, name, id, data}        every frame as it came, for the curious
 */
import { Seen } from "./seen.js";

export const STATES = /** @type {const} */ (["connecting", "live", "silent", "reconnecting", "closed"]);

const TICK_MS = 500;
/** Heartbeats without a sign of life: from here we say `silent`, … */
const SILENT_AFTER_HEARTBEATS = 2;
/** … and from here we no longer believe in the connection (the contract's number). */
const DEAD_AFTER_HEARTBEATS = 3;
/** An attempt that brings neither a frame nor an error for so long is stuck: above any `retry:` the server sends. */
const STUCK_AFTER_MS = 30_000;
/** So many refusals in a row, each with a token fetched just before, are an answer and not an accident. */
const REFUSALS_BEFORE_STOP = 6;
/** After a renewal that failed; the old token is still good for a while. */
const RENEW_AGAIN_AFTER_MS = 5_000;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_LAST_MS = 30_000;

/**
 * @typedef {{specversion: string, id: string, source: string, type: string, subject: string, time: string,
 *   topic: string, position: string, data: {emailAddress: string, historyId: string}}} Envelope
 * @typedef {{connection: string, client: string, topics: string[], cursor: string, expires_in_s: number,
 *   heartbeat_s: number}} Hello
 * @typedef {{token: string, expires_in_s: number}} Grant
 * @typedef {typeof STATES[number]} State
 */

/**
 * What silence means.
 * @param {number} quiet_ms since the last frame
 * @param {number} heartbeat_s as told by `tidemark.hello`
 * @returns {"fine" | "silent" | "dead"}
 */
export function judgeSilence(quiet_ms, heartbeat_s) {
  const missedHeartbeats = quiet_ms / (heartbeat_s * 1000);
  if (missedHeartbeats >= DEAD_AFTER_HEARTBEATS) return "dead";
  return missedHeartbeats >= SILENT_AFTER_HEARTBEATS ? "silent" : "fine";
}

/**
 * How long to wait before the next attempt. Half of it is random, so that a thousand tabs that lost the same server
 * do not return in the same millisecond.
 * @param {number} failures attempts in a row that failed, 1 at first
 * @param {number} random 0 to 1
 */
export function backoff_ms(failures, random) {
  const ceiling_ms = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** (failures - 1));
  return ceiling_ms * (0.5 + random / 2);
}

/**
 * When to fetch the next token: a tenth of its life early, and half a minute at least if it lives long enough.
 * @param {number} expires_in_s
 */
export function renewAfter_ms(expires_in_s) {
  const early_s = Math.max(expires_in_s / 10, Math.min(30, expires_in_s / 2));
  return (expires_in_s - early_s) * 1000;
}

/**
 * A moment, by two clocks: the wall clock may be set back, and the steady one may stand still while a machine sleeps.
 * @typedef {{wall_ms: number, steady_ms: number}} Moment
 */

/** @returns {Moment} */
function now() {
  return { wall_ms: Date.now(), steady_ms: performance.now() };
}

/**
 * How long ago a moment was, by the clock that says more: a token is never taken for younger than it is.
 * @param {Moment} moment
 */
function since_ms(moment) {
  return Math.max(Date.now() - moment.wall_ms, performance.now() - moment.steady_ms);
}

/**
 * The address of a stream. With a cursor `from` says nothing (the cursor wins on the server as well), so it is left out.
 * @param {string} endpoint
 * @param {{topics: readonly string[], token: string, client: string, cursor: string | null, from: string | null}} ask
 */
export function streamUrl(endpoint, { topics, token, client, cursor, from }) {
  const query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
  query.set("token", token);
  query.set("client", client);
  if (cursor) query.set("last_event_id", cursor);
  else if (from) query.set("from", from);
  return `${endpoint}?${query}`;
}

export class Connection extends EventTarget {
  #endpoint;
  #topics;
  #client;
  #getToken;
  #from;
  #seen;

  /** @type {EventSource | null} */
  #source = null;
  /** @type {State} */
  #state = "closed";
  #reason = "";
  /** @type {number | null} when a pause that we chose is over */
  #returnsAt_ms = null;
  /** @type {number | null} what listeners know of it */
  #toldReturnsAt_ms = null;
  /** @type {string | null} */
  #cursor;

  /** @type {{token: string, asked: Moment, renewAfter_ms: number, life_ms: number} | null} */
  #grant = null;
  /** What the open stream was asked for with: others who call `token()` may have moved `#grant` on. */
  #granted = this.#grant;
  #exchanging = false;

  /** Raised whenever what went before no longer counts: an answer that belongs to an older epoch is ignored. */
  #epoch = 0;
  #helloes = 0;
  #failures = 0;
  #refusals = 0;
  #heartbeat_s = 15;
  #heard = now();
  #lostAt_ms = 0;
  /** Events published before this moment are catching up, whatever their delay says about the path. */
  #openedAt_ms = 0;
  /** Whether the last stream ended because its token had run out, and nothing was heard from a new one since. */
  #expired = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pause;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #watch;

  /**
   * @param {object} options
   * @param {readonly string[]} options.topics
   * @param {string} options.client names this tab or device: a new stream takes over the old one of the same name
   * @param {() => Promise<Grant>} options.getToken fetches a token from your application; called again before it expires
   * @param {string | null} [options.cursor] where a former connection stopped
   * @param {string | null} [options.from] without a cursor: `now`, `earliest` or `acked`
   * @param {Seen} [options.seen] share one between connections, so that a double across them is a double, too
   * @param {string} [options.endpoint]
   */
  constructor({
    topics,
    client,
    getToken,
    cursor = null,
    from = null,
    seen = new Seen(),
    endpoint = "/events",
  }) {
    super();
    this.#topics = topics;
    this.#client = client;
    this.#getToken = getToken;
    this.#cursor = cursor;
    this.#from = from;
    this.#seen = seen;
    this.#endpoint = endpoint;
  }

  get topics() {
    return this.#topics;
  }
  get client() {
    return this.#client;
  }
  /** A new name counts from the next attempt on: after `superseded`, for one that wants to live beside its successor. */
  set client(name) {
    this.#client = name;
  }
  get state() {
    return this.#state;
  }
  get cursor() {
    return this.#cursor;
  }
  /** Time since the last frame, and how much of it is tolerated. Both only mean something while a stream is open. */
  get quiet_ms() {
    return since_ms(this.#heard);
  }
  get patience_ms() {
    return this.#heartbeat_s * DEAD_AFTER_HEARTBEATS * 1000;
  }

  /** Time until a new token is fetched and the stream changes over to it; null while there is no token. */
  get renewsIn_ms() {
    const granted = this.#granted;
    return granted && Math.max(0, granted.renewAfter_ms - since_ms(granted.asked));
  }

  /** Starts, or goes on after a stop or in the middle of a pause. */
  open() {
    this.#failures = 0;
    this.#refusals = 0;
    this.#expired = false;
    this.#connect("");
  }

  /** Ends it. Nothing happens any more until `open()`. */
  close(reason = "") {
    this.#stop(reason);
  }

  /**
   * Cuts the connection as a broken network would, for a while.
   * @param {number} pause_ms
   */
  drop(pause_ms) {
    this.#disconnect();
    this.#pauseFor(pause_ms, "dropped");
  }

  /** The machine woke up, or the network is back: look now instead of at the next tick, and do not sit out a pause. */
  wake() {
    if (this.#state === "closed") return;
    if (this.#returnsAt_ms !== null && this.#reason !== "dropped") this.#connect(this.#reason);
    else this.#check();
  }

  /** A token that is good now, also for the other endpoints. Rejects when none is to be had. */
  async token() {
    const held = this.#grant;
    if (held !== null && since_ms(held.asked) < held.renewAfter_ms) return held.token;
    try {
      return await this.#renew();
    } catch (error) {
      if (held !== null && since_ms(held.asked) < held.life_ms) return held.token;
      throw error;
    }
  }

  // ---- the life cycle

  /** @param {string} reason why there is no connection, for whoever looks meanwhile */
  async #connect(reason) {
    this.#disconnect();
    this.#watch ??= setInterval(() => this.#check(), TICK_MS);
    const epoch = this.#epoch;
    this.#enter(this.#helloes > 0 ? "reconnecting" : "connecting", reason);
    let token;
    try {
      token = await this.token();
    } catch (error) {
      if (epoch === this.#epoch) this.#retry("token", error);
      return;
    }
    if (epoch !== this.#epoch) return; // closed, dropped or reopened while the token was on its way

    this.#heard = now();
    this.#granted = this.#grant;
    const source = new EventSource(
      streamUrl(this.#endpoint, {
        topics: this.#topics,
        token,
        client: this.#client,
        cursor: this.#cursor,
        from: this.#from,
      }),
    );
    this.#source = source;
    this.#listen(source, "tidemark.hello", (frame) => this.#onHello(JSON.parse(frame.data)));
    this.#listen(source, "tidemark.hb", () => (this.#expired = false));
    this.#listen(source, "tidemark.gap", (frame) => this.#tell("gap", JSON.parse(frame.data)));
    this.#listen(source, "tidemark.bye", (frame) => this.#onBye(JSON.parse(frame.data)));
    this.#listen(source, "message", (frame) => this.#onEnvelope(JSON.parse(frame.data)));
    source.addEventListener("error", () => {
      if (source === this.#source) this.#onError(source);
    });
  }

  /**
   * @param {EventSource} source
   * @param {string} name
   * @param {(frame: MessageEvent<string>) => void} handle
   */
  #listen(source, name, handle) {
    source.addEventListener(name, (/** @type {MessageEvent<string>} */ frame) => {
      if (source !== this.#source) return; // a frame that was under way when we closed its EventSource
      this.#heard = now();
      if (this.#state === "silent") this.#enter("live", "");
      this.#tell("frame", { at_ms: this.#heard.wall_ms, name, id: frame.lastEventId, data: frame.data });
      try {
        handle(frame);
      } catch (error) {
        console.error(`tidemark: a frame of type ${name} could not be read`, error); // the next one may be fine
      }
      // Last, and never earlier: a cursor says "handled". Were it first, a crash in between would lose the event.
      // Frames without an id keep the former one in lastEventId.
      if (frame.lastEventId && frame.lastEventId !== this.#cursor) {
        this.#cursor = frame.lastEventId;
        this.#tell("cursor", { cursor: this.#cursor });
      }
    });
  }

  /** @param {Hello} hello */
  #onHello(hello) {
    const now_ms = Date.now();
    const again = this.#helloes > 0;
    this.#helloes += 1;
    this.#failures = 0;
    this.#refusals = 0;
    this.#heartbeat_s = hello.heartbeat_s;
    this.#openedAt_ms = now_ms;
    this.#enter("live", "");
    this.#tell("hello", { hello, again, away_ms: again ? now_ms - this.#lostAt_ms : 0 });
  }

  /** @param {Envelope} envelope */
  #onEnvelope(envelope) {
    this.#expired = false;
    if (!this.#seen.add(envelope)) {
      this.#tell("double", { envelope });
      return;
    }
    this.#tell("event", { envelope, live: Date.parse(envelope.time) >= this.#openedAt_ms });
  }

  /** @param {{reason: string, reconnect: boolean}} bye */
  #onBye({ reason, reconnect }) {
    if (reconnect) {
      // The body ends now and EventSource comes back by itself, after the `retry:` that the server chose for this case.
      this.#enter("reconnecting", reason);
    } else if (reason === "token_expired" && !(this.#expired && this.#isYoung())) {
      // The server means "not with this token". Having slept through the renewal, we still can get a new one.
      // Only if two in a row ran out before their time is something else wrong, a clock perhaps.
      this.#expired = true;
      this.#grant = null;
      this.#connect(reason);
    } else {
      this.#stop(reason);
    }
  }

  /** Whether the open stream's token should have had half of its life before it. */
  #isYoung() {
    return this.#granted !== null && since_ms(this.#granted.asked) < this.#granted.life_ms / 2;
  }

  /** @param {EventSource} source */
  #onError(source) {
    this.#heard = now(); // an error is a sign of life of the attempt: it is not stuck
    if (source.readyState !== EventSource.CLOSED) {
      // EventSource is going to reconnect by itself. If a bye came just before, its reason is the better one.
      if (this.#state !== "reconnecting")
        this.#enter(this.#helloes > 0 ? "reconnecting" : "connecting", "lost");
      return;
    }
    // Closed for good: a status that was not 200. Which one, EventSource does not tell. A token gone bad is the likely
    // cause, so the next attempt takes a new one; and if even that one is refused again and again, it is meant.
    this.#grant = null;
    this.#refusals += 1;
    if (this.#refusals >= REFUSALS_BEFORE_STOP) this.#stop("refused");
    else this.#retry("refused");
  }

  /** Runs on every tick. Clocks are compared instead of one timer set, because timers do not run while a machine sleeps. */
  #check() {
    if (this.#source === null) return;
    if (this.#state === "live" || this.#state === "silent") {
      const verdict = judgeSilence(this.quiet_ms, this.#heartbeat_s);
      if (verdict === "dead") this.#connect("silence");
      else if (verdict === "silent") this.#enter("silent", "");
      else if (this.renewsIn_ms === 0) this.#exchange();
    } else if (this.quiet_ms >= STUCK_AFTER_MS) {
      this.#connect("stuck");
    }
  }

  /** Takes a new token while the old one still works, and only then changes over: the pause is one round trip. */
  async #exchange() {
    if (this.#exchanging) return;
    this.#exchanging = true;
    const epoch = this.#epoch;
    await this.token().catch(() => null);
    this.#exchanging = false;
    // Without a new one it is tried again at the time #renew has set; until then the old one does.
    if (epoch === this.#epoch && this.#grant !== this.#granted) this.#connect("renewal");
  }

  async #renew() {
    const asked = now(); // from here, not from the answer: better a little early than late
    try {
      const { token, expires_in_s } = await this.#getToken();
      this.#grant = { token, asked, renewAfter_ms: renewAfter_ms(expires_in_s), life_ms: expires_in_s * 1000 };
      return token;
    } catch (error) {
      if (this.#grant !== null) this.#grant.renewAfter_ms = since_ms(this.#grant.asked) + RENEW_AGAIN_AFTER_MS;
      throw error;
    }
  }

  /**
   * @param {string} reason
   * @param {unknown} [error]
   */
  #retry(reason, error) {
    if (error !== undefined) console.warn("tidemark:", error);
    this.#disconnect();
    this.#failures += 1;
    this.#pauseFor(backoff_ms(this.#failures, Math.random()), reason);
  }

  /**
   * @param {number} pause_ms
   * @param {string} reason
   */
  #pauseFor(pause_ms, reason) {
    this.#returnsAt_ms = Date.now() + pause_ms;
    this.#pause = setTimeout(() => this.#connect(reason), pause_ms);
    this.#enter(this.#helloes > 0 ? "reconnecting" : "connecting", reason);
  }

  /** @param {string} reason */
  #stop(reason) {
    this.#disconnect();
    clearInterval(this.#watch);
    this.#watch = undefined;
    this.#enter("closed", reason);
  }

  #disconnect() {
    this.#epoch += 1;
    clearTimeout(this.#pause);
    this.#returnsAt_ms = null;
    this.#source?.close();
    this.#source = null;
  }

  // ---- telling

  /**
   * @param {State} state
   * @param {string} reason
   */
  #enter(state, reason) {
    const wasOpen = this.#state === "live" || this.#state === "silent";
    const isOpen = state === "live" || state === "silent";
    // A silent connection was lost when it was last heard, not when we gave up on it.
    if (wasOpen && !isOpen) this.#lostAt_ms = reason === "silence" ? this.#heard.wall_ms : Date.now();
    const told = [this.#state, this.#reason, this.#toldReturnsAt_ms];
    if (state === told[0] && reason === told[1] && this.#returnsAt_ms === told[2]) return;
    this.#state = state;
    this.#reason = reason;
    this.#toldReturnsAt_ms = this.#returnsAt_ms;
    this.#tell("state", { state, reason, returnsAt_ms: this.#returnsAt_ms });
  }

  /**
   * @param {string} name
   * @param {object} detail
   */
  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
