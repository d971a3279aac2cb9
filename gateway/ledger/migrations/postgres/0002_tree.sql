-- The tree over the entries: full tiles, the newest checkpoint, and those that were published.

-- Origin of the log; null until a gateway with a key has opened the ledger.
ALTER TABLE head ADD COLUMN origin TEXT;
-- The checkpoint of the size above: a signed note. Null until the first commit with a key.
ALTER TABLE head ADD COLUMN note TEXT;

-- Full tiles: 256 hashes each. Hashes do not compress.
CREATE TABLE tile (
    ledger SMALLINT NOT NULL,
    level  SMALLINT NOT NULL,
    n      BIGINT   NOT NULL,
    root   BYTEA    NOT NULL CHECK (length(root) = 32),
    bytes  BYTEA    NOT NULL CHECK (length(bytes) = 8192),
    PRIMARY KEY (ledger, level, n)
);
ALTER TABLE tile ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Checkpoints that others may have seen: at most one a second, and none but these is asked for again.
CREATE TABLE checkpoint (
    ledger  SMALLINT NOT NULL,
    size    BIGINT   NOT NULL,
    time_us BIGINT   NOT NULL,
    note    TEXT     NOT NULL,
    PRIMARY KEY (ledger, size)
);

CREATE TRIGGER tile_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON tile
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER checkpoint_is_final BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
