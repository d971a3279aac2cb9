-- Index ranges, and what is in them: the search index. It is made behind the commits, of complete units only, and a
-- ledger that was written before gets it when it is opened. A unit is 2^level entries from index n * 2^level on:
-- segments (12), chunks (14) and ranges (22). Every key begins with the unit, so that all that belongs to a range lies
-- together and can leave with it.

-- Complete units with their earliest and latest time.
CREATE TABLE span (
    ledger   INTEGER NOT NULL,
    level    INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    last_us  INTEGER NOT NULL,
    PRIMARY KEY (ledger, level, n)
) STRICT, WITHOUT ROWID;

-- Which entries of a segment or chunk hold a value: a list of numbers, or a bit for each entry. With row ids, because
-- rows are large.
CREATE TABLE posting (
    ledger  INTEGER NOT NULL,
    level   INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    facet   INTEGER NOT NULL,
    value   BLOB    NOT NULL,
    entries BLOB    NOT NULL,
    PRIMARY KEY (ledger, level, n, facet, value)
) STRICT;

-- Which blocks hold a value: of no more use.
DROP TABLE facet;
