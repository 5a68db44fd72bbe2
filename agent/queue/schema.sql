-- The journal, schema version 1. One append-only table of events; every other table but `documents`
-- is a projection: it is what the events' changes say, and `print-agent journal verify` compares them.

CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,               -- NumericDate, by the station's clock
  kind TEXT NOT NULL,
  job TEXT,
  changes TEXT NOT NULL,             -- JSON: [[table, key, {column: value} or null to drop], ...]
  seq INTEGER UNIQUE,                -- of the receipt, where there is one
  payload BLOB,                      -- the receipt's claims, byte for byte as signed
  signature BLOB,
  signer INTEGER                     -- of table signers
) STRICT;
CREATE INDEX events_by_job ON events (job) WHERE job IS NOT NULL;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TABLE jobs (
  number INTEGER PRIMARY KEY,        -- in the order of acceptance
  id TEXT NOT NULL UNIQUE,
  seq INTEGER NOT NULL,
  phase TEXT NOT NULL,
  priority INTEGER NOT NULL,
  application TEXT,
  iat INTEGER NOT NULL,
  nbf INTEGER,
  exp INTEGER NOT NULL,
  accepted_at INTEGER NOT NULL,
  ended_at INTEGER,
  end_seq INTEGER,                   -- the receipt that told the end
  end_reason TEXT,
  erased INTEGER NOT NULL DEFAULT 0,
  entry INTEGER NOT NULL DEFAULT 0,  -- index into the authorization's books
  entries INTEGER NOT NULL,
  book TEXT NOT NULL,                -- the current entry's number
  attempts INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  printer TEXT,
  held_until INTEGER,                -- nbf, or an iat that is far ahead: whichever is later
  hold_authority INTEGER NOT NULL DEFAULT 0,
  hold_technician INTEGER NOT NULL DEFAULT 0,
  hold_seq INTEGER NOT NULL DEFAULT 0,
  wish TEXT,                         -- how it is to end once it is known to be without ink
  transfer_to TEXT                   -- a technician asked the authority to give it to that station
) STRICT;
CREATE INDEX jobs_open ON jobs (priority DESC, seq) WHERE phase NOT IN ('completed', 'canceled', 'aborted');
CREATE INDEX jobs_to_erase ON jobs (end_seq) WHERE end_seq IS NOT NULL AND erased = 0;
CREATE INDEX jobs_by_end ON jobs (exp) WHERE phase IN ('waiting', 'held', 'selected', 'set-aside');
CREATE INDEX jobs_by_wait ON jobs (held_until) WHERE phase = 'held' AND held_until IS NOT NULL;
CREATE INDEX jobs_by_application ON jobs (application) WHERE application IS NOT NULL;

CREATE TABLE books (
  id INTEGER PRIMARY KEY,            -- job number * 4 + entry
  number TEXT NOT NULL,
  job TEXT NOT NULL,
  fate TEXT NOT NULL                 -- blank, may-have-ink, printed, spoiled
) STRICT;
CREATE INDEX books_by_number ON books (number);

CREATE TABLE attempts (
  id INTEGER PRIMARY KEY,
  job TEXT NOT NULL,
  number INTEGER NOT NULL,           -- 1, 2, ... of its job
  printer TEXT NOT NULL,
  book TEXT NOT NULL,
  stage TEXT NOT NULL,               -- load, cut-off, loaded, intent, standing (waits for a person), resolved (not clear yet), closed
  run INTEGER NOT NULL,              -- the start of the agent that made it
  boot TEXT NOT NULL,
  serial TEXT,
  model TEXT,
  counter INTEGER,
  inked_rows INTEGER,
  process_id INTEGER,
  noted INTEGER NOT NULL DEFAULT 0,  -- a book seen in, or a lost line, before the fence reply
  error INTEGER NOT NULL DEFAULT 0,
  clear INTEGER NOT NULL DEFAULT 0,  -- the page can no longer print
  counted INTEGER NOT NULL DEFAULT 0, -- the counter was journaled after the intent
  resolution TEXT                    -- what a person said of its book
) STRICT;
CREATE INDEX attempts_open ON attempts (printer) WHERE stage NOT IN ('closed', 'standing');
CREATE INDEX attempts_by_job ON attempts (job);

CREATE TABLE messages (
  seq INTEGER PRIMARY KEY,
  jti TEXT NOT NULL UNIQUE,
  sha256 TEXT NOT NULL,              -- of the payload's bytes, base64url
  action TEXT NOT NULL,              -- authorize, or the directive's action
  job TEXT
) STRICT;

CREATE TABLE kept (                  -- directives for jobs that have not arrived
  id INTEGER PRIMARY KEY,
  job TEXT NOT NULL,
  seq INTEGER NOT NULL,
  action TEXT NOT NULL,
  detail TEXT
) STRICT;
CREATE INDEX kept_by_job ON kept (job);

CREATE TABLE gaps (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, missing INTEGER NOT NULL) STRICT;
CREATE TABLE printers (
  name TEXT PRIMARY KEY,
  serial TEXT,
  model TEXT,
  stopped TEXT,                      -- why it may not print until a technician accepts it
  stopped_serial TEXT,               -- who answered when it was stopped
  stopped_counter INTEGER
) STRICT;
CREATE TABLE counters (serial TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE technicians (
  name TEXT PRIMARY KEY,
  token TEXT,                        -- SHA-256 of the bearer token; null once removed
  added_at INTEGER NOT NULL
) STRICT;
CREATE TABLE station (key TEXT PRIMARY KEY, value ANY) STRICT;
CREATE TABLE signers (number INTEGER PRIMARY KEY, kid TEXT NOT NULL UNIQUE, jwk TEXT NOT NULL) STRICT;

-- Not a projection: what may be erased once the authority acknowledged the job's end.
CREATE TABLE documents (job TEXT PRIMARY KEY, jws BLOB NOT NULL) STRICT;
-- Not a projection either: the newest of the receipts' times and the accepted messages' iat.
CREATE TABLE known_time (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER) STRICT;
INSERT INTO known_time VALUES (1, NULL);
