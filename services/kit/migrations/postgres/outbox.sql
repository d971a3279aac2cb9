-- Messages to other cities that have not been answered yet. They go out in the order of `seq`, one by one for each destination. Times
-- are microseconds since 1970-01-01 UTC.
CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    request_id text NOT NULL UNIQUE,
    payload bytea NOT NULL CHECK (length(payload) <= 1048576),
    posted_at bigint NOT NULL
);

CREATE INDEX outbox_destination ON outbox (destination, seq);
