-- Which store this is: a number that no other has. A copy of the database is the same store.

CREATE TABLE impuls_identity (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    id       UUID NOT NULL
);
-- Before PostgreSQL 13 there is no function for it without an extension, and md5() is not everywhere.
INSERT INTO impuls_identity (only_row, id)
SELECT 1, string_agg(lpad(to_hex(floor(random() * 65536)::INTEGER), 4, '0'), '')::UUID FROM generate_series(1, 8);
