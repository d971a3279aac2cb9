-- A referral (双向转诊) as this city's service holds it. `record` is a serialised banqiao.lab.v1.Referral; the columns beside it are what is
-- searched for. `due_at` is when the service ends it by itself, where this city decides about that. Times are microseconds since
-- 1970-01-01 UTC.
CREATE TABLE referral (
    id text PRIMARY KEY,
    from_institution text NOT NULL,
    to_institution text NOT NULL,
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 10),
    due_at bigint,
    record bytea NOT NULL,
    version bigint NOT NULL
);

CREATE INDEX referral_due ON referral (due_at) WHERE due_at IS NOT NULL;

-- Everything that happened, in the order of the commits: the history, and what watchers read.
CREATE TABLE referral_event (
    seq bigint PRIMARY KEY,
    referral text NOT NULL REFERENCES referral (id),
    event text NOT NULL,
    from_status smallint NOT NULL CHECK (from_status BETWEEN 0 AND 10),
    to_status smallint NOT NULL CHECK (to_status BETWEEN 1 AND 10),
    actor_city text NOT NULL,
    client text,
    exchange text,
    at bigint NOT NULL
);

CREATE INDEX referral_event_referral ON referral_event (referral, seq);

-- The number of the last event. Whoever writes one takes this row first and holds it until commit.
CREATE TABLE referral_head (
    id smallint PRIMARY KEY CHECK (id = 1),
    seq bigint NOT NULL
);

INSERT INTO referral_head (id, seq) VALUES (1, 0);

-- First answers. A request id belongs to the client that chose it.
CREATE TABLE referral_answer (
    client text NOT NULL,
    request_id text NOT NULL,
    request_digest bytea NOT NULL CHECK (length(request_digest) = 32),
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 10),
    seq bigint NOT NULL,
    PRIMARY KEY (client, request_id)
);

-- Documents that are still to be got from the other city.
CREATE TABLE referral_pull (
    referral text NOT NULL REFERENCES referral (id),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    city text NOT NULL,
    size bigint NOT NULL,
    content_type text NOT NULL,
    tried_at bigint NOT NULL,
    PRIMARY KEY (referral, digest)
);

CREATE INDEX referral_pull_tried ON referral_pull (tried_at);

CREATE TRIGGER referral_event_append_only BEFORE UPDATE OR DELETE ON referral_event
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER referral_event_no_truncate BEFORE TRUNCATE ON referral_event
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER referral_answer_append_only BEFORE UPDATE OR DELETE ON referral_answer
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER referral_answer_no_truncate BEFORE TRUNCATE ON referral_answer
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
