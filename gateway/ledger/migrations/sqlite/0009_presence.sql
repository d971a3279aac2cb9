-- Which chunks of a group hold a search token: of each token its first bits and a chunk's place in the group, in three
-- bytes, sorted. It is made behind the commits, of complete groups only; a ledger that was written before gets it when
-- it is opened. With row ids, because rows are large.
CREATE TABLE presence (
    ledger INTEGER NOT NULL,
    level  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    part   INTEGER NOT NULL,
    pairs  BLOB    NOT NULL,
    PRIMARY KEY (ledger, level, n, part)
) STRICT;
