CREATE TABLE projects (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL
) STRICT;

CREATE TABLE hosts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    path TEXT NOT NULL,
    framework TEXT NOT NULL,
    UNIQUE (project_id, path)
) STRICT;
-- The files of a project in the order of their numbers, which is the order of attempts_by_file.
CREATE INDEX files_by_project ON files (project_id);

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    identifier TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    files INTEGER NOT NULL,
    wall INTEGER,
    testing INTEGER,
    lower_bound INTEGER,
    exit_status INTEGER
) STRICT;
CREATE INDEX runs_by_project ON runs (project_id, started_at);
CREATE INDEX runs_by_start ON runs (started_at);

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    number INTEGER NOT NULL,
    file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    host_id INTEGER NOT NULL REFERENCES hosts,
    runner INTEGER NOT NULL,
    result TEXT NOT NULL,
    started INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    predicted INTEGER,
    finished_at INTEGER NOT NULL,
    deciding INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run_id, number)
) STRICT;
-- Everything the prediction of a file needs, in the order it needs it, without a visit to the table.
CREATE INDEX attempts_by_file ON attempts (file_id, finished_at DESC, id DESC, result, duration, host_id);

CREATE TABLE tests (
    attempt_id INTEGER NOT NULL REFERENCES attempts ON DELETE CASCADE,
    position INTEGER NOT NULL,
    identifier TEXT NOT NULL,
    name TEXT,
    status TEXT NOT NULL,
    duration INTEGER NOT NULL,
    PRIMARY KEY (attempt_id, position)
) STRICT, WITHOUT ROWID;
