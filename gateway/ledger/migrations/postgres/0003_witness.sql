-- What the other cities' witnesses said of our checkpoints, and what ours has cosigned of theirs.

CREATE TABLE cosignature (
    ledger  SMALLINT NOT NULL,
    size    BIGINT   NOT NULL,
    -- Name of the witness's key.
    witness TEXT     NOT NULL,
    -- When it cosigned, seconds since 1970.
    time_s  BIGINT   NOT NULL,
    -- The signature line.
    line    TEXT     NOT NULL,
    PRIMARY KEY (ledger, size, witness)
);

-- The newest checkpoint of each log that our witness has cosigned. It only moves forward.
CREATE TABLE witness_state (
    ledger SMALLINT NOT NULL,
    origin TEXT     NOT NULL,
    size   BIGINT   NOT NULL,
    root   BYTEA    NOT NULL CHECK (length(root) = 32),
    note   TEXT     NOT NULL,
    PRIMARY KEY (ledger, origin)
);
