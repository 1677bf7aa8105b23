-- Which store this is: a number that no other has. A copy of the file is the same store.

CREATE TABLE identity (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id       BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;
INSERT INTO identity (only_row, id) VALUES (1, randomblob(16));
