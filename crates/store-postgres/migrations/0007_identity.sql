-- Which store this is: a number that no other has. A copy of the database is the same store.

CREATE TABLE impuls_identity (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    id       UUID NOT NULL
);
-- Before PostgreSQL 13 there is no function for it without an extension.
INSERT INTO impuls_identity (only_row, id)
VALUES (1, md5(concat_ws('/', random(), random(), clock_timestamp(), pg_backend_pid(), txid_current()))::UUID);
