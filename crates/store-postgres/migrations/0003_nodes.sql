-- The nodes that run functions. Instants are those of this database's clock, so no node's clock has to be right.

CREATE TABLE impuls_nodes (
    id       TEXT PRIMARY KEY,
    session  UUID NOT NULL,
    about    TEXT NOT NULL,     -- a JSON object
    seen_at  TIMESTAMPTZ NOT NULL
);
