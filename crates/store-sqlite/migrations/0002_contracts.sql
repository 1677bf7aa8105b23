-- Functions that are programs and commands, labels, and timeouts below a second.

ALTER TABLE revisions ADD COLUMN command TEXT NOT NULL DEFAULT '[]';  -- a JSON array of strings
ALTER TABLE revisions ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}'; -- a JSON object of strings
ALTER TABLE revisions RENAME COLUMN timeout_sec TO timeout_ms;
UPDATE revisions SET timeout_ms = timeout_ms * 1000;

CREATE INDEX functions_by_name ON functions (name, id DESC);
