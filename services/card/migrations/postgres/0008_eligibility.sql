-- What is known of a person's eligibility. Dates are YYYY-MM-DD; enumerations are the numbers of banqiao.card.v1. The columns of the
-- payment come from the bureau's own records, by an import.
CREATE TABLE eligibility_person (
    social_security_number text NOT NULL,
    scheme integer NOT NULL,
    payment integer CHECK (payment BETWEEN 1 AND 3),
    not_paid_from text,
    due_on text,
    confirmed_on text,
    confirmed_until text,
    confirmed_city text,
    confirmed_method integer,
    adverse integer CHECK (adverse IN (2, 3)),
    adverse_on text,
    adverse_city text,
    adverse_method integer,
    investigation bigint,
    resumption text,
    PRIMARY KEY (social_security_number, scheme),
    CHECK ((payment IS NULL) = (due_on IS NULL)),
    CHECK ((payment IN (2, 3)) = (not_paid_from IS NOT NULL) OR payment IS NULL),
    CHECK ((confirmed_on IS NULL) = (confirmed_until IS NULL)),
    CHECK ((adverse IS NULL) = (adverse_on IS NULL))
);

-- Every check, investigation and instruction, in the order of their commits: the history, and what watchers read.
CREATE TABLE eligibility_event (
    seq bigint PRIMARY KEY,
    social_security_number text NOT NULL,
    scheme integer NOT NULL,
    kind integer NOT NULL CHECK (kind BETWEEN 1 AND 4),
    paying_city text NOT NULL,
    city text NOT NULL,
    result integer NOT NULL,
    method integer NOT NULL,
    life_evidence integer NOT NULL,
    loss_evidence integer NOT NULL,
    on_day text,
    valid_until text,
    investigation bigint,
    outcome integer NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    arrears_from text,
    client text NOT NULL,
    exchange text NOT NULL,
    recorded_at bigint NOT NULL,
    -- Evidence of life and evidence of loss never stand in one entry.
    CHECK (life_evidence = 0 OR loss_evidence = 0)
);

CREATE INDEX eligibility_event_person ON eligibility_event (social_security_number, scheme, seq);
CREATE INDEX eligibility_event_city ON eligibility_event (paying_city, seq);

CREATE TRIGGER eligibility_event_append_only BEFORE UPDATE OR DELETE ON eligibility_event
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER eligibility_event_no_truncate BEFORE TRUNCATE ON eligibility_event
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- First answers. A request id belongs to the client that chose it.
CREATE TABLE eligibility_request (
    client text NOT NULL,
    request_id text NOT NULL,
    request_digest bytea NOT NULL CHECK (length(request_digest) = 32),
    answer bytea NOT NULL,
    PRIMARY KEY (client, request_id)
);

CREATE TRIGGER eligibility_request_append_only BEFORE UPDATE OR DELETE ON eligibility_request
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER eligibility_request_no_truncate BEFORE TRUNCATE ON eligibility_request
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Investigations, by the number of the entry that opened each.
CREATE TABLE investigation (
    id bigint PRIMARY KEY,
    social_security_number text NOT NULL,
    scheme integer NOT NULL,
    loss_evidence integer NOT NULL,
    city text NOT NULL,
    opened_at bigint NOT NULL,
    outcome integer NOT NULL CHECK (outcome BETWEEN 0 AND 2),
    actor text NOT NULL,
    reason text NOT NULL,
    concluded_at bigint,
    CHECK ((outcome = 0) = (concluded_at IS NULL))
);

CREATE INDEX investigation_open ON investigation (id) WHERE outcome = 0;

-- Who is due in a month, and where each stands. One row for a person and month; the number orders the pages.
CREATE TABLE eligibility_due (
    id bigint PRIMARY KEY,
    scheme integer NOT NULL,
    month text NOT NULL,
    social_security_number text NOT NULL,
    due_on text NOT NULL,
    status integer NOT NULL CHECK (status BETWEEN 1 AND 5),
    verified_on text,
    city text NOT NULL,
    UNIQUE (scheme, month, social_security_number)
);

CREATE INDEX eligibility_due_month ON eligibility_due (scheme, month, id);

-- Numbers of the last entry and of the last row of a campaign. Writers take this row first and hold it until commit, so that a reader
-- who sees a number has seen every smaller one, and so that a decision rests on what no other writer changes.
CREATE TABLE eligibility_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL,
    due bigint NOT NULL
);

INSERT INTO eligibility_head (id, seq, due) VALUES (1, 0, 0);
