-- Which system was first given which version of a report: whom to tell when it is superseded.
CREATE TABLE report_reading (
    client TEXT NOT NULL,
    institution TEXT NOT NULL,
    report_number TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    exchange TEXT NOT NULL,
    read_at INTEGER NOT NULL,
    PRIMARY KEY (client, institution, report_number)
) STRICT;

CREATE TRIGGER report_reading_no_update BEFORE UPDATE ON report_reading
BEGIN
    SELECT RAISE(ABORT, 'report_reading is append-only');
END;

CREATE TRIGGER report_reading_no_delete BEFORE DELETE ON report_reading
BEGIN
    SELECT RAISE(ABORT, 'report_reading is append-only');
END;

-- Every superseding, in the order of their commits: what watchers read.
CREATE TABLE report_change (
    seq INTEGER PRIMARY KEY,
    institution TEXT NOT NULL,
    report_number TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 1),
    status INTEGER NOT NULL CHECK (status BETWEEN 1 AND 6),
    superseded_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER report_change_no_update BEFORE UPDATE ON report_change
BEGIN
    SELECT RAISE(ABORT, 'report_change is append-only');
END;

CREATE TRIGGER report_change_no_delete BEFORE DELETE ON report_change
BEGIN
    SELECT RAISE(ABORT, 'report_change is append-only');
END;

-- The number of the last change. Whoever writes changes takes this row and holds it until commit, so that a reader who sees a
-- number has seen every smaller one.
CREATE TABLE report_change_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO report_change_head (id, seq) VALUES (1, 0);
