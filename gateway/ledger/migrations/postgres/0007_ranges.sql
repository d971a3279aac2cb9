-- Index ranges, and what is in them: the search index. It is made behind the commits, of complete units only, and a
-- ledger that was written before gets it when it is opened. A unit is 2^level entries from index n * 2^level on:
-- segments (12), chunks (14) and ranges (22). Every key begins with the unit, so that all that belongs to a range lies
-- together and can leave with it.

-- Complete units with their earliest and latest time.
CREATE TABLE span (
    ledger   SMALLINT NOT NULL,
    level    SMALLINT NOT NULL,
    n        BIGINT   NOT NULL,
    first_us BIGINT   NOT NULL,
    last_us  BIGINT   NOT NULL,
    PRIMARY KEY (ledger, level, n)
);

-- Which entries of a segment or chunk hold a value: a list of numbers, or a bit for each entry.
CREATE TABLE posting (
    ledger  SMALLINT NOT NULL,
    level   SMALLINT NOT NULL,
    n       BIGINT   NOT NULL,
    facet   SMALLINT NOT NULL,
    value   BYTEA    NOT NULL,
    entries BYTEA    NOT NULL,
    PRIMARY KEY (ledger, level, n, facet, value)
);
-- Sets do not compress, and with at most 2,049 bytes they are read where their key is.
ALTER TABLE posting ALTER COLUMN entries SET STORAGE EXTERNAL;
ALTER TABLE posting SET (toast_tuple_target = 4080);

-- Which blocks hold a value: of no more use.
DROP TABLE facet;
