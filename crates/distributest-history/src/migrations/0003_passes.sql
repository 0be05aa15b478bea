-- Passes that may stand for a run of the same file with the same inputs.
CREATE TABLE passes (
    attempt_id INTEGER PRIMARY KEY REFERENCES attempts ON DELETE CASCADE,
    inputs TEXT NOT NULL,
    versions TEXT NOT NULL
) STRICT;
