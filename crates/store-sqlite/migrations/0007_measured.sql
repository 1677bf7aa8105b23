-- What a call's processes used, as a JSON object; null where it was not measured.
ALTER TABLE async_invocations ADD COLUMN measured TEXT;
