-- A card as its city issued it. Dates are YYYY-MM-DD, times are microseconds since 1970-01-01 UTC, states are the numbers of
-- banqiao.card.v1.CardState without EXPIRED, which is computed.
CREATE TABLE card (
    card_number text PRIMARY KEY,
    social_security_number text NOT NULL,
    name text NOT NULL,
    card_identification_code text NOT NULL UNIQUE,
    issuing_division text NOT NULL,
    issued_on text NOT NULL,
    expires_on text NOT NULL,
    social_state smallint NOT NULL CHECK (social_state BETWEEN 1 AND 6),
    social_until bigint,
    social_reported boolean NOT NULL,
    financial_state smallint NOT NULL CHECK (financial_state BETWEEN 1 AND 6),
    financial_until bigint,
    financial_reported boolean NOT NULL,
    electronic boolean NOT NULL,
    specification_version text NOT NULL,
    salt bytea NOT NULL CHECK (length(salt) = 32),
    version bigint NOT NULL,
    -- Only a temporary loss ends by itself, and only a loss can have been reported.
    CHECK ((social_state = 3) = (social_until IS NOT NULL)),
    CHECK ((financial_state = 3) = (financial_until IS NOT NULL)),
    CHECK (NOT social_reported OR social_state IN (3, 4)),
    CHECK (NOT financial_reported OR financial_state IN (3, 4))
);

CREATE INDEX card_social_until ON card (social_until) WHERE social_until IS NOT NULL;
CREATE INDEX card_financial_until ON card (financial_until) WHERE financial_until IS NOT NULL;
