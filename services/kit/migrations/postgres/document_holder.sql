-- Who has brought all the bytes of a document: whoever only knows its digest cannot name it.
CREATE TABLE document_holder (
    digest bytea NOT NULL REFERENCES document (digest) ON DELETE CASCADE,
    owner text NOT NULL,
    PRIMARY KEY (digest, owner)
);
