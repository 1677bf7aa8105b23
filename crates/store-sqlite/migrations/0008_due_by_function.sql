-- Who looks for what is due passes over functions that have no room, without reading their rows.

DROP INDEX async_invocations_due;
CREATE INDEX async_invocations_due ON async_invocations (due, id, function) WHERE due IS NOT NULL;
