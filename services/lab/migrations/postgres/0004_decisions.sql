-- What doctors decided about results: made by institutions of this city, or delivered from other cities about reports of this one. The
-- body is the encoded message banqiao.lab.v1.Decision; the other columns are what it is found and counted by. Times are
-- microseconds since 1970-01-01 UTC, outcomes and reasons the numbers of their enums.
CREATE TABLE decision (
    seq bigint PRIMARY KEY,
    decision_id text NOT NULL UNIQUE,
    institution text NOT NULL,
    report_institution text NOT NULL,
    report_number text NOT NULL,
    item_code text NOT NULL,
    outcome smallint NOT NULL CHECK (outcome BETWEEN 1 AND 2),
    reason smallint NOT NULL CHECK (reason BETWEEN 0 AND 6),
    decided_at bigint NOT NULL,
    body bytea NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    received boolean NOT NULL,
    client text NOT NULL,
    request_id text NOT NULL,
    exchange text NOT NULL,
    recorded_at bigint NOT NULL,
    UNIQUE (client, request_id)
);

CREATE INDEX decision_made ON decision (institution, seq);

CREATE INDEX decision_issued ON decision (report_institution, seq);

CREATE INDEX decision_subject ON decision (report_institution, report_number, item_code, institution, seq);

-- What became of a decision that was sent to the city of the report: taken, or why it never will be.
CREATE TABLE decision_delivery (
    decision_id text PRIMARY KEY REFERENCES decision (decision_id),
    returned text,
    exchange text,
    at bigint NOT NULL
);

-- The number of the last decision. Whoever writes decisions takes this row and holds it until commit, so that a reader who sees a
-- number has seen every smaller one.
CREATE TABLE decision_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL
);

INSERT INTO decision_head (id, seq) VALUES (1, 0);

CREATE TRIGGER decision_append_only BEFORE UPDATE OR DELETE ON decision
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER decision_no_truncate BEFORE TRUNCATE ON decision
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER decision_delivery_append_only BEFORE UPDATE OR DELETE ON decision_delivery
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER decision_delivery_no_truncate BEFORE TRUNCATE ON decision_delivery
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
