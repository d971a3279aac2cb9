-- Every step of every case, in the order of their commits: the history, and what watchers read. An entry that a client asked for has
-- its request id, which belongs to that client.
CREATE TABLE case_event (
    seq INTEGER PRIMARY KEY,
    case_number TEXT NOT NULL REFERENCES case_record (number),
    version INTEGER NOT NULL,
    action INTEGER NOT NULL CHECK (action BETWEEN 1 AND 26),
    from_state INTEGER NOT NULL CHECK (from_state BETWEEN 0 AND 14),
    to_state INTEGER NOT NULL CHECK (to_state BETWEEN 1 AND 14),
    role INTEGER NOT NULL CHECK (role BETWEEN 1 AND 6),
    city TEXT NOT NULL,
    department TEXT NOT NULL,
    client TEXT NOT NULL,
    exchange TEXT NOT NULL,
    request_id TEXT,
    request_digest TEXT CHECK (length(request_digest) = 64),
    detail TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (case_number, version),
    CHECK ((request_id IS NULL) = (request_digest IS NULL))
) STRICT;

CREATE UNIQUE INDEX case_event_request ON case_event (request_id, client) WHERE request_id IS NOT NULL;
CREATE INDEX case_event_department ON case_event (department, seq);

CREATE TRIGGER case_event_no_update BEFORE UPDATE ON case_event
BEGIN SELECT RAISE(ABORT, 'case_event is append-only'); END;

CREATE TRIGGER case_event_no_delete BEFORE DELETE ON case_event
BEGIN SELECT RAISE(ABORT, 'case_event is append-only'); END;

-- The number of the last entry. Whoever writes takes this row first and holds it until commit, so that a reader who sees a number has
-- seen every smaller one.
CREATE TABLE event_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO event_head (id, seq) VALUES (1, 0);
