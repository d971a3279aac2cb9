-- 好差评: one rating for each contact of a case and one for the whole (contact 0), for good. Times are microseconds since 1970-01-01 UTC,
-- enums the numbers of banqiao.item.v1.
CREATE TABLE rating (
    seq bigint PRIMARY KEY,
    id text NOT NULL UNIQUE,
    case_number text NOT NULL REFERENCES case_record (number),
    contact bigint NOT NULL,
    rated_city text NOT NULL,
    department text NOT NULL,
    item_id text NOT NULL,
    mode integer NOT NULL CHECK (mode BETWEEN 1 AND 3),
    stage integer NOT NULL,
    satisfaction integer NOT NULL CHECK (satisfaction BETWEEN 1 AND 5),
    channel integer NOT NULL CHECK (channel BETWEEN 1 AND 5),
    real_name boolean NOT NULL,
    comment text NOT NULL,
    masked text NOT NULL,
    given_at bigint NOT NULL,
    client text NOT NULL,
    exchange text NOT NULL,
    request_id text NOT NULL,
    request_digest text NOT NULL CHECK (length(request_digest) = 64),
    UNIQUE (case_number, contact),
    UNIQUE (request_id, client)
);

CREATE INDEX rating_office ON rating (rated_city, department, seq);
CREATE INDEX rating_city ON rating (rated_city, seq);

CREATE TRIGGER rating_append_only BEFORE UPDATE OR DELETE ON rating
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER rating_no_truncate BEFORE TRUNCATE ON rating
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What becomes of a bad rating. The body is the rectification; the other columns are what is searched by.
CREATE TABLE rectification (
    rating_id text PRIMARY KEY REFERENCES rating (id),
    seq bigint NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    state integer NOT NULL CHECK (state BETWEEN 1 AND 5),
    rated_city text NOT NULL,
    warning integer NOT NULL CHECK (warning BETWEEN 0 AND 2),
    wake_at bigint,
    missing_year integer,
    body text NOT NULL
);

CREATE INDEX rectification_seq ON rectification (seq);
CREATE INDEX rectification_state ON rectification (state, seq);
CREATE INDEX rectification_city ON rectification (rated_city, state, seq);
CREATE INDEX rectification_wake ON rectification (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX rectification_missing ON rectification (missing_year) WHERE missing_year IS NOT NULL;

-- Every step of every rectification, in the order of their commits.
CREATE TABLE rectification_step (
    seq bigint PRIMARY KEY,
    rating_id text NOT NULL REFERENCES rectification (rating_id),
    version bigint NOT NULL,
    action integer NOT NULL CHECK (action BETWEEN 1 AND 11),
    from_state integer NOT NULL CHECK (from_state BETWEEN 0 AND 5),
    to_state integer NOT NULL CHECK (to_state BETWEEN 1 AND 5),
    role integer NOT NULL CHECK (role BETWEEN 1 AND 6),
    city text NOT NULL,
    client text NOT NULL,
    exchange text NOT NULL,
    request_id text,
    request_digest text CHECK (length(request_digest) = 64),
    words text NOT NULL,
    at bigint NOT NULL,
    UNIQUE (rating_id, version),
    CHECK ((request_id IS NULL) = (request_digest IS NULL))
);

CREATE UNIQUE INDEX rectification_step_request ON rectification_step (request_id, client) WHERE request_id IS NOT NULL;

CREATE TRIGGER rectification_step_append_only BEFORE UPDATE OR DELETE ON rectification_step
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER rectification_step_no_truncate BEFORE TRUNCATE ON rectification_step
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The number of the last rating or step. Whoever writes takes this row first and holds it until commit.
CREATE TABLE rating_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL
);

INSERT INTO rating_head (id, seq) VALUES (1, 0);

-- Delivered cases that were rated as a whole, until the history says so.
CREATE TABLE evaluation_due (
    case_number text PRIMARY KEY REFERENCES case_record (number)
);

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
    month text NOT NULL,
    city text NOT NULL,
    item_id text NOT NULL,
    mode integer NOT NULL,
    task boolean NOT NULL,
    measure integer NOT NULL,
    counted bigint NOT NULL,
    PRIMARY KEY (month, city, item_id, mode, task, measure)
);

-- What happened before this table was there. Months are those of the cities, UTC+8.
INSERT INTO tally (month, city, item_id, mode, task, measure, counted)
SELECT to_char(to_timestamp((event.at + 28800000000) / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM'),
    record.receiving_city, record.item_id, record.mode, record.parent_city IS NOT NULL, event.action, count(*)
FROM case_event AS event JOIN case_record AS record ON record.number = event.case_number
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO tally (month, city, item_id, mode, task, measure, counted)
SELECT to_char(to_timestamp((record.decided_at + 28800000000) / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM'),
    record.receiving_city, record.item_id, record.mode, record.parent_city IS NOT NULL, kind.measure,
    sum(CASE kind.measure WHEN 103 THEN record.handling_workdays ELSE 1 END)
FROM case_record AS record JOIN (VALUES (101), (102), (103), (104)) AS kind (measure)
    ON CASE kind.measure WHEN 101 THEN record.on_time WHEN 102 THEN NOT record.on_time
        ELSE record.handling_workdays IS NOT NULL END
WHERE record.decided_at IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6;
