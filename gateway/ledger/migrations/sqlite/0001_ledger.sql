-- `ledger` is in every key, so that a city can one day shard by agency.

-- One row per ledger.
CREATE TABLE head (
    ledger   INTEGER PRIMARY KEY,
    city     TEXT    NOT NULL,
    size     INTEGER NOT NULL CHECK (size >= 0),
    -- Frontier of the RFC 6962 tree over all leaves: 32 bytes for each bit that is set in size.
    frontier BLOB    NOT NULL,
    -- Why the ledger is frozen; null: it is not.
    frozen   TEXT
) STRICT;

-- The entries, as bytes. Indices are dense.
CREATE TABLE entry (
    ledger   INTEGER NOT NULL,
    idx      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    time_us  INTEGER NOT NULL,
    exchange BLOB,
    leaf     BLOB    NOT NULL CHECK (length(leaf) = 32),
    bytes    BLOB    NOT NULL CHECK (length(bytes) <= 65535),
    PRIMARY KEY (ledger, idx)
) STRICT;
CREATE INDEX entry_exchange ON entry (ledger, exchange, idx) WHERE exchange IS NOT NULL;

-- Uids apart from the entries, so that entries can be moved to segment files by index.
CREATE TABLE entry_uid (
    ledger INTEGER NOT NULL,
    uid    BLOB    NOT NULL CHECK (length(uid) = 16),
    idx    INTEGER NOT NULL,
    PRIMARY KEY (ledger, uid)
) STRICT, WITHOUT ROWID;

-- What each block of 1,024 entries holds: the search index.
CREATE TABLE facet (
    ledger INTEGER NOT NULL,
    facet  INTEGER NOT NULL,
    value  BLOB    NOT NULL,
    block  INTEGER NOT NULL,
    PRIMARY KEY (ledger, facet, value, block)
) STRICT, WITHOUT ROWID;

-- Private parts, encrypted under the month's key, which is never here.
CREATE TABLE private (
    ledger     INTEGER NOT NULL,
    idx        INTEGER NOT NULL,
    month      INTEGER NOT NULL,
    ciphertext BLOB    NOT NULL,
    PRIMARY KEY (ledger, idx)
) STRICT, WITHOUT ROWID;

-- Search tokens of private parts: keyed hashes. They are random; so that a growing ledger does not write all over a
-- growing index, they are kept apart by segments of 4,096 entries.
CREATE TABLE token (
    ledger  INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    token   BLOB    NOT NULL CHECK (length(token) = 16),
    idx     INTEGER NOT NULL,
    PRIMARY KEY (ledger, segment, token, idx)
) STRICT, WITHOUT ROWID;

-- Names of the secrets that the months' keys come from, so that a wrong folder of keys is noticed.
CREATE TABLE month_key (
    ledger INTEGER NOT NULL,
    month  INTEGER NOT NULL,
    key_id BLOB    NOT NULL,
    PRIMARY KEY (ledger, month)
) STRICT, WITHOUT ROWID;

-- Exchanges and attempts that this city's services were called with: each is accepted once.
CREATE TABLE claim (
    ledger   INTEGER NOT NULL,
    exchange BLOB    NOT NULL CHECK (length(exchange) = 16),
    attempt  INTEGER NOT NULL,
    consumer BLOB    NOT NULL,
    idx      INTEGER NOT NULL,
    PRIMARY KEY (ledger, exchange, attempt, consumer)
) STRICT, WITHOUT ROWID;

-- Calls that have an OPEN entry and no CLOSE.
CREATE TABLE in_flight (
    ledger   INTEGER NOT NULL,
    exchange BLOB    NOT NULL CHECK (length(exchange) = 16),
    attempt  INTEGER NOT NULL,
    side     INTEGER NOT NULL,
    peer     BLOB    NOT NULL,
    boot     BLOB    NOT NULL CHECK (length(boot) = 16),
    idx      INTEGER NOT NULL,
    PRIMARY KEY (ledger, exchange, attempt, side, peer)
) STRICT, WITHOUT ROWID;

-- Boots that are alive, or were and left calls open. One process owns the file, so every boot but its own is over.
CREATE TABLE lease (
    ledger  INTEGER NOT NULL,
    boot    BLOB    NOT NULL CHECK (length(boot) = 16),
    replica TEXT    NOT NULL,
    -- Microseconds UTC of the last sign of life.
    seen_us INTEGER NOT NULL,
    -- Its calls are being closed: it may not write any more.
    fenced  INTEGER NOT NULL,
    PRIMARY KEY (ledger, boot)
) STRICT, WITHOUT ROWID;

-- Documents that change together with their ADMIN entries.
CREATE TABLE document (
    ledger INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    key    BLOB    NOT NULL,
    bytes  BLOB    NOT NULL,
    PRIMARY KEY (ledger, kind, key)
) STRICT;
CREATE TABLE document_revision (
    ledger   INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT;

CREATE TRIGGER entry_is_final_1 BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER entry_is_final_2 BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER entry_uid_is_final_1 BEFORE UPDATE ON entry_uid
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER entry_uid_is_final_2 BEFORE DELETE ON entry_uid
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER claim_is_final_1 BEFORE UPDATE ON claim
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER claim_is_final_2 BEFORE DELETE ON claim
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
