-- Where cards are in the bureau's own tables: what the salts of cards are made from of which there is no row here yet.
CREATE TABLE mapping_secret (
    id smallint PRIMARY KEY CHECK (id = 1),
    secret bytea NOT NULL CHECK (length(secret) = 32)
);
