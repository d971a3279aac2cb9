-- What other cities have proven to us of their ledgers.

-- Receipts of the other side of a call, beside the entry of ours that names them by their hash.
CREATE TABLE evidence (
    ledger INTEGER NOT NULL,
    idx    INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    bytes  BLOB    NOT NULL,
    PRIMARY KEY (ledger, idx, kind)
) STRICT;

CREATE TRIGGER evidence_is_final_1 BEFORE UPDATE ON evidence
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER evidence_is_final_2 BEFORE DELETE ON evidence
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;

-- Witnessed checkpoints of other logs that receipts were linked to.
CREATE TABLE witnessed (
    ledger INTEGER NOT NULL,
    origin TEXT    NOT NULL,
    size   INTEGER NOT NULL,
    -- The checkpoint with its cosignatures: a signed note.
    note   TEXT    NOT NULL,
    PRIMARY KEY (ledger, origin, size)
) STRICT, WITHOUT ROWID;

-- That the tree of a receipt's checkpoint is the beginning of the tree of a witnessed one.
CREATE TABLE link (
    ledger    INTEGER NOT NULL,
    origin    TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    root      BLOB    NOT NULL CHECK (length(root) = 32),
    -- Size of the witnessed checkpoint.
    witnessed INTEGER NOT NULL,
    -- Consistency proof (RFC 6962 §2.1.2), hashes of 32 bytes, one behind the other.
    proof     BLOB    NOT NULL,
    PRIMARY KEY (ledger, origin, size, root)
) STRICT, WITHOUT ROWID;

-- Two checkpoints that a log has signed and that cannot both be of one history.
CREATE TABLE contradiction (
    ledger  INTEGER NOT NULL,
    origin  TEXT    NOT NULL,
    time_us INTEGER NOT NULL,
    first   TEXT    NOT NULL,
    second  TEXT    NOT NULL,
    PRIMARY KEY (ledger, origin, second)
) STRICT;

-- Certificates of those who called, and CRLs, as they were: what evidence of a call needs later.
CREATE TABLE credential (
    ledger  INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    -- SHA-256 of the certificate's public key, or of the name of the CRL's city.
    name    BLOB    NOT NULL CHECK (length(name) = 32),
    -- When it was first seen here, microseconds UTC.
    time_us INTEGER NOT NULL,
    bytes   BLOB    NOT NULL,
    PRIMARY KEY (ledger, kind, name, time_us)
) STRICT;
