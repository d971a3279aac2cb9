-- Which system was first given which version of a report: whom to tell when it is superseded.
CREATE TABLE report_reading (
    client text NOT NULL,
    institution text NOT NULL,
    report_number text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    exchange text NOT NULL,
    read_at bigint NOT NULL,
    PRIMARY KEY (client, institution, report_number)
);

CREATE TRIGGER report_reading_append_only BEFORE UPDATE OR DELETE ON report_reading
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER report_reading_no_truncate BEFORE TRUNCATE ON report_reading
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Every superseding, in the order of their commits: what watchers read.
CREATE TABLE report_change (
    seq bigint PRIMARY KEY,
    institution text NOT NULL,
    report_number text NOT NULL,
    version integer NOT NULL CHECK (version > 1),
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 6),
    superseded_at bigint NOT NULL
);

CREATE TRIGGER report_change_append_only BEFORE UPDATE OR DELETE ON report_change
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER report_change_no_truncate BEFORE TRUNCATE ON report_change
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The number of the last change. Whoever writes changes takes this row and holds it until commit, so that a reader who sees a
-- number has seen every smaller one.
CREATE TABLE report_change_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL
);

INSERT INTO report_change_head (id, seq) VALUES (1, 0);
