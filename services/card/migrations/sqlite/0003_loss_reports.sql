-- Loss reports with their first answers. A request id belongs to the client that chose it.
CREATE TABLE loss_report (
    client TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request_digest BLOB NOT NULL CHECK (length(request_digest) = 32),
    applied INTEGER NOT NULL CHECK (applied IN (0, 1)),
    state INTEGER,
    until INTEGER,
    seq INTEGER,
    exchange TEXT NOT NULL,
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (client, request_id),
    CHECK ((applied = 1) = (state IS NOT NULL)),
    CHECK ((applied = 1) = (seq IS NOT NULL))
) STRICT;

CREATE TRIGGER loss_report_no_update BEFORE UPDATE ON loss_report
BEGIN SELECT RAISE(ABORT, 'loss reports are append-only'); END;

CREATE TRIGGER loss_report_no_delete BEFORE DELETE ON loss_report
BEGIN SELECT RAISE(ABORT, 'loss reports are append-only'); END;
