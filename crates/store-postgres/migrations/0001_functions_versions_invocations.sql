-- Ids are UUIDs of version 7, so they sort by time of creation. Instants are microseconds since 1970 (UTC):
-- to_timestamp(created_at / 1e6) shows one. In texts U+10FFFD 0 stands for NUL, which PostgreSQL does not keep, and
-- U+10FFFD 1 for U+10FFFD. Names begin with `impuls_`, so that the tables can lie beside those of other programs.

CREATE TABLE impuls_functions (
    id              UUID PRIMARY KEY,
    scope           TEXT NOT NULL,
    name            TEXT NOT NULL,
    latest          UUID NOT NULL,
    latest_version  BIGINT NOT NULL,
    state           TEXT NOT NULL,
    -- Why the newest revision cannot be loaded; all NULL while the state is `active`.
    failure_class   TEXT,
    failure_message TEXT,
    failure_file    TEXT,
    failure_line    BIGINT,
    -- How deploys went: a JSON array of [step, instant].
    state_log       TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    UNIQUE (scope, name)
);

CREATE INDEX impuls_functions_by_name ON impuls_functions (name, id DESC);

CREATE TABLE impuls_revisions (
    id                UUID PRIMARY KEY,
    function          UUID NOT NULL REFERENCES impuls_functions (id) ON DELETE CASCADE,
    artifact          BYTEA NOT NULL CHECK (length(artifact) = 32),
    layout            TEXT NOT NULL,
    code_size         BIGINT NOT NULL,
    -- What a build made of the source, or why there is nothing although there should be (a JSON object).
    built             BYTEA CHECK (length(built) = 32),
    build_failure     TEXT,
    runtime           TEXT NOT NULL,
    contract          TEXT NOT NULL,
    handler           TEXT NOT NULL,
    command           TEXT NOT NULL, -- a JSON array of strings
    description       TEXT NOT NULL,
    metadata          TEXT NOT NULL, -- a JSON object of strings
    environment       TEXT NOT NULL, -- a JSON object of strings
    memory_mib        BIGINT NOT NULL,
    timeout_ms        BIGINT NOT NULL,
    milli_vcpu        BIGINT NOT NULL,
    concurrency       BIGINT NOT NULL,
    max_concurrency   BIGINT,
    idle_timeout_sec  BIGINT NOT NULL,
    min_warm          BIGINT NOT NULL,
    driver            TEXT NOT NULL,
    network           TEXT NOT NULL,
    created_at        BIGINT NOT NULL
);

CREATE INDEX impuls_revisions_by_function ON impuls_revisions (function);

CREATE TABLE impuls_versions (
    function     UUID NOT NULL REFERENCES impuls_functions (id) ON DELETE CASCADE,
    number       BIGINT NOT NULL CHECK (number > 0),
    revision     UUID NOT NULL REFERENCES impuls_revisions (id) ON DELETE CASCADE,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (function, number)
);

CREATE INDEX impuls_versions_by_revision ON impuls_versions (revision);

CREATE TABLE impuls_aliases (
    function    UUID NOT NULL REFERENCES impuls_functions (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (function, name)
);

CREATE TABLE impuls_alias_targets (
    function UUID NOT NULL,
    alias    TEXT NOT NULL,
    position BIGINT NOT NULL,
    version  BIGINT NOT NULL,
    weight   BIGINT NOT NULL,
    PRIMARY KEY (function, alias, position),
    FOREIGN KEY (function, alias) REFERENCES impuls_aliases (function, name) ON DELETE CASCADE,
    FOREIGN KEY (function, version) REFERENCES impuls_versions (function, number) ON DELETE CASCADE
);

CREATE INDEX impuls_alias_targets_by_version ON impuls_alias_targets (function, version);

CREATE TABLE impuls_invocations (
    id               UUID PRIMARY KEY,
    function         UUID NOT NULL REFERENCES impuls_functions (id) ON DELETE CASCADE,
    revision         UUID NOT NULL,
    version          BIGINT NOT NULL,
    status           TEXT NOT NULL,
    error_type       TEXT,
    error_class      TEXT,
    error_message    TEXT,
    error_stack      TEXT,
    duration_ns      BIGINT NOT NULL,
    init_duration_ns BIGINT NOT NULL,
    memory_mib       BIGINT NOT NULL,
    started_at       BIGINT NOT NULL,
    log_dropped      BIGINT NOT NULL,
    logs             BYTEA, -- level, length and text of each line; NULL when there are none
    exchange         BYTEA  -- event and response of calls whose API shows them
);

CREATE INDEX impuls_invocations_by_function ON impuls_invocations (function, started_at DESC, id DESC);

CREATE TABLE impuls_builds (
    key        BYTEA PRIMARY KEY CHECK (length(key) = 32),
    artifact   BYTEA NOT NULL CHECK (length(artifact) = 32),
    created_at BIGINT NOT NULL
);
