-- Months whose keys are destroyed, by an ERASE entry. A replica that still has the file of one removes it.
CREATE TABLE retired_month (
    ledger  SMALLINT NOT NULL,
    month   INTEGER  NOT NULL,
    -- When that was entered, microseconds since 1970.
    time_us BIGINT   NOT NULL,
    PRIMARY KEY (ledger, month)
);
