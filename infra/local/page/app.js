/**
 * The page: what happens in the document. The stream is in connection.js; nothing here touches an EventSource.
 * Text from the server is only ever set as text, never as markup.
 */
import { Audit } from "./audit.js";
import { Connection } from "./connection.js";
import { Latencies, inMs, inWords } from "./latency.js";
import { NewestFirst } from "./list.js";
import { Plot } from "./plot.js";
import { Seen } from "./seen.js";
import { Session } from "./session.js";
import { soon } from "./soon.js";
import { fetchToken, sendMail } from "./stack.js";
import { describe, describeGoingOn } from "./words.js";

/** @typedef {import("./connection.js").Envelope} Envelope */

const SUGGESTIONS = ["ann@example.com", "ben@example.com", "cleo@example.com"];
/** What the topic grammar leaves for an address behind `gmail:`. */
const ADDRESS = /^[a-z0-9:._+\-/']+@[a-z0-9:._+\-/']+$/;
const ADDRESS_CHARACTERS = 320 - "gmail:".length;
const MAILBOXES_AT_MOST = 50;
const COLOURS = 6;
const ROWS = 200;
const FRAMES = 60;
const MEASURED = 100;
const COME_BACK_MS = 2_000;
const MANY = 20;
const FIRST_AUDIT_MS = 2_000;
const AUDIT_EVERY_MS = 20_000;
const ANNOUNCE_EVERY_MS = 5_000;

/** @template {HTMLElement} [T=HTMLElement] @param {string} id */
const find = (id) => /** @type {T} */ (document.getElementById(id));
/** @param {string} id @param {string | number} text */
const write = (id, text) => {
  const element = find(id);
  if (element.textContent !== String(text)) element.textContent = String(text);
};

const session = new Session();
const seen = new Seen();
const latencies = new Latencies(MEASURED);
const plot = new Plot(find("plot"), latencies);
const events = new NewestFirst(find("events"), ROWS, onRowsInserted);
const frames = new NewestFirst(find("frames"), FRAMES);
const counts = { events: 0, reconnects: 0, doubles: 0, gaps: 0, missed: 0 };

/** @type {string[]} mailboxes, in the order they were followed */
let followed = [];
/** @type {string[]} every mailbox met so far: its place is its colour */
const met = [];
/** @type {Connection | null} */
let connection = null;
/** @type {Audit | null} */
let audit = null;
/** @type {number | null} */
let auditedAt_ms = null;
let state = { state: "closed", reason: "idle", returnsAt_ms: /** @type {number | null} */ (null) };
/** The reason the stream was last away for; still known when it is back. */
let awayReason = "";
let rotatesAt_ms = 0;
/** @type {{row: HTMLElement, words: string, events: number} | null} the row that counts what was caught up */
let caughtUp = null;
let unheard = 0;
let unread = 0;

// ---- the stream

/** @param {string} mailbox */
const topicOf = (mailbox) => `gmail:${mailbox}`;
/** @param {string} topic */
const mailboxOf = (topic) => topic.replace(/^gmail:/, "");

/**
 * Follows what is in `followed` with a new stream. A set that changed under way goes on from the cursor it had: what
 * stays in the set must not lose anything, and one cursor resumes any set of topics.
 * @param {string | null} from
 * @param {boolean} resume whether a cursor kept from before a reload counts
 */
function followAll(from = null, resume = true) {
  const topics = followed.map(topicOf);
  const cursor = connection?.cursor ?? (resume ? session.cursor(topics) : null);
  connection?.close();
  connection = null;
  audit = null;
  auditedAt_ms = null;
  caughtUp = null;
  write("cursor", cursor ?? "–");
  if (topics.length === 0) {
    onState({ state: "closed", reason: "idle", returnsAt_ms: null });
    return;
  }
  const opened = new Connection({
    topics,
    client: session.client,
    getToken: () => fetchToken(topics, session.user, tokenTtl_s),
    cursor,
    from,
    seen,
  });
  /** @param {string} name @param {(detail: any) => void} handle */
  const on = (name, handle) =>
    opened.addEventListener(name, (event) => {
      if (opened === connection) handle(/** @type {CustomEvent} */ (event).detail);
    });
  on("state", onState);
  on("hello", onHello);
  on("event", onEvent);
  on("gap", onGap);
  on("double", () => count("doubles"));
  on("frame", onFrame);
  on("cursor", ({ cursor: reached }) => {
    session.keepCursor(topics, reached);
    showCursor();
  });
  connection = opened;
  opened.open();
}

