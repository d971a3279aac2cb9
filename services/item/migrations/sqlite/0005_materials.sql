-- What became of the materials of a case, in order: verified by a data call (1), asked for in vain (2), or uploaded (3). The proof of a
-- verification is its exchange; a document is in the table `document`. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE case_material (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    case_number TEXT NOT NULL,
    material TEXT NOT NULL,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
    data_call TEXT NOT NULL,
    city TEXT NOT NULL,
    exchange TEXT NOT NULL,
    reason TEXT NOT NULL,
    digest BLOB,
    size INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    client TEXT NOT NULL,
    at INTEGER NOT NULL,
    CHECK ((kind = 3) = (digest IS NOT NULL))
) STRICT;

-- The same document is uploaded once for a material, whoever sends it twice.
CREATE UNIQUE INDEX case_material_document ON case_material (case_number, material, digest);
CREATE INDEX case_material_case ON case_material (case_number, seq);

CREATE TRIGGER case_material_no_update BEFORE UPDATE ON case_material
BEGIN
    SELECT RAISE(ABORT, 'case_material is append-only');
END;

CREATE TRIGGER case_material_no_delete BEFORE DELETE ON case_material
BEGIN
    SELECT RAISE(ABORT, 'case_material is append-only');
END;
