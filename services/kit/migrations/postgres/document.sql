-- Documents by the SHA-256 of their bytes, and uploads that are under way. The bytes of both are chunks of 1 MiB under the upload's id,
-- so that an upload becomes a document without being copied. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE document (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    size bigint NOT NULL CHECK (size > 0),
    content_type text NOT NULL,
    upload text NOT NULL UNIQUE,
    kept smallint NOT NULL CHECK (kept IN (0, 1)),
    touched_at bigint NOT NULL
);

-- Documents that no record of the service names yet.
CREATE INDEX document_loose ON document (touched_at) WHERE kept = 0;

CREATE TABLE document_upload (
    upload text PRIMARY KEY,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    owner text NOT NULL,
    size bigint NOT NULL CHECK (size > 0),
    content_type text NOT NULL,
    received bigint NOT NULL CHECK (received BETWEEN 0 AND size),
    touched_at bigint NOT NULL,
    UNIQUE (owner, digest)
);

CREATE INDEX document_upload_touched ON document_upload (touched_at);

CREATE TABLE document_chunk (
    upload text NOT NULL,
    ordinal bigint NOT NULL CHECK (ordinal >= 0),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    content bytea NOT NULL CHECK (length(content) BETWEEN 1 AND 1048576),
    PRIMARY KEY (upload, ordinal)
);

-- Pictures and PDF files are compressed already.
ALTER TABLE document_chunk ALTER COLUMN content SET STORAGE EXTERNAL;
