-- Ids are UUIDs of version 7 as 16 bytes, so they sort by time of creation. Instants are microseconds since 1970 (UTC).

CREATE TABLE functions (
    id              BLOB PRIMARY KEY CHECK (length(id) = 16),
    scope           TEXT NOT NULL,
    name            TEXT NOT NULL,
    latest          BLOB NOT NULL,
    latest_version  INTEGER NOT NULL,
    state           TEXT NOT NULL,
    -- Why the newest revision cannot be loaded; all NULL while the state is `active`.
    failure_class   TEXT,
    failure_message TEXT,
    failure_file    TEXT,
    failure_line    INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (scope, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
    id                BLOB PRIMARY KEY CHECK (length(id) = 16),
    function          BLOB NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    artifact          BLOB NOT NULL CHECK (length(artifact) = 32),
    layout            TEXT NOT NULL,
    code_size         INTEGER NOT NULL,
    runtime           TEXT NOT NULL,
    contract          TEXT NOT NULL,
    handler           TEXT NOT NULL,
    description       TEXT NOT NULL,
    environment       TEXT NOT NULL, -- a JSON object of strings
    memory_mib        INTEGER NOT NULL,
    timeout_sec       INTEGER NOT NULL,
    milli_vcpu        INTEGER NOT NULL,
    concurrency       INTEGER NOT NULL,
    max_concurrency   INTEGER,
    idle_timeout_sec  INTEGER NOT NULL,
    min_warm          INTEGER NOT NULL,
    driver            TEXT NOT NULL,
    network           TEXT NOT NULL,
    created_at        INTEGER NOT NULL
) STRICT;

CREATE INDEX revisions_by_function ON revisions (function);

CREATE TABLE versions (
    function     BLOB NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL CHECK (number > 0),
    revision     BLOB NOT NULL REFERENCES revisions (id) ON DELETE CASCADE,
    published_at INTEGER NOT NULL,
    PRIMARY KEY (function, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX versions_by_revision ON versions (revision);

CREATE TABLE aliases (
    function    BLOB NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (function, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE alias_targets (
    function BLOB NOT NULL,
    alias    TEXT NOT NULL,
    position INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    weight   INTEGER NOT NULL,
    PRIMARY KEY (function, alias, position),
    FOREIGN KEY (function, alias) REFERENCES aliases (function, name) ON DELETE CASCADE,
    FOREIGN KEY (function, version) REFERENCES versions (function, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX alias_targets_by_version ON alias_targets (function, version);

-- The logs come last: a row is read up to the last column asked for, and logs may be large.
CREATE TABLE invocations (
    id               BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    function         BLOB NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
    revision         BLOB NOT NULL,
    version          INTEGER NOT NULL,
    status           TEXT NOT NULL,
    error_type       TEXT,
    error_class      TEXT,
    error_message    TEXT,
    error_stack      TEXT,
    duration_ns      INTEGER NOT NULL,
    init_duration_ns INTEGER NOT NULL,
    memory_mib       INTEGER NOT NULL,
    started_at       INTEGER NOT NULL,
    log_dropped      INTEGER NOT NULL,
    logs             BLOB -- see `rows/logs.rs`; NULL when there are none
) STRICT;

CREATE INDEX invocations_by_function ON invocations (function, started_at DESC, id DESC);
