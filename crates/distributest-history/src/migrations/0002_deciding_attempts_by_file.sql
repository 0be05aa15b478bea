-- A failure that did not decide its file may be its host's, and says nothing about how long the file takes.
DROP INDEX attempts_by_file;
CREATE INDEX attempts_by_file
    ON attempts (file_id, finished_at DESC, id DESC, result, deciding, duration, host_id);
