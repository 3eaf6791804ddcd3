"""The events that reports are measured on, made inside ClickHouse by `report_events.sql`, in the migrations' tables.

Promise: the same numbers give the same rows, up to their order. Rows come as workers' do, a slice of time after the
other and several log partitions at once, so that every part of the table holds visitors of all kinds, and the views
fill the sessions' tables; then the engine merges as it likes. Nothing is optimized by hand.
"""

from __future__ import annotations

import time
from pathlib import Path

from consumers.clickhouse_client import ClickHouse
from infra.clickhouse_server.lexer import split_statements

PARTITIONS = 12
EVENTS_PER_VISITOR = 11.4
SPAN_DAYS = 30
START_MS = 1_790_812_800_000  # 2026-10-01
SLICE_EVENTS = 12_000_000
MERGES_S_MAX = 1800.0


def fill(client: ClickHouse, events: int) -> int:
    """Put about `events` events into the tables, wait until the engine has merged what it likes; return how many."""
    table, make, load = split_statements(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    client.command("DROP TABLE IF EXISTS made SYNC")
    client.command(table)
    slices = max(3, -(-events // SLICE_EVENTS))
    world = {
        "visitors": round(events / EVENTS_PER_VISITOR),
        "slices": slices,
        "span_s": SPAN_DAYS * 86_400,
        "start_ms": START_MS,
    }
    client.query(make, world)
    offsets = [0] * PARTITIONS
    for part in range(slices):
        client.query(load, {"slice": part, "offsets": offsets})
        made = "SELECT log_partition, count() FROM made WHERE slice = {slice:UInt16} GROUP BY ALL"
        for partition, rows in client.query(made, {"slice": part}):
            offsets[partition] += rows
    client.command("DROP TABLE made SYNC")
    await_merges(client)
    return sum(offsets)


def await_merges(client: ClickHouse) -> None:
    """Return once the engine merges nothing, for some seconds on end. Raises TimeoutError."""
    deadline, quiet = time.monotonic() + MERGES_S_MAX, 0
    while quiet < 5:
        if time.monotonic() > deadline:
            raise TimeoutError("the engine is still merging")
        quiet = 0 if client.query("SELECT count() FROM system.merges")[0][0] else quiet + 1
        time.sleep(1)
