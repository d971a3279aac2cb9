-- A ledger that was restored, or begins an epoch, is written to only once a witness of another city has agreed that it is
-- the newest there is. Why; null: nothing is to be confirmed.
ALTER TABLE head ADD COLUMN unconfirmed TEXT;
