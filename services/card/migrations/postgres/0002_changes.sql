-- Every transition of every card, in the order of their commits: the history, and what watchers read.
CREATE TABLE card_change (
    seq bigint PRIMARY KEY,
    card_number text NOT NULL REFERENCES card (card_number),
    function smallint NOT NULL CHECK (function IN (1, 2)),
    from_state smallint NOT NULL CHECK (from_state BETWEEN 0 AND 6),
    to_state smallint NOT NULL CHECK (to_state BETWEEN 1 AND 6),
    actor_city text NOT NULL,
    cause text NOT NULL CHECK (cause IN ('imported', 'loss-reported', 'temporary-loss-ended')),
    changed_at bigint NOT NULL,
    client text,
    exchange text
);

CREATE INDEX card_change_card ON card_change (card_number, seq);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER card_change_append_only BEFORE UPDATE OR DELETE ON card_change
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER card_change_no_truncate BEFORE TRUNCATE ON card_change
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The number of the last change. Whoever writes changes takes this row first and holds it until commit, so that a reader who sees a
-- number has seen every smaller one. A sequence would not do: its numbers become visible out of order.
CREATE TABLE change_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL
);

INSERT INTO change_head (id, seq) VALUES (1, 0);
