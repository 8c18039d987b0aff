-- Queues and their messages. Times are in milliseconds since 1970 (_ms) or in seconds (_s). Nothing here, or in the
-- statements beside it, needs a newer SQLite than 3.32 (STRICT and RETURNING would): Python brings whatever it finds.

CREATE TABLE IF NOT EXISTS queues (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, so an old receipt handle fits no new queue
  name        TEXT    NOT NULL UNIQUE,
  attributes  TEXT    NOT NULL,                   -- JSON: those that can be set
  created_s   INTEGER NOT NULL,
  modified_s  INTEGER NOT NULL,
  purged_s    INTEGER NOT NULL DEFAULT 0
);

-- Names that are not free yet.
CREATE TABLE IF NOT EXISTS deleted_queues (
  name       TEXT    PRIMARY KEY,
  deleted_s  INTEGER NOT NULL
) WITHOUT ROWID;

-- What changes while a message is held: rows are short, so that a receive rewrites little.
CREATE TABLE IF NOT EXISTS messages (
  seq                INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of sending; the sequence number is made from it
  queue              INTEGER NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
  group_id           TEXT,
  sent_ms            INTEGER NOT NULL,
  visible_ms         INTEGER NOT NULL,            -- from then on it can be received: after its delay, or its time-out
  receives           INTEGER NOT NULL DEFAULT 0,
  received_ms        INTEGER NOT NULL DEFAULT 0,  -- when it was received last
  first_received_ms  INTEGER NOT NULL DEFAULT 0,
  source_arn         TEXT                         -- the queue that it was redriven from
);

CREATE TABLE IF NOT EXISTS contents (
  seq               INTEGER PRIMARY KEY REFERENCES messages (seq) ON DELETE CASCADE,
  message_id        TEXT    NOT NULL,
  deduplication_id  TEXT,
  trace_header      TEXT,
  attributes        TEXT,                         -- JSON, as on the wire
  body_md5          TEXT    NOT NULL,
  body              TEXT    NOT NULL
);

CREATE INDEX IF NOT EXISTS messages_by_time  ON messages (queue, visible_ms, seq);
CREATE INDEX IF NOT EXISTS messages_by_age   ON messages (queue, sent_ms);
CREATE INDEX IF NOT EXISTS messages_by_group ON messages (queue, group_id, seq) WHERE group_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS messages_received ON messages (queue, visible_ms) WHERE receives > 0;

-- FIFO queues: one row for each group that has messages. A group waits for its oldest message: from when that can be
-- received, messages of the group can be.
CREATE TABLE IF NOT EXISTS message_groups (
  queue     INTEGER NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
  group_id  TEXT    NOT NULL,
  head      INTEGER NOT NULL,                     -- the oldest message's seq
  ready_ms  INTEGER NOT NULL,                     -- its visible_ms
  PRIMARY KEY (queue, group_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS groups_by_time ON message_groups (queue, ready_ms, head);

-- FIFO queues: what was sent within the last five minutes, deleted meanwhile or not.
CREATE TABLE IF NOT EXISTS sent_before (
  queue             INTEGER NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
  deduplication_id  TEXT    NOT NULL,
  group_id          TEXT    NOT NULL,
  seq               INTEGER NOT NULL,
  message_id        TEXT    NOT NULL,
  sent_ms           INTEGER NOT NULL,
  PRIMARY KEY (queue, deduplication_id, group_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS sent_before_by_age ON sent_before (sent_ms);
