-- A card as its city issued it. Dates are YYYY-MM-DD, times are microseconds since 1970-01-01 UTC, states are the numbers of
-- banqiao.card.v1.CardState without EXPIRED, which is computed.
CREATE TABLE card (
    card_number TEXT PRIMARY KEY,
    social_security_number TEXT NOT NULL,
    name TEXT NOT NULL,
    card_identification_code TEXT NOT NULL UNIQUE,
    issuing_division TEXT NOT NULL,
    issued_on TEXT NOT NULL,
    expires_on TEXT NOT NULL,
    social_state INTEGER NOT NULL CHECK (social_state BETWEEN 1 AND 6),
    social_until INTEGER,
    social_reported INTEGER NOT NULL CHECK (social_reported IN (0, 1)),
    financial_state INTEGER NOT NULL CHECK (financial_state BETWEEN 1 AND 6),
    financial_until INTEGER,
    financial_reported INTEGER NOT NULL CHECK (financial_reported IN (0, 1)),
    electronic INTEGER NOT NULL CHECK (electronic IN (0, 1)),
    specification_version TEXT NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    version INTEGER NOT NULL,
    -- Only a temporary loss ends by itself, and only a loss can have been reported.
    CHECK ((social_state = 3) = (social_until IS NOT NULL)),
    CHECK ((financial_state = 3) = (financial_until IS NOT NULL)),
    CHECK (social_reported = 0 OR social_state IN (3, 4)),
    CHECK (financial_reported = 0 OR financial_state IN (3, 4))
) STRICT;

CREATE INDEX card_social_until ON card (social_until) WHERE social_until IS NOT NULL;
CREATE INDEX card_financial_until ON card (financial_until) WHERE financial_until IS NOT NULL;
