-- Entries below this index were moved to an archive, and their rows may go.
ALTER TABLE head ADD COLUMN detached BIGINT NOT NULL DEFAULT 0;

-- Rows of entries and of their evidence are final until their ledger says that they are archived.
CREATE FUNCTION refuse_change_before_archive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.idx < (SELECT detached FROM head WHERE ledger = OLD.ledger) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'entries of a ledger are never changed or removed' USING ERRCODE = '42501';
END
$$;
DROP TRIGGER entry_is_final ON entry;
CREATE TRIGGER entry_is_final BEFORE UPDATE OR DELETE ON entry
    FOR EACH ROW EXECUTE FUNCTION refuse_change_before_archive();
CREATE TRIGGER entry_is_whole BEFORE TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER evidence_is_final ON evidence;
CREATE TRIGGER evidence_is_final BEFORE UPDATE OR DELETE ON evidence
    FOR EACH ROW EXECUTE FUNCTION refuse_change_before_archive();
CREATE TRIGGER evidence_is_whole BEFORE TRUNCATE ON evidence
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Removes the oldest rows of archived entries, and says how many entries went. It runs with the rights of the tables' owner,
-- so that a gateway's own role needs none to delete entries.
CREATE FUNCTION drop_archived(of_ledger SMALLINT, most BIGINT) RETURNS BIGINT
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    last_idx BIGINT;
    dropped  BIGINT;
BEGIN
    SELECT max(idx) INTO last_idx FROM (
        SELECT e.idx FROM entry e
        WHERE e.ledger = of_ledger AND e.idx < (SELECT h.detached FROM head h WHERE h.ledger = of_ledger)
        ORDER BY e.idx LIMIT most
    ) AS oldest;
    IF last_idx IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM evidence WHERE ledger = of_ledger AND idx <= last_idx;
    DELETE FROM entry WHERE ledger = of_ledger AND idx <= last_idx;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    RETURN dropped;
END
$$;
