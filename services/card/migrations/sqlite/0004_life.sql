-- The life of a card: wrong PINs in a row, and the cards before and after it.
ALTER TABLE card ADD COLUMN wrong_pins INTEGER NOT NULL DEFAULT 0 CHECK (wrong_pins BETWEEN 0 AND 5);
-- Issued or moved here by an application, so that an import of older data does not take it away.
ALTER TABLE card ADD COLUMN electronic_issued INTEGER NOT NULL DEFAULT 0 CHECK (electronic_issued IN (0, 1));
ALTER TABLE card ADD COLUMN predecessor TEXT REFERENCES card (card_number);
ALTER TABLE card ADD COLUMN successor TEXT REFERENCES card (card_number);

-- Causes are a set of the program, which refuses a row whose cause it does not know; 3 is the electronic card. SQLite changes no
-- constraint, so the table is made again.
DROP TRIGGER card_change_no_update;
DROP TRIGGER card_change_no_delete;
ALTER TABLE card_change RENAME TO card_change_before;
DROP INDEX card_change_card;

CREATE TABLE card_change (
    seq INTEGER PRIMARY KEY,
    card_number TEXT NOT NULL REFERENCES card (card_number),
    function INTEGER NOT NULL CHECK (function IN (1, 2, 3)),
    from_state INTEGER NOT NULL CHECK (from_state BETWEEN 0 AND 6),
    to_state INTEGER NOT NULL CHECK (to_state BETWEEN 1 AND 6),
    actor_city TEXT NOT NULL,
    cause TEXT NOT NULL CHECK (cause <> ''),
    changed_at INTEGER NOT NULL,
    client TEXT,
    exchange TEXT
) STRICT;

INSERT INTO card_change
SELECT seq, card_number, function, from_state, to_state, actor_city, cause, changed_at, client, exchange
FROM card_change_before;
DROP TABLE card_change_before;

CREATE INDEX card_change_card ON card_change (card_number, seq);

CREATE TRIGGER card_change_no_update BEFORE UPDATE ON card_change
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;

CREATE TRIGGER card_change_no_delete BEFORE DELETE ON card_change
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;

-- Loss reports and applications share one namespace of request ids. An application keeps its whole answer, and the identity
-- verification that it used up.
ALTER TABLE loss_report RENAME TO service_request;
ALTER TABLE service_request ADD COLUMN outcome BLOB;
ALTER TABLE service_request ADD COLUMN verification BLOB CHECK (length(verification) = 32);
ALTER TABLE service_request ADD COLUMN verification_method INTEGER CHECK (verification_method BETWEEN 1 AND 3);
CREATE UNIQUE INDEX service_request_verification ON service_request (client, verification)
WHERE verification IS NOT NULL;

-- New cards that were produced and are nobody's yet.
CREATE TABLE blank_card (
    card_number TEXT PRIMARY KEY,
    card_identification_code TEXT NOT NULL UNIQUE,
    specification_version TEXT NOT NULL
) STRICT;
