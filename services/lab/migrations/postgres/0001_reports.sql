-- A report as it stands: its body is the encoded message banqiao.lab.v1.Report, the other columns are what it is found by.
-- Times are microseconds since 1970-01-01 UTC, states the numbers of banqiao.lab.v1.ReportStatus; items are `;code;code;`.
CREATE TABLE report (
    institution text NOT NULL,
    report_number text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 6),
    patient text NOT NULL,
    collected_at bigint NOT NULL,
    issued_at bigint NOT NULL,
    items text NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    body bytea NOT NULL,
    published_at bigint NOT NULL,
    PRIMARY KEY (institution, report_number)
);

CREATE INDEX report_patient ON report (patient, collected_at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;

-- What was superseded, as it stood.
CREATE TABLE report_version (
    institution text NOT NULL,
    report_number text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    body bytea NOT NULL,
    superseded_at bigint NOT NULL,
    PRIMARY KEY (institution, report_number, version)
);

CREATE TRIGGER report_version_append_only BEFORE UPDATE OR DELETE ON report_version
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER report_version_no_truncate BEFORE TRUNCATE ON report_version
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
