-- Invocations that their callers do not wait for, and what makes them.

CREATE TABLE impuls_async_invocations (
    id               UUID PRIMARY KEY,
    function         UUID NOT NULL REFERENCES impuls_functions (id) ON DELETE CASCADE,
    qualifier        TEXT NOT NULL,
    status           TEXT NOT NULL,
    attempt          BIGINT NOT NULL,
    -- When it may be claimed: while it is queued, not before; while it is running, when the lease ends.
    due              BIGINT,
    timeout_ms       BIGINT,
    policy           TEXT NOT NULL, -- a JSON object
    destinations     TEXT,          -- a JSON object; NULL for none
    hook             TEXT,
    idempotency_key  TEXT,
    origin           UUID,
    chain            BIGINT NOT NULL,
    failures         BIGINT NOT NULL,
    throttled        BIGINT NOT NULL,
    broken           BIGINT NOT NULL,
    deaths           BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    ready_at         BIGINT NOT NULL,
    started_at       BIGINT,
    completed_at     BIGINT,
    -- Why the last attempt failed; also while there are more to come.
    error_type       TEXT,
    error_class      TEXT,
    error_message    TEXT,
    error_stack      TEXT,
    duration_ns      BIGINT NOT NULL DEFAULT 0,
    init_duration_ns BIGINT NOT NULL DEFAULT 0,
    memory_mib       BIGINT NOT NULL DEFAULT 0,
    measured         TEXT,
    log_dropped      BIGINT NOT NULL DEFAULT 0,
    logs             BYTEA,
    result           BYTEA,
    context          BYTEA NOT NULL,
    event            BYTEA NOT NULL
);

CREATE INDEX impuls_async_invocations_by_function ON impuls_async_invocations (function, id DESC);
CREATE INDEX impuls_async_invocations_due ON impuls_async_invocations (due, id) WHERE due IS NOT NULL;
CREATE INDEX impuls_async_invocations_finished ON impuls_async_invocations (id DESC)
    WHERE due IS NULL AND status <> 'dead';
CREATE INDEX impuls_async_invocations_ended ON impuls_async_invocations (completed_at) WHERE due IS NULL;
CREATE INDEX impuls_async_invocations_dead ON impuls_async_invocations (function, id) WHERE status = 'dead';
CREATE UNIQUE INDEX impuls_async_invocations_by_key ON impuls_async_invocations (function, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE impuls_async_settings (
    function     UUID PRIMARY KEY REFERENCES impuls_functions (id) ON DELETE CASCADE,
    policy       TEXT NOT NULL, -- as above
    destinations TEXT
);

CREATE TABLE impuls_schedules (
    id          UUID PRIMARY KEY,
    function    UUID NOT NULL REFERENCES impuls_functions (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    qualifier   TEXT NOT NULL,
    -- Either an interval, or an expression with a time zone.
    interval_ms BIGINT,
    expression  TEXT,
    time_zone   TEXT,
    enabled     BIGINT NOT NULL CHECK (enabled IN (0, 1)),
    next_tick   BIGINT,
    last_tick   BIGINT,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    event       BYTEA,
    UNIQUE (function, name)
);

CREATE INDEX impuls_schedules_due ON impuls_schedules (next_tick, id) WHERE next_tick IS NOT NULL;
