-- One side of each transfer of a pension relation (养老保险关系转移接续). `record` is a serialised banqiao.card.v1.TransferRecord; the columns
-- beside it are what is searched for. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE pension_transfer (
    id TEXT PRIMARY KEY,
    side INTEGER NOT NULL CHECK (side IN (1, 2)),
    holder TEXT NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 15),
    is_open INTEGER NOT NULL CHECK (is_open IN (0, 1)),
    record BLOB NOT NULL,
    version INTEGER NOT NULL,
    -- REFUSED, TEMPORARY_ACCOUNT, COMPLETED, DECLINED and WITHDRAWN are ends.
    CHECK (is_open = (state NOT IN (2, 3, 10, 11, 13)))
) STRICT;

-- A person has one open transfer at each side at most, whoever applies at once.
CREATE UNIQUE INDEX pension_transfer_open ON pension_transfer (side, holder) WHERE is_open;
CREATE INDEX pension_transfer_open_id ON pension_transfer (id) WHERE is_open;

-- Everything that happened, in the order of the commits: the history, and what watchers read.
CREATE TABLE pension_event (
    seq INTEGER PRIMARY KEY,
    transfer TEXT NOT NULL REFERENCES pension_transfer (id),
    event TEXT NOT NULL,
    from_state INTEGER NOT NULL CHECK (from_state BETWEEN 0 AND 15),
    to_state INTEGER NOT NULL CHECK (to_state BETWEEN 1 AND 15),
    actor_city TEXT NOT NULL,
    client TEXT,
    exchange TEXT,
    at INTEGER NOT NULL
) STRICT;

CREATE INDEX pension_event_transfer ON pension_event (transfer, seq);

CREATE TRIGGER pension_event_no_update BEFORE UPDATE ON pension_event
BEGIN SELECT RAISE(ABORT, 'pension_event is append-only'); END;

CREATE TRIGGER pension_event_no_delete BEFORE DELETE ON pension_event
BEGIN SELECT RAISE(ABORT, 'pension_event is append-only'); END;

-- The number of the last event. Whoever writes one takes this row first and holds it until commit.
CREATE TABLE pension_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO pension_head (id, seq) VALUES (1, 0);

-- First answers. A request id belongs to the client that chose it.
CREATE TABLE pension_answer (
    client TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request_digest BLOB NOT NULL CHECK (length(request_digest) = 32),
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 15),
    seq INTEGER NOT NULL,
    difference INTEGER NOT NULL,
    answered_at INTEGER NOT NULL,
    PRIMARY KEY (client, request_id)
) STRICT;

CREATE TRIGGER pension_answer_no_update BEFORE UPDATE ON pension_answer
BEGIN SELECT RAISE(ABORT, 'pension_answer is append-only'); END;

CREATE TRIGGER pension_answer_no_delete BEFORE DELETE ON pension_answer
BEGIN SELECT RAISE(ABORT, 'pension_answer is append-only'); END;
