-- What is known of a person's eligibility. Dates are YYYY-MM-DD; enumerations are the numbers of banqiao.card.v1. The columns of the
-- payment come from the bureau's own records, by an import.
CREATE TABLE eligibility_person (
    social_security_number TEXT NOT NULL,
    scheme INTEGER NOT NULL,
    payment INTEGER CHECK (payment BETWEEN 1 AND 3),
    not_paid_from TEXT,
    due_on TEXT,
    confirmed_on TEXT,
    confirmed_until TEXT,
    confirmed_city TEXT,
    confirmed_method INTEGER,
    adverse INTEGER CHECK (adverse IN (2, 3)),
    adverse_on TEXT,
    adverse_city TEXT,
    adverse_method INTEGER,
    investigation INTEGER,
    resumption TEXT,
    PRIMARY KEY (social_security_number, scheme),
    CHECK ((payment IS NULL) = (due_on IS NULL)),
    CHECK ((payment IN (2, 3)) = (not_paid_from IS NOT NULL) OR payment IS NULL),
    CHECK ((confirmed_on IS NULL) = (confirmed_until IS NULL)),
    CHECK ((adverse IS NULL) = (adverse_on IS NULL))
) STRICT;

-- Every check, investigation and instruction, in the order of their commits: the history, and what watchers read.
CREATE TABLE eligibility_event (
    seq INTEGER PRIMARY KEY,
    social_security_number TEXT NOT NULL,
    scheme INTEGER NOT NULL,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 4),
    paying_city TEXT NOT NULL,
    city TEXT NOT NULL,
    result INTEGER NOT NULL,
    method INTEGER NOT NULL,
    life_evidence INTEGER NOT NULL,
    loss_evidence INTEGER NOT NULL,
    on_day TEXT,
    valid_until TEXT,
    investigation INTEGER,
    outcome INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    arrears_from TEXT,
    client TEXT NOT NULL,
    exchange TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    -- Evidence of life and evidence of loss never stand in one entry.
    CHECK (life_evidence = 0 OR loss_evidence = 0)
) STRICT;

CREATE INDEX eligibility_event_person ON eligibility_event (social_security_number, scheme, seq);
CREATE INDEX eligibility_event_city ON eligibility_event (paying_city, seq);

CREATE TRIGGER eligibility_event_no_update BEFORE UPDATE ON eligibility_event
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;

CREATE TRIGGER eligibility_event_no_delete BEFORE DELETE ON eligibility_event
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;

-- First answers. A request id belongs to the client that chose it.
CREATE TABLE eligibility_request (
    client TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request_digest BLOB NOT NULL CHECK (length(request_digest) = 32),
    answer BLOB NOT NULL,
    PRIMARY KEY (client, request_id)
) STRICT;

CREATE TRIGGER eligibility_request_no_update BEFORE UPDATE ON eligibility_request
BEGIN SELECT RAISE(ABORT, 'first answers are append-only'); END;

CREATE TRIGGER eligibility_request_no_delete BEFORE DELETE ON eligibility_request
BEGIN SELECT RAISE(ABORT, 'first answers are append-only'); END;

-- Investigations, by the number of the entry that opened each.
CREATE TABLE investigation (
    id INTEGER PRIMARY KEY,
    social_security_number TEXT NOT NULL,
    scheme INTEGER NOT NULL,
    loss_evidence INTEGER NOT NULL,
    city TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    outcome INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 2),
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    concluded_at INTEGER,
    CHECK ((outcome = 0) = (concluded_at IS NULL))
) STRICT;

CREATE INDEX investigation_open ON investigation (id) WHERE outcome = 0;

-- Who is due in a month, and where each stands. One row for a person and month; the number orders the pages.
CREATE TABLE eligibility_due (
    id INTEGER PRIMARY KEY,
    scheme INTEGER NOT NULL,
    month TEXT NOT NULL,
    social_security_number TEXT NOT NULL,
    due_on TEXT NOT NULL,
    status INTEGER NOT NULL CHECK (status BETWEEN 1 AND 5),
    verified_on TEXT,
    city TEXT NOT NULL,
    UNIQUE (scheme, month, social_security_number)
) STRICT;

CREATE INDEX eligibility_due_month ON eligibility_due (scheme, month, id);

-- Numbers of the last entry and of the last row of a campaign. Writers take this row first and hold it until commit, so that a reader
-- who sees a number has seen every smaller one, and so that a decision rests on what no other writer changes.
CREATE TABLE eligibility_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL,
    due INTEGER NOT NULL
) STRICT;

INSERT INTO eligibility_head (id, seq, due) VALUES (1, 0, 0);
