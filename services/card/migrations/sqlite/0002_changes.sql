-- Every transition of every card, in the order of their commits: the history, and what watchers read.
CREATE TABLE card_change (
    seq INTEGER PRIMARY KEY,
    card_number TEXT NOT NULL REFERENCES card (card_number),
    function INTEGER NOT NULL CHECK (function IN (1, 2)),
    from_state INTEGER NOT NULL CHECK (from_state BETWEEN 0 AND 6),
    to_state INTEGER NOT NULL CHECK (to_state BETWEEN 1 AND 6),
    actor_city TEXT NOT NULL,
    cause TEXT NOT NULL CHECK (cause IN ('imported', 'loss-reported', 'temporary-loss-ended')),
    changed_at INTEGER NOT NULL,
    client TEXT,
    exchange TEXT
) STRICT;

CREATE INDEX card_change_card ON card_change (card_number, seq);

CREATE TRIGGER card_change_no_update BEFORE UPDATE ON card_change
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;

CREATE TRIGGER card_change_no_delete BEFORE DELETE ON card_change
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;

-- The number of the last change. Whoever writes changes takes this row first and holds it until commit, so that a reader who sees a
-- number has seen every smaller one.
CREATE TABLE change_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO change_head (id, seq) VALUES (1, 0);