/** @param {{state: string, reason: string, returnsAt_ms: number | null}} now */
function onState(now) {
  state = now;
  if (now.state !== "live" && now.reason !== "") awayReason = now.reason;
  const words = describe(now.state, now.reason, followed.length);
  const line = find("state");
  const text = words ? `${now.state} · ${words}` : now.state;
  if (line.textContent !== text) {
    const strong = document.createElement("strong");
    strong.textContent = now.state;
    const rest = document.createElement("span");
    rest.textContent = text.slice(now.state.length);
    line.replaceChildren(strong, rest);
  }
  const stopped = now.state === "closed";
  find("state-box").dataset.state = stopped && now.reason === "idle" ? "idle" : now.state;
  find("state-box").dataset.reason = now.reason;

  const drop = find("drop");
  const resume = find("resume");
  const hadFocus = document.activeElement;
  // One of the two at a time, in one place.
  resume.hidden = !(stopped && followed.length > 0) && now.returnsAt_ms === null;
  drop.hidden = !resume.hidden;
  /** @type {HTMLButtonElement} */ (drop).disabled = stopped;
  resume.textContent = !stopped || now.reason === "dropped" ? "Reconnect now" : "Go on";
  // A button that vanishes must not leave the keyboard nowhere.
  if (hadFocus === drop && drop.hidden) resume.focus();
  if (hadFocus === resume && resume.hidden) drop.focus();
  showNothing();
  showTime();
}

/** @param {{hello: import("./connection.js").Hello, again: boolean, away_ms: number}} detail */
function onHello({ hello, again, away_ms }) {
  rotatesAt_ms = Date.now() + hello.expires_in_s * 1000;
  write("fact-connection", hello.connection);
  write("fact-client", hello.client);
  write("fact-heartbeat", `every ${hello.heartbeat_s} s of silence`);
  if (again) {
    count("reconnects");
    const why = describe("reconnecting", awayReason, followed.length);
    const words = `Back after ${inWords(away_ms)}${why ? `: ${why}` : ""}`;
    caughtUp = { row: addNote("note", words), words, events: 0 };
  } else if (connection) {
    audit = new Audit(connection, seen, hello.cursor);
    const words = `Following ${followed.length === 1 ? followed[0] : `${followed.length} mailboxes`} from here`;
    caughtUp = { row: addNote("note", words), words, events: 0 };
  }
  setTimeout(checkLog, FIRST_AUDIT_MS);
}

/** @param {{envelope: Envelope, live: boolean}} detail */
function onEvent({ envelope, live }) {
  const delay_ms = Math.max(0, Date.now() - Date.parse(envelope.time));
  addEvent(envelope, live, delay_ms);
  count("events");
  if (live) {
    latencies.add(delay_ms);
    showLatencies();
  } else if (caughtUp) {
    caughtUp.events += 1;
    const plural = caughtUp.events === 1 ? "event" : "events";
    caughtUp.row.textContent = `${caughtUp.words} · ${caughtUp.events.toLocaleString("en")} ${plural} caught up`;
  }
  unheard += 1;
  if (document.hidden) showUnread(unread + 1);
}

/** @param {{topic: string, after: string, resume: string}} gap */
function onGap({ topic, after, resume }) {
  count("gaps");
  const row = addNote("gap", `Gap in ${mailboxOf(topic)}: events between ${after} and ${resume} may be lost`);
  row.dataset.topic = topic;
  row.dataset.after = after;
  row.dataset.resume = resume;
}

async function checkLog() {
  const checked = audit;
  if (checked === null || document.hidden) return;
  try {
    const missed = await checked.check();
    if (missed === null || checked !== audit) return;
    auditedAt_ms = Date.now();
    for (const envelope of missed) {
      count("missed");
      addNote(
        "gap",
        `Missed in ${mailboxOf(envelope.topic)}: ${envelope.position} is in the log and did not arrive`,
      );
    }
  } catch (error) {
    console.warn("tidemark: the log could not be compared", error);
  }
  showTime();
}

// ---- rows

/**
 * @param {Envelope} envelope
 * @param {boolean} live
 * @param {number} delay_ms
 */
