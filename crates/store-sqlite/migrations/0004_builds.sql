-- What builds made of functions' source.

ALTER TABLE revisions ADD COLUMN built BLOB CHECK (built IS NULL OR length(built) = 32);
-- Why there is nothing although there should be; a JSON object.
ALTER TABLE revisions ADD COLUMN build_failure TEXT;

CREATE TABLE builds (
    key        BLOB PRIMARY KEY CHECK (length(key) = 32),
    artifact   BLOB NOT NULL CHECK (length(artifact) = 32),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
