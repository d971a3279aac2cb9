-- A case. The body is the case; the other columns are what is sorted, searched and counted by. States and other enums are the numbers
-- of banqiao.item.v1, times are microseconds since 1970-01-01 UTC.
CREATE TABLE case_record (
    number text PRIMARY KEY,
    version bigint NOT NULL CHECK (version > 0),
    item_id text NOT NULL,
    mode integer NOT NULL CHECK (mode BETWEEN 1 AND 3),
    department text NOT NULL,
    receiving_city text NOT NULL,
    parent_city text,
    applicant text NOT NULL,
    local_number text,
    state integer NOT NULL CHECK (state BETWEEN 1 AND 14),
    decision integer NOT NULL CHECK (decision BETWEEN 0 AND 2),
    warning integer NOT NULL CHECK (warning BETWEEN 0 AND 2),
    due_at bigint,
    wake_at bigint,
    missing_year integer,
    coordinate boolean NOT NULL,
    submitted_at bigint,
    received_at bigint,
    accepted_at bigint,
    decided_at bigint,
    concluded_at bigint,
    on_time boolean,
    handling_workdays bigint,
    notices integer NOT NULL,
    body text NOT NULL,
    -- A decision has its time.
    CHECK ((decision = 0) = (decided_at IS NULL))
);

CREATE UNIQUE INDEX case_record_local ON case_record (receiving_city, local_number) WHERE local_number IS NOT NULL;
CREATE INDEX case_record_applicant ON case_record (applicant, number);
CREATE INDEX case_record_item ON case_record (item_id, state, number);
CREATE INDEX case_record_state ON case_record (state, number);
CREATE INDEX case_record_department ON case_record (department, state, number);
CREATE INDEX case_record_receiving ON case_record (receiving_city, number);
CREATE INDEX case_record_parent ON case_record (parent_city, number) WHERE parent_city IS NOT NULL;
CREATE INDEX case_record_due ON case_record (due_at, number) WHERE due_at IS NOT NULL;
CREATE INDEX case_record_wake ON case_record (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX case_record_missing ON case_record (missing_year) WHERE missing_year IS NOT NULL;
CREATE INDEX case_record_coordinate ON case_record (number) WHERE coordinate;

-- The last serial that was given to a division on a day.
CREATE TABLE case_serial (
    division text NOT NULL,
    day text NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (division, day)
);
