-- What an attempt used, where that is known: microseconds of processor time, and bytes it had resident at most.
ALTER TABLE attempts ADD COLUMN processor INTEGER;
ALTER TABLE attempts ADD COLUMN peak_memory INTEGER;
DROP INDEX attempts_by_file;
CREATE INDEX attempts_by_file
    ON attempts (file_id, finished_at DESC, id DESC, result, deciding, duration, host_id, peak_memory);
