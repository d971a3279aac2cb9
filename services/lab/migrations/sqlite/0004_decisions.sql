-- What doctors decided about results: made by institutions of this city, or delivered from other cities about reports of this one. The
-- body is the encoded message banqiao.lab.v1.Decision; the other columns are what it is found and counted by. Times are
-- microseconds since 1970-01-01 UTC, outcomes and reasons the numbers of their enums.
CREATE TABLE decision (
    seq INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL UNIQUE,
    institution TEXT NOT NULL,
    report_institution TEXT NOT NULL,
    report_number TEXT NOT NULL,
    item_code TEXT NOT NULL,
    outcome INTEGER NOT NULL CHECK (outcome BETWEEN 1 AND 2),
    reason INTEGER NOT NULL CHECK (reason BETWEEN 0 AND 6),
    decided_at INTEGER NOT NULL,
    body BLOB NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    received INTEGER NOT NULL CHECK (received IN (0, 1)),
    client TEXT NOT NULL,
    request_id TEXT NOT NULL,
    exchange TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    UNIQUE (client, request_id)
) STRICT;

CREATE INDEX decision_made ON decision (institution, seq);

CREATE INDEX decision_issued ON decision (report_institution, seq);

CREATE INDEX decision_subject ON decision (report_institution, report_number, item_code, institution, seq);

-- What became of a decision that was sent to the city of the report: taken, or why it never will be.
CREATE TABLE decision_delivery (
    decision_id TEXT PRIMARY KEY REFERENCES decision (decision_id),
    returned TEXT,
    exchange TEXT,
    at INTEGER NOT NULL
) STRICT;

-- The number of the last decision. Whoever writes decisions takes this row and holds it until commit, so that a reader who sees a
-- number has seen every smaller one.
CREATE TABLE decision_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO decision_head (id, seq) VALUES (1, 0);

CREATE TRIGGER decision_no_update BEFORE UPDATE ON decision
BEGIN
    SELECT RAISE(ABORT, 'decision is append-only');
END;

CREATE TRIGGER decision_no_delete BEFORE DELETE ON decision
BEGIN
    SELECT RAISE(ABORT, 'decision is append-only');
END;

CREATE TRIGGER decision_delivery_no_update BEFORE UPDATE ON decision_delivery
BEGIN
    SELECT RAISE(ABORT, 'decision_delivery is append-only');
END;

CREATE TRIGGER decision_delivery_no_delete BEFORE DELETE ON decision_delivery
BEGIN
    SELECT RAISE(ABORT, 'decision_delivery is append-only');
END;
