-- The rules that batches were registered under (consumers/batch_rules.py). A batch that was cut in half is formed again
-- by them, whatever the settings are by then. A row for each set of settings that workers ever had.

CREATE TABLE IF NOT EXISTS batch_rules
(
    name     String COMMENT 'hash of rules; the registration of a batch names it',
    rules    String COMMENT 'JSON',
    kept_at  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(kept_at)
ORDER BY name
SETTINGS non_replicated_deduplication_window = 100000;
