-- 好差评: one rating for each contact of a case and one for the whole (contact 0), for good. Times are microseconds since 1970-01-01 UTC,
-- enums the numbers of banqiao.item.v1.
CREATE TABLE rating (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    case_number TEXT NOT NULL REFERENCES case_record (number),
    contact INTEGER NOT NULL,
    rated_city TEXT NOT NULL,
    department TEXT NOT NULL,
    item_id TEXT NOT NULL,
    mode INTEGER NOT NULL CHECK (mode BETWEEN 1 AND 3),
    stage INTEGER NOT NULL,
    satisfaction INTEGER NOT NULL CHECK (satisfaction BETWEEN 1 AND 5),
    channel INTEGER NOT NULL CHECK (channel BETWEEN 1 AND 5),
    real_name INTEGER NOT NULL CHECK (real_name IN (0, 1)),
    comment TEXT NOT NULL,
    masked TEXT NOT NULL,
    given_at INTEGER NOT NULL,
    client TEXT NOT NULL,
    exchange TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request_digest TEXT NOT NULL CHECK (length(request_digest) = 64),
    UNIQUE (case_number, contact),
    UNIQUE (request_id, client)
) STRICT;

CREATE INDEX rating_office ON rating (rated_city, department, seq);
CREATE INDEX rating_city ON rating (rated_city, seq);

CREATE TRIGGER rating_no_update BEFORE UPDATE ON rating
BEGIN SELECT RAISE(ABORT, 'rating is append-only'); END;

CREATE TRIGGER rating_no_delete BEFORE DELETE ON rating
BEGIN SELECT RAISE(ABORT, 'rating is append-only'); END;

-- What becomes of a bad rating. The body is the rectification; the other columns are what is searched by.
CREATE TABLE rectification (
    rating_id TEXT PRIMARY KEY REFERENCES rating (id),
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 5),
    rated_city TEXT NOT NULL,
    warning INTEGER NOT NULL CHECK (warning BETWEEN 0 AND 2),
    wake_at INTEGER,
    missing_year INTEGER,
    body TEXT NOT NULL
) STRICT;

CREATE INDEX rectification_seq ON rectification (seq);
CREATE INDEX rectification_state ON rectification (state, seq);
CREATE INDEX rectification_city ON rectification (rated_city, state, seq);
CREATE INDEX rectification_wake ON rectification (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX rectification_missing ON rectification (missing_year) WHERE missing_year IS NOT NULL;

-- Every step of every rectification, in the order of their commits.
CREATE TABLE rectification_step (
    seq INTEGER PRIMARY KEY,
    rating_id TEXT NOT NULL REFERENCES rectification (rating_id),
    version INTEGER NOT NULL,
    action INTEGER NOT NULL CHECK (action BETWEEN 1 AND 11),
    from_state INTEGER NOT NULL CHECK (from_state BETWEEN 0 AND 5),
    to_state INTEGER NOT NULL CHECK (to_state BETWEEN 1 AND 5),
    role INTEGER NOT NULL CHECK (role BETWEEN 1 AND 6),
    city TEXT NOT NULL,
    client TEXT NOT NULL,
    exchange TEXT NOT NULL,
    request_id TEXT,
    request_digest TEXT CHECK (length(request_digest) = 64),
    words TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (rating_id, version),
    CHECK ((request_id IS NULL) = (request_digest IS NULL))
) STRICT;

CREATE UNIQUE INDEX rectification_step_request ON rectification_step (request_id, client) WHERE request_id IS NOT NULL;

CREATE TRIGGER rectification_step_no_update BEFORE UPDATE ON rectification_step
BEGIN SELECT RAISE(ABORT, 'rectification_step is append-only'); END;

CREATE TRIGGER rectification_step_no_delete BEFORE DELETE ON rectification_step
BEGIN SELECT RAISE(ABORT, 'rectification_step is append-only'); END;

-- The number of the last rating or step.
CREATE TABLE rating_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO rating_head (id, seq) VALUES (1, 0);

-- Delivered cases that were rated as a whole, until the history says so.
CREATE TABLE evaluation_due (
    case_number TEXT PRIMARY KEY REFERENCES case_record (number)
) STRICT;

-- Searches by item or department walk their cases from the newest on, whatever the state; few cases are under a warning.
DROP INDEX case_record_item;
CREATE INDEX case_record_item ON case_record (item_id, number);
CREATE INDEX case_record_department_number ON case_record (department, number);
CREATE INDEX case_record_warned ON case_record (warning, number) WHERE warning > 0;

-- What happened in a month, counted in the transaction in which it happened, so that a report reads some thousand rows however many
-- cases there are. City: where the applicant applied; of ratings, the rated city. Measure: 1 to 99, the action of a case; 101 decisions
-- in time, 102 late, 103 their working days, 104 decisions of which these are known; 201 to 205 ratings by 满意度, 206 excluded ones;
-- 301 and on, the action of a rectification.
CREATE TABLE tally (
    month TEXT NOT NULL,
    city TEXT NOT NULL,
    item_id TEXT NOT NULL,
    mode INTEGER NOT NULL,
    task INTEGER NOT NULL CHECK (task IN (0, 1)),
    measure INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    PRIMARY KEY (month, city, item_id, mode, task, measure)
) STRICT, WITHOUT ROWID;

-- What happened before this table was there. Months are those of the cities, UTC+8.
INSERT INTO tally (month, city, item_id, mode, task, measure, counted)
SELECT strftime('%Y-%m', (event.at + 28800000000) / 1000000, 'unixepoch'),
    record.receiving_city, record.item_id, record.mode, record.parent_city IS NOT NULL, event.action, count(*)
FROM case_event AS event JOIN case_record AS record ON record.number = event.case_number
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO tally (month, city, item_id, mode, task, measure, counted)
SELECT strftime('%Y-%m', (record.decided_at + 28800000000) / 1000000, 'unixepoch'),
    record.receiving_city, record.item_id, record.mode, record.parent_city IS NOT NULL, kind.measure,
    sum(CASE kind.measure WHEN 103 THEN record.handling_workdays ELSE 1 END)
FROM case_record AS record JOIN (SELECT 101 AS measure UNION ALL SELECT 102 UNION ALL SELECT 103 UNION ALL SELECT 104) AS kind
    ON CASE kind.measure WHEN 101 THEN record.on_time WHEN 102 THEN NOT record.on_time
        ELSE record.handling_workdays IS NOT NULL END
WHERE record.decided_at IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6;