function addEvent(envelope, live, delay_ms) {
  const row = cloneRow("event-row");
  const mailbox = envelope.data?.emailAddress ?? mailboxOf(envelope.topic);
  const historyId = envelope.data?.historyId ?? "";
  row.dataset.id = envelope.id;
  row.dataset.source = envelope.source;
  row.dataset.position = envelope.position;
  row.dataset.topic = envelope.topic;
  row.dataset.historyId = historyId;
  row.dataset.delayMs = String(delay_ms);
  /** @param {string} selector */
  const part = (selector) => /** @type {HTMLElement} */ (row.querySelector(selector));
  part(".dot").classList.add(colourOf(mailboxOf(envelope.topic)));
  part(".who").textContent = mailbox;
  part(".who").title = mailbox;
  part(".history").textContent = historyId;
  part(".position").textContent = envelope.position;
  part(".delay").textContent = live
    ? inMs(delay_ms)
    : ["caught up", inWords(delay_ms)].filter(Boolean).join(" · ");
  part(".delay").classList.toggle("late", !live);
  const time = /** @type {HTMLTimeElement} */ (part("time"));
  time.dateTime = envelope.time;
  time.textContent = clockTime(new Date(envelope.time));
  events.add(row);
}

/**
 * @param {"note" | "gap"} kind
 * @param {string} words
 */
function addNote(kind, words) {
  const row = document.createElement("li");
  row.className = kind;
  row.textContent = words;
  events.add(row);
  return row;
}

/** @param {{at_ms: number, name: string, id: string, data: string}} frame */
function onFrame({ at_ms, name, id, data }) {
  const row = cloneRow("frame-row");
  const lines = [
    id && `id: ${id}`,
    name !== "message" && `event: ${name}`,
    ...data.split("\n").map((line) => `data: ${line}`),
  ];
  row.dataset.name = name;
  row.dataset.at = clockTime(new Date(at_ms));
  /** @type {HTMLElement} */ (row.firstElementChild).textContent = lines.filter(Boolean).join("\n");
  frames.add(row);
}

function onRowsInserted() {
  showNothing();
  find("bound").hidden = counts.events <= ROWS;
  write("bound", `The latest ${ROWS} rows are kept here.`);
}

/** @param {string} template */
function cloneRow(template) {
  const { content } = /** @type {HTMLTemplateElement} */ (find(template));
  return /** @type {HTMLElement} */ (content.firstElementChild?.cloneNode(true));
}

/** @param {number} left_ms */
function countdown(left_ms) {
  const left_s = Math.max(0, Math.round(left_ms / 1000));
  return `${Math.floor(left_s / 60)}:${String(left_s % 60).padStart(2, "0")}`;
}

