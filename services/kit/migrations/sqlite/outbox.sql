-- Messages to other cities that have not been answered yet. They go out in the order of `seq`, one by one for each destination. Times
-- are microseconds since 1970-01-01 UTC.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    request_id TEXT NOT NULL UNIQUE,
    payload BLOB NOT NULL CHECK (length(payload) <= 1048576),
    posted_at INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_destination ON outbox (destination, seq);
