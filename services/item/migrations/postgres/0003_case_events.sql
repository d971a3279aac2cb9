-- Every step of every case, in the order of their commits: the history, and what watchers read. An entry that a client asked for has
-- its request id, which belongs to that client.
CREATE TABLE case_event (
    seq bigint PRIMARY KEY,
    case_number text NOT NULL REFERENCES case_record (number),
    version bigint NOT NULL,
    action integer NOT NULL CHECK (action BETWEEN 1 AND 26),
    from_state integer NOT NULL CHECK (from_state BETWEEN 0 AND 14),
    to_state integer NOT NULL CHECK (to_state BETWEEN 1 AND 14),
    role integer NOT NULL CHECK (role BETWEEN 1 AND 6),
    city text NOT NULL,
    department text NOT NULL,
    client text NOT NULL,
    exchange text NOT NULL,
    request_id text,
    request_digest text CHECK (length(request_digest) = 64),
    detail text NOT NULL,
    at bigint NOT NULL,
    UNIQUE (case_number, version),
    CHECK ((request_id IS NULL) = (request_digest IS NULL))
);

CREATE UNIQUE INDEX case_event_request ON case_event (request_id, client) WHERE request_id IS NOT NULL;
CREATE INDEX case_event_department ON case_event (department, seq);

CREATE TRIGGER case_event_append_only BEFORE UPDATE OR DELETE ON case_event
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER case_event_no_truncate BEFORE TRUNCATE ON case_event
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The number of the last entry. Whoever writes takes this row first and holds it until commit, so that a reader who sees a number has
-- seen every smaller one. A sequence would not do: its numbers become visible out of order.
CREATE TABLE event_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL
);

INSERT INTO event_head (id, seq) VALUES (1, 0);
