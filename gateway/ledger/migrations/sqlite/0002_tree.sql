-- The tree over the entries: full tiles, the newest checkpoint, and those that were published.

-- Origin of the log; null until a gateway with a key has opened the ledger.
ALTER TABLE head ADD COLUMN origin TEXT;
-- The checkpoint of the size above: a signed note. Null until the first commit with a key.
ALTER TABLE head ADD COLUMN note TEXT;

-- Full tiles: 256 hashes each. `root` stands before `bytes`, so that it is read without them.
CREATE TABLE tile (
    ledger INTEGER NOT NULL,
    level  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    root   BLOB    NOT NULL CHECK (length(root) = 32),
    bytes  BLOB    NOT NULL CHECK (length(bytes) = 8192),
    PRIMARY KEY (ledger, level, n)
) STRICT;

-- Checkpoints that others may have seen: at most one a second, and none but these is asked for again.
CREATE TABLE checkpoint (
    ledger  INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    note    TEXT    NOT NULL,
    PRIMARY KEY (ledger, size)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tile_is_final_1 BEFORE UPDATE ON tile
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER tile_is_final_2 BEFORE DELETE ON tile
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER checkpoint_is_final_1 BEFORE UPDATE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
CREATE TRIGGER checkpoint_is_final_2 BEFORE DELETE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
