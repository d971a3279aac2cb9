-- A case. The body is the case; the other columns are what is sorted, searched and counted by. States and other enums are the numbers
-- of banqiao.item.v1, times are microseconds since 1970-01-01 UTC.
CREATE TABLE case_record (
    number TEXT PRIMARY KEY,
    version INTEGER NOT NULL CHECK (version > 0),
    item_id TEXT NOT NULL,
    mode INTEGER NOT NULL CHECK (mode BETWEEN 1 AND 3),
    department TEXT NOT NULL,
    receiving_city TEXT NOT NULL,
    parent_city TEXT,
    applicant TEXT NOT NULL,
    local_number TEXT,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 14),
    decision INTEGER NOT NULL CHECK (decision BETWEEN 0 AND 2),
    warning INTEGER NOT NULL CHECK (warning BETWEEN 0 AND 2),
    due_at INTEGER,
    wake_at INTEGER,
    missing_year INTEGER,
    coordinate INTEGER NOT NULL CHECK (coordinate IN (0, 1)),
    submitted_at INTEGER,
    received_at INTEGER,
    accepted_at INTEGER,
    decided_at INTEGER,
    concluded_at INTEGER,
    on_time INTEGER CHECK (on_time IN (0, 1)),
    handling_workdays INTEGER,
    notices INTEGER NOT NULL,
    body TEXT NOT NULL,
    -- A decision has its time.
    CHECK ((decision = 0) = (decided_at IS NULL))
) STRICT;

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
CREATE INDEX case_record_coordinate ON case_record (number) WHERE coordinate = 1;

-- The last serial that was given to a division on a day.
CREATE TABLE case_serial (
    division TEXT NOT NULL,
    day TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (division, day)
) STRICT;
