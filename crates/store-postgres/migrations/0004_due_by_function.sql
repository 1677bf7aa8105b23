-- Who looks for what is due passes over functions that have no room, without reading their rows.

DROP INDEX impuls_async_invocations_due;
CREATE INDEX impuls_async_invocations_due ON impuls_async_invocations (due, id, function) WHERE due IS NOT NULL;
