-- Which chunks of a group hold a search token: of each token its first bits and a chunk's place in the group, in three
-- bytes, sorted. It is made behind the commits, of complete groups only; a ledger that was written before gets it when
-- it is opened.
CREATE TABLE presence (
    ledger SMALLINT NOT NULL,
    level  SMALLINT NOT NULL,
    n      BIGINT   NOT NULL,
    part   SMALLINT NOT NULL,
    pairs  BYTEA    NOT NULL,
    PRIMARY KEY (ledger, level, n, part)
);
-- Pairs do not compress, and they are read where their key is.
ALTER TABLE presence ALTER COLUMN pairs SET STORAGE EXTERNAL;
ALTER TABLE presence SET (toast_tuple_target = 4080);
