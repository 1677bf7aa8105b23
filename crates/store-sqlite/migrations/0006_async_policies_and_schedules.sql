-- Retries, destinations, idempotency keys and dead letters of asynchronous invocations; schedules. The table is made anew,
-- because what is large has to stay last.

CREATE TABLE async_invocations_6 (
    id               BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    function         BLOB NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    qualifier        TEXT NOT NULL,
    status           TEXT NOT NULL,
    attempt          INTEGER NOT NULL,
    -- When it may be claimed: while it is queued, not before; while it is running, when the lease ends.
    due              INTEGER,
    -- Which claim took it last, a number that no other claim has.
    claim            BLOB,
    timeout_ms       INTEGER,
    policy           TEXT NOT NULL, -- a JSON object
    destinations     TEXT,          -- a JSON object; NULL for none
    hook             TEXT,
    idempotency_key  TEXT,
    origin           BLOB CHECK (origin IS NULL OR length(origin) = 16),
    chain            INTEGER NOT NULL,
    failures         INTEGER NOT NULL,
    throttled        INTEGER NOT NULL,
    broken           INTEGER NOT NULL,
    deaths           INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    ready_at         INTEGER NOT NULL,
    started_at       INTEGER,
    completed_at     INTEGER,
    -- Why the last attempt failed; also while there are more to come.
    error_type       TEXT,
    error_class      TEXT,
    error_message    TEXT,
    error_stack      TEXT,
    duration_ns      INTEGER NOT NULL DEFAULT 0,
    init_duration_ns INTEGER NOT NULL DEFAULT 0,
    memory_mib       INTEGER NOT NULL DEFAULT 0,
    log_dropped      INTEGER NOT NULL DEFAULT 0,
    logs             BLOB,
    result           BLOB,
    context          BLOB NOT NULL,
    event            BLOB NOT NULL
) STRICT;

-- What was accepted before this knew no retries and no dead letters.
INSERT INTO async_invocations_6
SELECT id, function, qualifier, status, attempt, due, claim, timeout_ms,
    '{"max_retries":0,"first_wait_ms":60000,"max_wait_ms":3600000,"max_age_ms":21600000,"dead_letter":false}',
    NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, created_at, created_at, started_at, completed_at,
    error_type, error_class, error_message, error_stack, duration_ns, init_duration_ns, memory_mib, log_dropped,
    logs, result, context, event
FROM async_invocations;

DROP TABLE async_invocations;
ALTER TABLE async_invocations_6 RENAME TO async_invocations;

CREATE INDEX async_invocations_by_function ON async_invocations (function, id DESC);
CREATE INDEX async_invocations_by_claim ON async_invocations (claim) WHERE status = 'running';
CREATE INDEX async_invocations_due ON async_invocations (due, id) WHERE due IS NOT NULL;
CREATE INDEX async_invocations_finished ON async_invocations (id DESC) WHERE due IS NULL AND status <> 'dead';
CREATE INDEX async_invocations_ended ON async_invocations (completed_at) WHERE due IS NULL;
CREATE INDEX async_invocations_dead ON async_invocations (function, id) WHERE status = 'dead';
CREATE UNIQUE INDEX async_invocations_by_key ON async_invocations (function, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE async_settings (
    function     BLOB NOT NULL PRIMARY KEY REFERENCES functions (id) ON DELETE CASCADE,
    policy       TEXT NOT NULL, -- as above
    destinations TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    id          BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    function    BLOB NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    qualifier   TEXT NOT NULL,
    -- Either an interval, or an expression with a time zone.
    interval_ms INTEGER,
    expression  TEXT,
    time_zone   TEXT,
    enabled     INTEGER NOT NULL,
    next_tick   INTEGER,
    last_tick   INTEGER,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    event       BLOB,
    UNIQUE (function, name)
) STRICT;

CREATE INDEX schedules_due ON schedules (next_tick) WHERE next_tick IS NOT NULL;