/** @param {Date} date */
function clockTime(date) {
  if (Number.isNaN(date.getTime())) return "";
  const [hours, minutes, seconds] = [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) =>
    String(n).padStart(2, "0"),
  );
  return `${hours}:${minutes}:${seconds}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {string} mailbox */
function colourOf(mailbox) {
  if (!met.includes(mailbox)) met.push(mailbox);
  return `hue-${met.indexOf(mailbox) % COLOURS}`;
}

// ---- figures

/** @param {keyof typeof counts} what */
function count(what) {
  counts[what] += 1;
  showCounts();
}

const showCounts = soon(() => {
  const ids = /** @type {const} */ ({
    events: "count",
    reconnects: "reconnects",
    doubles: "doubles",
    gaps: "gaps",
    missed: "missed",
  });
  for (const [what, id] of Object.entries(ids)) {
    const value = counts[/** @type {keyof typeof counts} */ (what)];
    write(id, value);
    find(id).dataset.raised = String(value > 0);
  }
});

const showCursor = soon(() => write("cursor", connection?.cursor ?? "–"));

const showLatencies = soon(() => {
  const [p50, p95] = [latencies.quantile_ms(0.5), latencies.quantile_ms(0.95)].map((value) =>
    Math.round(value ?? 0),
  );
  const last = Math.round(latencies.values_ms.at(-1) ?? 0);
  write("p50", p50);
  write("p95", p95);
  write("last", last);
  find("plot").setAttribute(
    "aria-label",
    `Delays of the last ${latencies.values_ms.length} live events: half within ${p50} ms, 95 of 100 within ${p95} ms`,
  );
  plot.push();
});

function showNothing() {
  const list = find("events");
  find("nothing").hidden = list.childElementCount > 0;
  write(
    "nothing-words",
    followed.length === 0
      ? "Low tide. Follow a mailbox, then send it a mail."
      : "Low tide. Nothing has come yet.",
  );
}

/** What changes with the clock alone. Not announced: a countdown read aloud is a nuisance. */
function showTime() {
  const now_ms = Date.now();
  const open = connection !== null && (state.state === "live" || state.state === "silent");
  const level = open && connection ? Math.min(1, connection.quiet_ms / connection.patience_ms) : 0;
  find("gauge-level").style.clipPath = `inset(0 ${((1 - level) * 100).toFixed(1)}% 0 0)`;
  let words = "\u00a0";
  if (open && connection) {
    const quiet_s = Math.floor(connection.quiet_ms / 1000);
    const patience_s = Math.round(connection.patience_ms / 1000);
    words = `Last heard ${quiet_s === 0 ? "just now" : `${quiet_s} s ago`}; after ${patience_s} s of silence it is opened anew.`;
  } else if (state.returnsAt_ms !== null) {
    words = `Next attempt in ${Math.max(0, Math.ceil((state.returnsAt_ms - now_ms) / 1000))} s${connection?.cursor ? ", from the cursor" : ""}.`;
  } else if (state.state === "closed" && followed.length > 0) {
    words = describeGoingOn(state.reason);
  }
  write("gauge-words", words);

  write("fact-rotates", open ? countdown(rotatesAt_ms - now_ms) : "–");
  const renewsIn_ms = open && connection ? connection.renewsIn_ms : null;
  write("fact-renews", renewsIn_ms === null ? "–" : countdown(renewsIn_ms));
  if (!open) write("fact-connection", "–");
  write(
    "audit",
    auditedAt_ms === null
      ? "\u00a0"
      : `Compared with the log itself ${Math.max(0, Math.round((now_ms - auditedAt_ms) / 1000))} s ago.`,
  );
}

/** @param {number} count_ */
function showUnread(count_) {
  unread = count_;
  document.title = unread > 0 ? `(${unread}) Tidemark` : "Tidemark";
}

// ---- choosing mailboxes

/** @param {string} text one address, or several with commas or blanks between */
function parseMailboxes(text) {
  return text
    .toLowerCase()
    .split(/[\s,;]+/)
    .filter(Boolean);
}

/**
 * @param {string[]} mailboxes
 * @returns {string} what is wrong with them; empty when they can be followed
 */
function complainAbout(mailboxes) {
  if (mailboxes.length === 0) return "Which mailbox? For example ann@example.com.";
  const bad = mailboxes.find((mailbox) => !ADDRESS.test(mailbox) || mailbox.length > ADDRESS_CHARACTERS);
  if (bad !== undefined) return `${bad} is not a mailbox address that can be followed.`;
  if (new Set([...followed, ...mailboxes]).size > MAILBOXES_AT_MOST)
    return `One stream follows ${MAILBOXES_AT_MOST} mailboxes at most.`;
  return "";
}

/** @param {string[]} mailboxes */
function follow(mailboxes) {
  const added = mailboxes.filter(
    (mailbox, index) => !followed.includes(mailbox) && mailboxes.indexOf(mailbox) === index,
  );
  if (added.length === 0) return;
  followed = [...followed, ...added];
  onFollowedChanged();
  /** @type {HTMLSelectElement} */ (find("recipient")).value = added[0];
  showCommand();
}

/** @param {string} mailbox */
function unfollow(mailbox) {
  followed = followed.filter((other) => other !== mailbox);
  onFollowedChanged();
}

function onFollowedChanged() {
  // So that a reload, a bookmark and a second tab follow the same. `from` was for the first connection.
  const url = new URL(location.href);
  url.searchParams.delete("from");
  url.searchParams.delete("mailbox");
  for (const mailbox of followed) url.searchParams.append("mailbox", mailbox);
  history.replaceState(null, "", url);
  showFollowed();
  followAll();
}

function showFollowed() {
  find("followed").replaceChildren(
    ...followed.map((mailbox) => {
      const chip = document.createElement("li");
      chip.className = "chip";
      chip.dataset.mailbox = mailbox;
      const dot = document.createElement("span");
      dot.className = `dot ${colourOf(mailbox)}`;
      const name = document.createElement("span");
      name.className = "name";
      name.textContent = mailbox;
      name.title = mailbox;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", `Stop following ${mailbox}`);
      remove.addEventListener("click", () => {
        unfollow(mailbox);
        find("mailbox").focus();
      });
      chip.append(dot, name, remove);
      return chip;
    }),
  );
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (
    find("suggestions").querySelectorAll("button")
  )) {
    button.hidden = followed.includes(button.dataset.mailbox ?? "");
  }
  find("suggestions").hidden = SUGGESTIONS.every((mailbox) => followed.includes(mailbox));

  const recipient = /** @type {HTMLSelectElement} */ (find("recipient"));
  const chosen = recipient.value;
  recipient.replaceChildren(...followed.map((mailbox) => new Option(`to ${mailbox}`, mailbox)));
  if (followed.includes(chosen)) recipient.value = chosen;
  for (const id of ["recipient", "send", "send-many"]) {
    /** @type {HTMLButtonElement} */ (find(id)).disabled = followed.length === 0;
  }
  const tab = new URL("/", location.href);
  for (const mailbox of followed) tab.searchParams.append("mailbox", mailbox);
  /** @type {HTMLAnchorElement} */ (find("another-tab")).href = tab.href;
  showCommand();
}

function showCommand() {
  const mailbox = /** @type {HTMLSelectElement} */ (find("recipient")).value || SUGGESTIONS[0];
  write("command", `tidemark push ${mailbox} --count 5`);
}

for (const mailbox of SUGGESTIONS) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip suggestion";
  button.dataset.mailbox = mailbox;
  button.textContent = mailbox;
  button.setAttribute("aria-label", `Follow ${mailbox}`);
  button.addEventListener("click", () => {
    const hadFocus = document.activeElement === button;
    follow([mailbox]);
    if (hadFocus) find("send").focus();
  });
  find("suggestions").append(button);
}

find("follow-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = /** @type {HTMLInputElement} */ (find("mailbox"));
  const mailboxes = parseMailboxes(input.value);
  const complaint = complainAbout(mailboxes);
  write("mailbox-error", complaint);
  input.toggleAttribute("aria-invalid", complaint !== "");
  if (complaint !== "") {
    input.focus();
    return;
  }
  follow(mailboxes);
  input.value = "";
});

// ---- doing things to it

/** @param {number} times */
async function send(times) {
  const mailbox = /** @type {HTMLSelectElement} */ (find("recipient")).value;
  const words = find("sent");
  try {
    for (let sent = 1; sent <= times; sent += 1) {
      const { status, id } = await sendMail(mailbox);
      words.textContent = `${times > 1 ? `${sent} of ${times} ` : ""}${status}${id ? ` at ${id}` : ""}`;
    }
    words.classList.remove("bad");
  } catch (error) {
    words.textContent = `Not sent: ${error instanceof Error ? error.message : error}`;
    words.classList.add("bad");
  }
}

find("recipient").addEventListener("change", showCommand);
find("send").addEventListener("click", () => send(1));
find("send-many").addEventListener("click", () => send(MANY));

find("drop").addEventListener("click", () => {
  if (/** @type {HTMLInputElement} */ (find("come-back")).checked) connection?.drop(COME_BACK_MS);
  else connection?.close("dropped");
});

find("resume").addEventListener("click", () => {
  if (connection === null) return;
  if (state.reason === "superseded") connection.client = session.renameClient();
  write("fact-client", session.client);
  connection.open();
});

/** @param {boolean} raw */
function showView(raw) {
  find("events-view").hidden = raw;
  find("frames-view").hidden = !raw;
  find("show-events").setAttribute("aria-pressed", String(!raw));
  find("show-frames").setAttribute("aria-pressed", String(raw));
}
find("show-events").addEventListener("click", () => showView(false));
find("show-frames").addEventListener("click", () => showView(true));

// ---- the life of the page

addEventListener("online", () => connection?.wake());
addEventListener("pagehide", () => session.flush());
addEventListener("pageshow", (event) => {
  // Back from the back/forward cache: the browser cut the stream when it froze the page.
  if (event.persisted && state.state !== "closed") connection?.open();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    session.flush(); // on a phone this may be the last we hear
    return;
  }
  showUnread(0);
  connection?.wake();
});

setInterval(showTime, 500);
setInterval(checkLog, AUDIT_EVERY_MS);
setInterval(() => {
  // For those who listen to the page: one sentence now and then, not one per event.
  if (unheard > 0)
    write("news", `${unheard} new ${unheard === 1 ? "event" : "events"}, ${counts.events} in all`);
  unheard = 0;
}, ANNOUNCE_EVERY_MS);

write("fact-client", session.client);
write("fact-user", session.user);
write("measured", MEASURED);

const asked = new URLSearchParams(location.search);
/** `?token_ttl=60` lets one watch how a token is renewed, which else happens once in an hour. */
const tokenTtl_s = asked.has("token_ttl") ? Number(asked.get("token_ttl")) : undefined;
const wanted = [...new Set(asked.getAll("mailbox").flatMap(parseMailboxes))];
const complaint = wanted.length > 0 ? complainAbout(wanted) : "";
write("mailbox-error", complaint);
if (complaint === "") followed = wanted;
showFollowed();
// A link that says where to begin means it; a reload of the same page means "go on".
const [navigation] = /** @type {PerformanceNavigationTiming[]} */ (
  performance.getEntriesByType("navigation")
);
const from = asked.get("from");
followAll(from, from === null || navigation?.type !== "navigate");
