-- How columns are stored, by what was measured (benchmarks/bench_reports.py). A server's own default may be LZ4 for all
-- columns, at twice the bytes.
ALTER TABLE events MODIFY SETTING default_compression_codec = 'ZSTD(3)';
ALTER TABLE session_parts MODIFY SETTING default_compression_codec = 'ZSTD(3)';

-- Within a session numbers rise by little, and pages repeat between visitors. `ts`, which reports read of every event, is
-- unpacked more than twice as fast so, for half a byte more.
ALTER TABLE events
    MODIFY COLUMN ts CODEC(T64, LZ4),
    MODIFY COLUMN log_offset CODEC(Delta, ZSTD(3)),
    MODIFY COLUMN spool_seq CODEC(Delta, ZSTD(3)),
    MODIFY COLUMN batch_first CODEC(Delta, ZSTD(3)),
    MODIFY COLUMN batch_last CODEC(Delta, ZSTD(3)),
    MODIFY COLUMN url_path CODEC(ZSTD(9)),
    MODIFY COLUMN url_query CODEC(ZSTD(9)),
    MODIFY COLUMN title CODEC(ZSTD(9)),
    MODIFY COLUMN items CODEC(ZSTD(9));
