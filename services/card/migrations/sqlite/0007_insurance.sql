-- Periods of insured persons, one at a time for a person and scheme. Dates are YYYY-MM-DD; schemes, statuses and states are the
-- numbers of banqiao.card.v1.
CREATE TABLE insurance_period (
    social_security_number TEXT NOT NULL,
    scheme INTEGER NOT NULL CHECK (scheme BETWEEN 1 AND 8),
    insured_division TEXT NOT NULL,
    begins_on TEXT NOT NULL,
    ends_on TEXT CHECK (ends_on IS NULL OR ends_on >= begins_on),
    insured_status INTEGER NOT NULL CHECK (insured_status BETWEEN 1 AND 4),
    treatment_state INTEGER NOT NULL CHECK (treatment_state BETWEEN 1 AND 4),
    suspended_from TEXT,
    suspended_until TEXT,
    as_of TEXT NOT NULL,
    PRIMARY KEY (social_security_number, scheme, begins_on),
    CHECK ((suspended_from IS NULL) = (suspended_until IS NULL))
) STRICT;

-- Writers take this row first and hold it until commit, so that no two of them make periods that overlap.
CREATE TABLE insurance_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    writes INTEGER NOT NULL
) STRICT;

INSERT INTO insurance_head (id, writes) VALUES (1, 0);
