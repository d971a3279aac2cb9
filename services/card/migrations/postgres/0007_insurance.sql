-- Periods of insured persons, one at a time for a person and scheme. Dates are YYYY-MM-DD; schemes, statuses and states are the
-- numbers of banqiao.card.v1.
CREATE TABLE insurance_period (
    social_security_number text NOT NULL,
    scheme integer NOT NULL CHECK (scheme BETWEEN 1 AND 8),
    insured_division text NOT NULL,
    begins_on text NOT NULL,
    ends_on text CHECK (ends_on IS NULL OR ends_on >= begins_on),
    insured_status integer NOT NULL CHECK (insured_status BETWEEN 1 AND 4),
    treatment_state integer NOT NULL CHECK (treatment_state BETWEEN 1 AND 4),
    suspended_from text,
    suspended_until text,
    as_of text NOT NULL,
    PRIMARY KEY (social_security_number, scheme, begins_on),
    CHECK ((suspended_from IS NULL) = (suspended_until IS NULL))
);

-- Writers take this row first and hold it until commit, so that no two of them make periods that overlap.
CREATE TABLE insurance_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    writes bigint NOT NULL
);

INSERT INTO insurance_head (id, writes) VALUES (1, 0);
