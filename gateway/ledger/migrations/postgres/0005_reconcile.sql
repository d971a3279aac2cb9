-- How far this ledger is compared with those of other cities.

CREATE TABLE reconcile (
    ledger   SMALLINT NOT NULL,
    -- Code of the other city.
    city     TEXT     NOT NULL,
    -- Exchanges whose id was made before this are compared, milliseconds UTC.
    until_ms BIGINT   NOT NULL,
    -- When that was, microseconds UTC; 0: never.
    at_us    BIGINT   NOT NULL,
    -- Discrepancies that were found so far.
    found    BIGINT   NOT NULL,
    -- The boot that compares now, and until when it does, microseconds UTC by the database's clock: one replica does
    -- it at a time.
    holder   UUID,
    held_us  BIGINT   NOT NULL,
    PRIMARY KEY (ledger, city)
);

-- Attempts before that moment that had not ended when they were compared: they are looked at again.
CREATE TABLE reconcile_open (
    ledger   SMALLINT NOT NULL,
    city     TEXT     NOT NULL,
    exchange UUID     NOT NULL,
    attempt  BIGINT   NOT NULL,
    PRIMARY KEY (ledger, city, exchange, attempt)
);
