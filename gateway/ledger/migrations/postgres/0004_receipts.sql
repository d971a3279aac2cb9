-- What other cities have proven to us of their ledgers.

-- Receipts of the other side of a call, beside the entry of ours that names them by their hash.
CREATE TABLE evidence (
    ledger SMALLINT NOT NULL,
    idx    BIGINT   NOT NULL,
    kind   SMALLINT NOT NULL,
    bytes  BYTEA    NOT NULL,
    PRIMARY KEY (ledger, idx, kind)
);
ALTER TABLE evidence ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TRIGGER evidence_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Witnessed checkpoints of other logs that receipts were linked to.
CREATE TABLE witnessed (
    ledger SMALLINT NOT NULL,
    origin TEXT     NOT NULL,
    size   BIGINT   NOT NULL,
    -- The checkpoint with its cosignatures: a signed note.
    note   TEXT     NOT NULL,
    PRIMARY KEY (ledger, origin, size)
);

-- That the tree of a receipt's checkpoint is the beginning of the tree of a witnessed one.
CREATE TABLE link (
    ledger    SMALLINT NOT NULL,
    origin    TEXT     NOT NULL,
    size      BIGINT   NOT NULL,
    root      BYTEA    NOT NULL CHECK (length(root) = 32),
    -- Size of the witnessed checkpoint.
    witnessed BIGINT   NOT NULL,
    -- Consistency proof (RFC 6962 §2.1.2), hashes of 32 bytes, one behind the other.
    proof     BYTEA    NOT NULL,
    PRIMARY KEY (ledger, origin, size, root)
);

-- Two checkpoints that a log has signed and that cannot both be of one history.
CREATE TABLE contradiction (
    ledger  SMALLINT NOT NULL,
    origin  TEXT     NOT NULL,
    time_us BIGINT   NOT NULL,
    first   TEXT     NOT NULL,
    second  TEXT     NOT NULL,
    PRIMARY KEY (ledger, origin, second)
);

-- Certificates of those who called, and CRLs, as they were: what evidence of a call needs later.
CREATE TABLE credential (
    ledger  SMALLINT NOT NULL,
    kind    SMALLINT NOT NULL,
    -- SHA-256 of the certificate's public key, or of the name of the CRL's city.
    name    BYTEA    NOT NULL CHECK (length(name) = 32),
    -- When it was first seen here, microseconds UTC.
    time_us BIGINT   NOT NULL,
    bytes   BYTEA    NOT NULL,
    PRIMARY KEY (ledger, kind, name, time_us)
);
