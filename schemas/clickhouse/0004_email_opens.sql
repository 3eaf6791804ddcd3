-- Who opened an email, and by what that was told; the words are those of schemas/email_open.py.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS open_by LowCardinality(String) COMMENT 'person | proxy | scanner; empty: no image hit of an EmailOpen' AFTER bot_reason,
    ADD COLUMN IF NOT EXISTS open_reason LowCardinality(String) AFTER open_by;

-- As in 0002: a view keeps the columns that its tables had when it was made.
CREATE OR REPLACE VIEW counted_events AS
SELECT *
FROM events
WHERE (SELECT count() FROM events WHERE source = 'server' AND event_id != '') = 0
   OR source != 'server'
   OR (spool_id, spool_seq, log_partition, log_offset)
      NOT IN (SELECT spool_id, spool_seq, log_partition, log_offset FROM uncounted_events);
