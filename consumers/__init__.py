"""The workers: event log to ClickHouse, each kept hit counted once."""
