-- What fills this database from elsewhere, or has filled it; nobody may use it while `ended_at` is NULL.

CREATE TABLE filling (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    source     TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;
