-- A report as it stands: its body is the encoded message banqiao.lab.v1.Report, the other columns are what it is found by.
-- Times are microseconds since 1970-01-01 UTC, states the numbers of banqiao.lab.v1.ReportStatus; items are `;code;code;`.
CREATE TABLE report (
    institution TEXT NOT NULL,
    report_number TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    status INTEGER NOT NULL CHECK (status BETWEEN 1 AND 6),
    patient TEXT NOT NULL,
    collected_at INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    items TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    body BLOB NOT NULL,
    published_at INTEGER NOT NULL,
    PRIMARY KEY (institution, report_number)
) STRICT;

CREATE INDEX report_patient ON report (patient, collected_at);

-- What was superseded, as it stood.
CREATE TABLE report_version (
    institution TEXT NOT NULL,
    report_number TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    body BLOB NOT NULL,
    superseded_at INTEGER NOT NULL,
    PRIMARY KEY (institution, report_number, version)
) STRICT;

CREATE TRIGGER report_version_no_update BEFORE UPDATE ON report_version
BEGIN
    SELECT RAISE(ABORT, 'report_version is append-only');
END;

CREATE TRIGGER report_version_no_delete BEFORE DELETE ON report_version
BEGIN
    SELECT RAISE(ABORT, 'report_version is append-only');
END;
