-- One side of each transfer of a pension relation (养老保险关系转移接续). `record` is a serialised banqiao.card.v1.TransferRecord; the columns
-- beside it are what is searched for. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE pension_transfer (
    id text PRIMARY KEY,
    side smallint NOT NULL CHECK (side IN (1, 2)),
    holder text NOT NULL,
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 15),
    is_open boolean NOT NULL,
    record bytea NOT NULL,
    version bigint NOT NULL,
    -- REFUSED, TEMPORARY_ACCOUNT, COMPLETED, DECLINED and WITHDRAWN are ends.
    CHECK (is_open = (state NOT IN (2, 3, 10, 11, 13)))
);

-- A person has one open transfer at each side at most, whoever applies at once.
CREATE UNIQUE INDEX pension_transfer_open ON pension_transfer (side, holder) WHERE is_open;
CREATE INDEX pension_transfer_open_id ON pension_transfer (id) WHERE is_open;

-- Everything that happened, in the order of the commits: the history, and what watchers read.
CREATE TABLE pension_event (
    seq bigint PRIMARY KEY,
    transfer text NOT NULL REFERENCES pension_transfer (id),
    event text NOT NULL,
    from_state smallint NOT NULL CHECK (from_state BETWEEN 0 AND 15),
    to_state smallint NOT NULL CHECK (to_state BETWEEN 1 AND 15),
    actor_city text NOT NULL,
    client text,
    exchange text,
    at bigint NOT NULL
);

CREATE INDEX pension_event_transfer ON pension_event (transfer, seq);

CREATE TRIGGER pension_event_append_only BEFORE UPDATE OR DELETE ON pension_event
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER pension_event_no_truncate BEFORE TRUNCATE ON pension_event
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The number of the last event. Whoever writes one takes this row first and holds it until commit.
CREATE TABLE pension_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL
);

INSERT INTO pension_head (id, seq) VALUES (1, 0);

-- First answers. A request id belongs to the client that chose it.
CREATE TABLE pension_answer (
    client text NOT NULL,
    request_id text NOT NULL,
    request_digest bytea NOT NULL CHECK (length(request_digest) = 32),
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 15),
    seq bigint NOT NULL,
    difference bigint NOT NULL,
    answered_at bigint NOT NULL,
    PRIMARY KEY (client, request_id)
);

CREATE TRIGGER pension_answer_append_only BEFORE UPDATE OR DELETE ON pension_answer
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER pension_answer_no_truncate BEFORE TRUNCATE ON pension_answer
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
