-- Loss reports with their first answers. A request id belongs to the client that chose it.
CREATE TABLE loss_report (
    client text NOT NULL,
    request_id uuid NOT NULL,
    request_digest bytea NOT NULL CHECK (length(request_digest) = 32),
    applied boolean NOT NULL,
    state smallint,
    until bigint,
    seq bigint,
    exchange text NOT NULL,
    reported_at bigint NOT NULL,
    PRIMARY KEY (client, request_id),
    CHECK (applied = (state IS NOT NULL)),
    CHECK (applied = (seq IS NOT NULL))
);

CREATE TRIGGER loss_report_append_only BEFORE UPDATE OR DELETE ON loss_report
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER loss_report_no_truncate BEFORE TRUNCATE ON loss_report
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
