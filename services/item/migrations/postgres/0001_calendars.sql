-- Working-day calendars that operators imported, oldest first; a year of a later one replaces that of an earlier one.
-- Times are microseconds since 1970-01-01 UTC.
CREATE TABLE calendar (
    id bigint PRIMARY KEY,
    imported_at bigint NOT NULL,
    text text NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER calendar_append_only BEFORE UPDATE OR DELETE ON calendar
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER calendar_no_truncate BEFORE TRUNCATE ON calendar
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
