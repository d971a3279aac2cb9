-- A referral (双向转诊) as this city's service holds it. `record` is a serialised banqiao.lab.v1.Referral; the columns beside it are what is
-- searched for. `due_at` is when the service ends it by itself, where this city decides about that. Times are microseconds since
-- 1970-01-01 UTC.
CREATE TABLE referral (
    id TEXT PRIMARY KEY,
    from_institution TEXT NOT NULL,
    to_institution TEXT NOT NULL,
    status INTEGER NOT NULL CHECK (status BETWEEN 1 AND 10),
    due_at INTEGER,
    record BLOB NOT NULL,
    version INTEGER NOT NULL
) STRICT;

CREATE INDEX referral_due ON referral (due_at) WHERE due_at IS NOT NULL;

-- Everything that happened, in the order of the commits: the history, and what watchers read.
CREATE TABLE referral_event (
    seq INTEGER PRIMARY KEY,
    referral TEXT NOT NULL REFERENCES referral (id),
    event TEXT NOT NULL,
    from_status INTEGER NOT NULL CHECK (from_status BETWEEN 0 AND 10),
    to_status INTEGER NOT NULL CHECK (to_status BETWEEN 1 AND 10),
    actor_city TEXT NOT NULL,
    client TEXT,
    exchange TEXT,
    at INTEGER NOT NULL
) STRICT;

CREATE INDEX referral_event_referral ON referral_event (referral, seq);

-- The number of the last event. Whoever writes one takes this row first and holds it until commit.
CREATE TABLE referral_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO referral_head (id, seq) VALUES (1, 0);

-- First answers. A request id belongs to the client that chose it.
CREATE TABLE referral_answer (
    client TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request_digest BLOB NOT NULL CHECK (length(request_digest) = 32),
    status INTEGER NOT NULL CHECK (status BETWEEN 1 AND 10),
    seq INTEGER NOT NULL,
    PRIMARY KEY (client, request_id)
) STRICT;

-- Documents that are still to be got from the other city.
CREATE TABLE referral_pull (
    referral TEXT NOT NULL REFERENCES referral (id),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    city TEXT NOT NULL,
    size INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    tried_at INTEGER NOT NULL,
    PRIMARY KEY (referral, digest)
) STRICT;

CREATE INDEX referral_pull_tried ON referral_pull (tried_at);

CREATE TRIGGER referral_event_no_update BEFORE UPDATE ON referral_event
BEGIN
    SELECT RAISE(ABORT, 'referral_event is append-only');
END;

CREATE TRIGGER referral_event_no_delete BEFORE DELETE ON referral_event
BEGIN
    SELECT RAISE(ABORT, 'referral_event is append-only');
END;

CREATE TRIGGER referral_answer_no_update BEFORE UPDATE ON referral_answer
BEGIN
    SELECT RAISE(ABORT, 'referral_answer is append-only');
END;

CREATE TRIGGER referral_answer_no_delete BEFORE DELETE ON referral_answer
BEGIN
    SELECT RAISE(ABORT, 'referral_answer is append-only');
END;
