-- Invocations that their callers do not wait for. What is large comes last.

CREATE TABLE async_invocations (
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
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    completed_at     INTEGER,
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

CREATE INDEX async_invocations_by_function ON async_invocations (function, id DESC);
CREATE INDEX async_invocations_by_claim ON async_invocations (claim) WHERE status = 'running';
CREATE INDEX async_invocations_due ON async_invocations (due, id) WHERE due IS NOT NULL;
CREATE INDEX async_invocations_finished ON async_invocations (id DESC) WHERE due IS NULL;
