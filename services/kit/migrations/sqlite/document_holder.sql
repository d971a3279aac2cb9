-- Who has brought all the bytes of a document: whoever only knows its digest cannot name it.
CREATE TABLE document_holder (
    digest BLOB NOT NULL REFERENCES document (digest) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    PRIMARY KEY (digest, owner)
) STRICT;
