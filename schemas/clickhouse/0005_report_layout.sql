-- How columns are stored, by what was measured (benchmarks/bench_reports.py). A server's own default may be LZ4 for all
-- columns, at twice the bytes. What is there already is stored so when it is merged next.
ALTER TABLE events MODIFY SETTING default_compression_codec = 'ZSTD(3)';
ALTER TABLE session_parts MODIFY SETTING default_compression_codec = 'ZSTD(3)';

-- Within a session numbers rise by little, and pages repeat between visitors. `ts` and `log_offset`, which
-- reports read of every event, are unpacked faster so, for a little more space.
ALTER TABLE events
    MODIFY COLUMN ts CODEC(T64, LZ4),
    MODIFY COLUMN log_offset CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN spool_seq CODEC(Delta, ZSTD(3)),
    MODIFY COLUMN spool_id CODEC(ZSTD(9)),
    MODIFY COLUMN url_path CODEC(ZSTD(5)),
    MODIFY COLUMN url_query CODEC(ZSTD(5)),
    MODIFY COLUMN title CODEC(ZSTD(5)),
    MODIFY COLUMN items CODEC(ZSTD(5));

-- As in 0002, from rows of sessions instead of from all events, as long as no event is left uncounted; a session may be
-- listed twice, for what asks with IN.
CREATE OR REPLACE VIEW bot_sessions AS
SELECT site, visitor_id, session_id
FROM session_parts
WHERE is_bot != 0 AND (SELECT count() FROM events WHERE source = 'server' AND event_id != '') = 0
UNION ALL
SELECT site, visitor_id, session_id
FROM counted_events
WHERE is_bot != 0 AND visitor_id != 0 AND (SELECT count() FROM events WHERE source = 'server' AND event_id != '') != 0;
