-- How far this ledger is compared with those of other cities.

CREATE TABLE reconcile (
    ledger   INTEGER NOT NULL,
    -- Code of the other city.
    city     TEXT    NOT NULL,
    -- Exchanges whose id was made before this are compared, milliseconds UTC.
    until_ms INTEGER NOT NULL,
    -- When that was, microseconds UTC; 0: never.
    at_us    INTEGER NOT NULL,
    -- Discrepancies that were found so far.
    found    INTEGER NOT NULL,
    -- The boot that compares now, and until when it does, microseconds UTC: one replica does it at a time.
    holder   BLOB,
    held_us  INTEGER NOT NULL,
    PRIMARY KEY (ledger, city)
) STRICT, WITHOUT ROWID;

-- Attempts before that moment that had not ended when they were compared: they are looked at again.
CREATE TABLE reconcile_open (
    ledger   INTEGER NOT NULL,
    city     TEXT    NOT NULL,
    exchange BLOB    NOT NULL CHECK (length(exchange) = 16),
    attempt  INTEGER NOT NULL,
    PRIMARY KEY (ledger, city, exchange, attempt)
) STRICT, WITHOUT ROWID;
