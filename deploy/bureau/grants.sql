-- What the card service may do in the bureau's tables, and the schema of its own. Its user reads the views and writes what the
-- statements of the mapping write; nothing is deleted.
CREATE SCHEMA banqiao_card AUTHORIZATION card;
GRANT USAGE ON SCHEMA hrss TO card;
GRANT SELECT ON hrss.card_for_network, hrss.insurance_for_network, hrss.payment_for_network TO card;
GRANT SELECT, INSERT, UPDATE ON hrss.ac01, hrss.ac02, hrss.card_base, hrss.payee TO card;
