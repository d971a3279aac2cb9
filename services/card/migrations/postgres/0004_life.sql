-- The life of a card: wrong PINs in a row, and the cards before and after it.
ALTER TABLE card ADD COLUMN wrong_pins smallint NOT NULL DEFAULT 0 CHECK (wrong_pins BETWEEN 0 AND 5);
-- Issued or moved here by an application, so that an import of older data does not take it away.
ALTER TABLE card ADD COLUMN electronic_issued boolean NOT NULL DEFAULT false;
ALTER TABLE card ADD COLUMN predecessor text REFERENCES card (card_number);
ALTER TABLE card ADD COLUMN successor text REFERENCES card (card_number);

-- Causes are a set of the program, which refuses a row whose cause it does not know; 3 is the electronic card.
ALTER TABLE card_change DROP CONSTRAINT card_change_cause_check;
ALTER TABLE card_change ADD CHECK (cause <> '');
ALTER TABLE card_change DROP CONSTRAINT card_change_function_check;
ALTER TABLE card_change ADD CHECK (function IN (1, 2, 3));

-- Loss reports and applications share one namespace of request ids. An application keeps its whole answer, and the identity
-- verification that it used up.
ALTER TABLE loss_report RENAME TO service_request;
ALTER TABLE service_request ADD COLUMN outcome bytea;
ALTER TABLE service_request ADD COLUMN verification bytea CHECK (length(verification) = 32);
ALTER TABLE service_request ADD COLUMN verification_method smallint CHECK (verification_method BETWEEN 1 AND 3);
ALTER TABLE service_request ADD CHECK ((verification IS NULL) = (verification_method IS NULL));
CREATE UNIQUE INDEX service_request_verification ON service_request (client, verification)
WHERE verification IS NOT NULL;

-- New cards that were produced and are nobody's yet.
CREATE TABLE blank_card (
    card_number text PRIMARY KEY,
    card_identification_code text NOT NULL UNIQUE,
    specification_version text NOT NULL
);
