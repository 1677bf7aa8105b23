-- How deploys went: a JSON array of [step, instant].
ALTER TABLE functions ADD COLUMN state_log TEXT NOT NULL DEFAULT '[]';
-- Event and response of calls whose API shows them; see `rows/exchange.rs`.
ALTER TABLE invocations ADD COLUMN exchange BLOB;
