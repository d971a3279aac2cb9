-- Entries below this index were moved to an archive, and their rows may go.
ALTER TABLE head ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;

-- Rows of entries and of their evidence are final until their ledger says that they are archived.
DROP TRIGGER entry_is_final_2;
CREATE TRIGGER entry_is_final_2 BEFORE DELETE ON entry
WHEN OLD.idx >= (SELECT detached FROM head WHERE ledger = OLD.ledger)
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
DROP TRIGGER evidence_is_final_2;
CREATE TRIGGER evidence_is_final_2 BEFORE DELETE ON evidence
WHEN OLD.idx >= (SELECT detached FROM head WHERE ledger = OLD.ledger)
BEGIN SELECT RAISE(ABORT, 'entries of a ledger are never changed or removed'); END;
