-- How columns are packed, by what was measured (benchmarks/bench_reports.py). ZSTD looks for repetitions in larger tables
-- once a block is larger than 128 KiB, and finds more in texts that repeat between visitors; in numbers it does not, so
-- theirs stay at the engine's 64 KiB. Of `ts`, which reports read of every event, ZSTD leaves a tenth less than LZ4, and is
-- unpacked nearly as fast. Random ids of clicks are packed best by what looks for the least. What is there already is stored
-- so when it is merged next.
ALTER TABLE events
    MODIFY COLUMN ts CODEC(T64, ZSTD(5)),
    MODIFY COLUMN click_id CODEC(ZSTD(1)),
    MODIFY COLUMN value CODEC(ZSTD(5)),
    MODIFY COLUMN props CODEC(ZSTD(5));
ALTER TABLE events MODIFY COLUMN url_path MODIFY SETTING min_compress_block_size = 196608;
ALTER TABLE events MODIFY COLUMN url_query MODIFY SETTING min_compress_block_size = 196608;
ALTER TABLE events MODIFY COLUMN items MODIFY SETTING min_compress_block_size = 196608;
ALTER TABLE events MODIFY COLUMN value MODIFY SETTING min_compress_block_size = 196608;
ALTER TABLE events MODIFY COLUMN props MODIFY SETTING min_compress_block_size = 196608;

-- 0011's is the engine's own again: with merges and workers side by side, compact parts gained nothing.
ALTER TABLE events RESET SETTING min_bytes_for_wide_part;
