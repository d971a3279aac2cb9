-- What became of the materials of a case, in order: verified by a data call (1), asked for in vain (2), or uploaded (3). The proof of a
-- verification is its exchange; a document is in the table `document`. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE case_material (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    case_number text NOT NULL,
    material text NOT NULL,
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
    data_call text NOT NULL,
    city text NOT NULL,
    exchange text NOT NULL,
    reason text NOT NULL,
    digest bytea,
    size bigint NOT NULL,
    content_type text NOT NULL,
    client text NOT NULL,
    at bigint NOT NULL,
    CHECK ((kind = 3) = (digest IS NOT NULL))
);

-- The same document is uploaded once for a material, whoever sends it twice.
CREATE UNIQUE INDEX case_material_document ON case_material (case_number, material, digest);
CREATE INDEX case_material_case ON case_material (case_number, seq);

CREATE FUNCTION refuse_material_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER case_material_append_only BEFORE UPDATE OR DELETE ON case_material
FOR EACH ROW EXECUTE FUNCTION refuse_material_change();

CREATE TRIGGER case_material_no_truncate BEFORE TRUNCATE ON case_material
FOR EACH STATEMENT EXECUTE FUNCTION refuse_material_change();
