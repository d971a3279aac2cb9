-- Working-day calendars that operators imported, oldest first; a year of a later one replaces that of an earlier one.
-- Times are microseconds since 1970-01-01 UTC.
CREATE TABLE calendar (
    id INTEGER PRIMARY KEY,
    imported_at INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE TRIGGER calendar_no_update BEFORE UPDATE ON calendar
BEGIN SELECT RAISE(ABORT, 'calendar is append-only'); END;

CREATE TRIGGER calendar_no_delete BEFORE DELETE ON calendar
BEGIN SELECT RAISE(ABORT, 'calendar is append-only'); END;
