-- Months whose keys are destroyed, by an ERASE entry. A replica that still has the file of one removes it.
CREATE TABLE retired_month (
    ledger  INTEGER NOT NULL,
    month   INTEGER NOT NULL,
    -- When that was entered, microseconds since 1970.
    time_us INTEGER NOT NULL,
    PRIMARY KEY (ledger, month)
) STRICT, WITHOUT ROWID;
