-- Documents by the SHA-256 of their bytes, and uploads that are under way. The bytes of both are chunks of 1 MiB under the upload's id,
-- so that an upload becomes a document without being copied. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE document (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    size INTEGER NOT NULL CHECK (size > 0),
    content_type TEXT NOT NULL,
    upload TEXT NOT NULL UNIQUE,
    kept INTEGER NOT NULL CHECK (kept IN (0, 1)),
    touched_at INTEGER NOT NULL
) STRICT;

-- Documents that no record of the service names yet.
CREATE INDEX document_loose ON document (touched_at) WHERE kept = 0;

CREATE TABLE document_upload (
    upload TEXT PRIMARY KEY,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    owner TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size > 0),
    content_type TEXT NOT NULL,
    received INTEGER NOT NULL CHECK (received BETWEEN 0 AND size),
    touched_at INTEGER NOT NULL,
    UNIQUE (owner, digest)
) STRICT;

CREATE INDEX document_upload_touched ON document_upload (touched_at);

CREATE TABLE document_chunk (
    upload TEXT NOT NULL,
    ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    content BLOB NOT NULL CHECK (length(content) BETWEEN 1 AND 1048576),
    PRIMARY KEY (upload, ordinal)
) STRICT;
