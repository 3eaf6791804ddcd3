"""What a hit takes on disk along its way: in the spool, in Kafka's log, in ClickHouse's tables."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from benchmarks.pipelines import Pipeline
from consumers.clickhouse_client import ClickHouse
from infra.journal.reader import JournalReader

READ_BYTES = 1 << 20
TABLES = "SELECT name FROM system.tables WHERE database = {name:String} AND engine LIKE '%MergeTree'"
PARTS = """
SELECT table, sum(bytes_on_disk), sum(rows) FROM system.parts
WHERE active AND database = {name:String} GROUP BY table"""


class Footprint(NamedTuple):
    """Bytes a hit: its JSON; in Kafka's log, compressed; in `events`; in the other tables. 0: there is none of it."""

    hit: float
    log: float
    events: float
    other_tables: float


def footprint(pipeline: Pipeline, topics: Path, taken: int) -> Footprint:
    """Return a pipeline's footprint after `taken` hits; its tables are merged first, as they will be in time.

    `topics` is where the broker keeps its partitions.
    """
    name = {"name": pipeline.database}
    client = ClickHouse(pipeline.clickhouse, database=pipeline.database)
    try:
        for (table,) in client.query(TABLES, name):
            client.command(f"OPTIMIZE TABLE {table} FINAL")
        sizes = {str(table): (int(size), int(rows)) for table, size, rows in client.query(PARTS, name)}
    finally:
        client.close()
    events_bytes, rows = sizes.pop("events")
    others = sum(size for size, _ in sizes.values())
    log_bytes = topic_bytes(topics, pipeline.topic) if pipeline.topic else 0
    return Footprint(hit_bytes(pipeline.spools), log_bytes / taken, events_bytes / rows, others / rows)


def topic_bytes(topics: Path, topic: str) -> int:
    """Return what a topic's records take on disk, all partitions together; without the indexes, made in advance."""
    return sum(path.stat().st_size for path in topics.glob(f"{topic}-*/*.log"))


def hit_bytes(spools: Path | None) -> float:
    """Return the mean size of the hits that the spools happen to hold; 0 without any."""
    for spool in spools.iterdir() if spools else ():
        if not spool.is_dir():
            continue
        reader = JournalReader(spool)
        try:
            chunk = reader.read(READ_BYTES)
        finally:
            reader.close()
        if chunk and chunk.payloads:
            return sum(map(len, chunk.payloads)) / len(chunk.payloads)
    return 0.0
