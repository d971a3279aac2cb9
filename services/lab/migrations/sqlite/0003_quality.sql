-- A quality round (室间质评) as it was registered: its body is the encoded message banqiao.lab.v1.QualityRound with targets. Times are
-- microseconds since 1970-01-01 UTC, scopes the numbers of banqiao.lab.v1.MarkScope.
CREATE TABLE quality_round (
    round_id TEXT PRIMARY KEY,
    scheme TEXT NOT NULL,
    scope INTEGER NOT NULL CHECK (scope BETWEEN 1 AND 4),
    scope_code TEXT NOT NULL,
    opens_at INTEGER NOT NULL,
    closes_at INTEGER NOT NULL CHECK (closes_at > opens_at),
    body BLOB NOT NULL,
    registered_by TEXT,
    registered_at INTEGER NOT NULL
) STRICT;

-- Which items a round is of.
CREATE TABLE quality_item (
    round_id TEXT NOT NULL REFERENCES quality_round,
    item_code TEXT NOT NULL,
    PRIMARY KEY (item_code, round_id)
) STRICT;

-- What an institution measured in a sample: the highest version counts. The last one came before the round closed.
CREATE TABLE quality_result (
    round_id TEXT NOT NULL REFERENCES quality_round,
    institution TEXT NOT NULL,
    item_code TEXT NOT NULL,
    sample TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    value TEXT NOT NULL,
    reported_by TEXT,
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (round_id, institution, item_code, sample, version)
) STRICT;

-- A round that was evaluated: once.
CREATE TABLE quality_evaluated (
    round_id TEXT PRIMARY KEY REFERENCES quality_round,
    catalogue TEXT NOT NULL,
    evaluated_by TEXT,
    evaluated_at INTEGER NOT NULL
) STRICT;

-- How an institution did in an item.
CREATE TABLE quality_evaluation (
    round_id TEXT NOT NULL REFERENCES quality_evaluated,
    institution TEXT NOT NULL,
    item_code TEXT NOT NULL,
    samples INTEGER NOT NULL CHECK (samples > 0),
    passed_samples INTEGER NOT NULL CHECK (passed_samples BETWEEN 0 AND samples),
    passed INTEGER NOT NULL CHECK (passed IN (0, 1)),
    PRIMARY KEY (round_id, institution, item_code)
) STRICT;

CREATE TRIGGER quality_round_no_update BEFORE UPDATE ON quality_round
BEGIN
    SELECT RAISE(ABORT, 'quality_round is append-only');
END;

CREATE TRIGGER quality_round_no_delete BEFORE DELETE ON quality_round
BEGIN
    SELECT RAISE(ABORT, 'quality_round is append-only');
END;

CREATE TRIGGER quality_item_no_update BEFORE UPDATE ON quality_item
BEGIN
    SELECT RAISE(ABORT, 'quality_item is append-only');
END;

CREATE TRIGGER quality_item_no_delete BEFORE DELETE ON quality_item
BEGIN
    SELECT RAISE(ABORT, 'quality_item is append-only');
END;

CREATE TRIGGER quality_result_no_update BEFORE UPDATE ON quality_result
BEGIN
    SELECT RAISE(ABORT, 'quality_result is append-only');
END;

CREATE TRIGGER quality_result_no_delete BEFORE DELETE ON quality_result
BEGIN
    SELECT RAISE(ABORT, 'quality_result is append-only');
END;

CREATE TRIGGER quality_evaluated_no_update BEFORE UPDATE ON quality_evaluated
BEGIN
    SELECT RAISE(ABORT, 'quality_evaluated is append-only');
END;

CREATE TRIGGER quality_evaluated_no_delete BEFORE DELETE ON quality_evaluated
BEGIN
    SELECT RAISE(ABORT, 'quality_evaluated is append-only');
END;

CREATE TRIGGER quality_evaluation_no_update BEFORE UPDATE ON quality_evaluation
BEGIN
    SELECT RAISE(ABORT, 'quality_evaluation is append-only');
END;

CREATE TRIGGER quality_evaluation_no_delete BEFORE DELETE ON quality_evaluation
BEGIN
    SELECT RAISE(ABORT, 'quality_evaluation is append-only');
END;
