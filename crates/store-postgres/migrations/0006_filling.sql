-- What fills this database from elsewhere, or has filled it; nobody may use it while `ended_at` is NULL.

CREATE TABLE impuls_filling (
    only_row   BIGINT PRIMARY KEY CHECK (only_row = 1),
    source     TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT
);
