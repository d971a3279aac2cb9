-- A quality round (室间质评) as it was registered: its body is the encoded message banqiao.lab.v1.QualityRound with targets. Times are
-- microseconds since 1970-01-01 UTC, scopes the numbers of banqiao.lab.v1.MarkScope.
CREATE TABLE quality_round (
    round_id text PRIMARY KEY,
    scheme text NOT NULL,
    scope smallint NOT NULL CHECK (scope BETWEEN 1 AND 4),
    scope_code text NOT NULL,
    opens_at bigint NOT NULL,
    closes_at bigint NOT NULL CHECK (closes_at > opens_at),
    body bytea NOT NULL,
    registered_by text,
    registered_at bigint NOT NULL
);

-- Which items a round is of.
CREATE TABLE quality_item (
    round_id text NOT NULL REFERENCES quality_round,
    item_code text NOT NULL,
    PRIMARY KEY (item_code, round_id)
);

-- What an institution measured in a sample: the highest version counts. The last one came before the round closed.
CREATE TABLE quality_result (
    round_id text NOT NULL REFERENCES quality_round,
    institution text NOT NULL,
    item_code text NOT NULL,
    sample text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    value text NOT NULL,
    reported_by text,
    reported_at bigint NOT NULL,
    PRIMARY KEY (round_id, institution, item_code, sample, version)
);

-- A round that was evaluated: once.
CREATE TABLE quality_evaluated (
    round_id text PRIMARY KEY REFERENCES quality_round,
    catalogue text NOT NULL,
    evaluated_by text,
    evaluated_at bigint NOT NULL
);

-- How an institution did in an item.
CREATE TABLE quality_evaluation (
    round_id text NOT NULL REFERENCES quality_evaluated,
    institution text NOT NULL,
    item_code text NOT NULL,
    samples integer NOT NULL CHECK (samples > 0),
    passed_samples integer NOT NULL CHECK (passed_samples BETWEEN 0 AND samples),
    passed boolean NOT NULL,
    PRIMARY KEY (round_id, institution, item_code)
);

CREATE TRIGGER quality_round_append_only BEFORE UPDATE OR DELETE ON quality_round
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER quality_item_append_only BEFORE UPDATE OR DELETE ON quality_item
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER quality_result_append_only BEFORE UPDATE OR DELETE ON quality_result
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER quality_evaluated_append_only BEFORE UPDATE OR DELETE ON quality_evaluated
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER quality_evaluation_append_only BEFORE UPDATE OR DELETE ON quality_evaluation
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER quality_round_no_truncate BEFORE TRUNCATE ON quality_round
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER quality_result_no_truncate BEFORE TRUNCATE ON quality_result
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER quality_evaluation_no_truncate BEFORE TRUNCATE ON quality_evaluation
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
