-- Statistics count the decisions of one side within a time: what they read grows with those, not with the table.
CREATE INDEX decision_made_at ON decision (institution, decided_at);

CREATE INDEX decision_issued_at ON decision (report_institution, decided_at);
