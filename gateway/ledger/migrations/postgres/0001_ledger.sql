-- `ledger` is in every key, so that a city can one day shard by agency. No sequences, advisory locks, LISTEN, or
-- triggers that do anything but refuse: PostgreSQL-compatible distributed databases can serve.

-- One row per ledger. Locking it orders all writers.
CREATE TABLE head (
    ledger   SMALLINT PRIMARY KEY,
    city     TEXT     NOT NULL,
    size     BIGINT   NOT NULL CHECK (size >= 0),
    -- Frontier of the RFC 6962 tree over all leaves: 32 bytes for each bit that is set in size.
    frontier BYTEA    NOT NULL,
    -- Why the ledger is frozen; null: it is not.
    frozen   TEXT
);

-- The entries, as bytes. Indices are dense.
CREATE TABLE entry (
    ledger   SMALLINT NOT NULL,
    idx      BIGINT   NOT NULL,
    kind     SMALLINT NOT NULL,
    time_us  BIGINT   NOT NULL,
    exchange UUID,
    leaf     BYTEA    NOT NULL CHECK (octet_length(leaf) = 32),
    bytes    BYTEA    NOT NULL CHECK (octet_length(bytes) <= 65535),
    PRIMARY KEY (ledger, idx)
);
CREATE INDEX entry_exchange ON entry (ledger, exchange, idx) WHERE exchange IS NOT NULL;

-- Uids apart from the entries, so that entries can be partitioned by index.
CREATE TABLE entry_uid (
    ledger SMALLINT NOT NULL,
    uid    UUID     NOT NULL,
    idx    BIGINT   NOT NULL,
    PRIMARY KEY (ledger, uid)
);

-- What each block of 1,024 entries holds: the search index.
CREATE TABLE facet (
    ledger SMALLINT NOT NULL,
    facet  SMALLINT NOT NULL,
    value  BYTEA    NOT NULL,
    block  BIGINT   NOT NULL,
    PRIMARY KEY (ledger, facet, value, block)
);

-- Private parts, encrypted under the month's key, which is never here.
CREATE TABLE private (
    ledger     SMALLINT NOT NULL,
    idx        BIGINT   NOT NULL,
    month      INTEGER  NOT NULL,
    ciphertext BYTEA    NOT NULL,
    PRIMARY KEY (ledger, idx)
);

-- Search tokens of private parts: keyed hashes. They are random; so that a growing ledger does not write all over a
-- growing index, they are kept apart by segments of 4,096 entries.
CREATE TABLE token (
    ledger  SMALLINT NOT NULL,
    segment BIGINT   NOT NULL,
    token   BYTEA    NOT NULL CHECK (octet_length(token) = 16),
    idx     BIGINT   NOT NULL,
    PRIMARY KEY (ledger, segment, token, idx)
);

-- Names of the secrets that the months' keys come from, so that replicas notice when theirs differ.
CREATE TABLE month_key (
    ledger SMALLINT NOT NULL,
    month  INTEGER  NOT NULL,
    key_id BYTEA    NOT NULL,
    PRIMARY KEY (ledger, month)
);

-- Exchanges and attempts that this city's services were called with: each is accepted once.
CREATE TABLE claim (
    ledger   SMALLINT NOT NULL,
    exchange UUID     NOT NULL,
    attempt  BIGINT   NOT NULL,
    consumer BYTEA    NOT NULL,
    idx      BIGINT   NOT NULL,
    PRIMARY KEY (ledger, exchange, attempt, consumer)
);

-- Calls that have an OPEN entry and no CLOSE.
CREATE TABLE in_flight (
    ledger   SMALLINT NOT NULL,
    exchange UUID     NOT NULL,
    attempt  BIGINT   NOT NULL,
    side     SMALLINT NOT NULL,
    peer     BYTEA    NOT NULL,
    boot     UUID     NOT NULL,
    idx      BIGINT   NOT NULL,
    PRIMARY KEY (ledger, exchange, attempt, side, peer)
);

-- Boots of replicas that are alive, or were and left calls open.
CREATE TABLE lease (
    ledger   SMALLINT NOT NULL,
    boot     UUID     NOT NULL,
    replica  TEXT     NOT NULL,
    -- Microseconds UTC by the database's clock.
    until_us BIGINT   NOT NULL,
    -- Another replica closes its calls: it may not write any more.
    fenced   BOOLEAN  NOT NULL,
    PRIMARY KEY (ledger, boot)
);

-- Documents that change together with their ADMIN entries.
CREATE TABLE document (
    ledger SMALLINT NOT NULL,
    kind   SMALLINT NOT NULL,
    key    BYTEA    NOT NULL,
    bytes  BYTEA    NOT NULL,
    PRIMARY KEY (ledger, kind, key)
);
CREATE TABLE document_revision (
    ledger   SMALLINT PRIMARY KEY,
    revision BIGINT   NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of a ledger are never changed or removed' USING ERRCODE = '42501';
END
$$;
CREATE TRIGGER entry_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entry_uid_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON entry_uid
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER claim_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON claim
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
