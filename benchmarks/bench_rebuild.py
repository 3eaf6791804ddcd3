"""A worker's state: how long it takes to make it anew after a rebalance, and how much memory it is.

ClickHouse gets the rows of a million visitors, made by SQL: one session each in the last day, of one to five events
with ids, one session in five with a campaign, spread over 12 partitions as their workers left them. Then a worker
process is assigned all of them at once, as the last one of a group is, and what counts is the time until each partition
could form its next batch, and the process's memory. ClickHouse is the embedded one, a process of
its own, on both cores.
Run it as `python -m benchmarks.bench_rebuild`; it writes `results/rebuild.json`.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.bench_enrich import clickhouse
from benchmarks.enrich_worker import Log
from benchmarks.results_file import write_result
from consumers.clickhouse_client import ClickHouse
from consumers.clickhouse_store import ClickHouseStore
from consumers.log_reader.port import Record, Registered
from consumers.worker import Worker
from infra.collection import freeze
from infra.command.database import open_client
from infra.command.worker_rules import worker_rules
from schemas.settings import load

SECONDS_MAX = 10.0
RSS_MIB_MAX = 1024
MIB = 1 << 20
PARTITIONS = 12
BOTH_CORES = (0, 1)  # a rebalance leaves ClickHouse little else to do, and the worker waits while it works
EVENTS_EACH_MAX = 5
SPOOL = 7

FILL = """
INSERT INTO events
    (site, event_name, event_id, ts, received_at, source, visitor_id, session_id, session_start, channel, utm_source,
     utm_medium, utm_campaign, url_host, url_path, spool_id, spool_seq, log_partition, log_offset, batch_first,
     batch_last)
WITH
    number AS visitor,
    cityHash64(visitor, 'of') AS drawn,
    drawn % 5 = 0 AS tagged,
    now64(3, 'UTC') - toIntervalSecond(drawn % 80000) AS opened,
    arrayJoin(range(1 + drawn % {each:UInt8})) AS step,
    opened + toIntervalSecond(step * 40) AS at
SELECT
    'shop', if(step % 2, 'ViewContent', 'PageView'), lower(hex(cityHash64(visitor, step))), at, at, 'pixel',
    cityHash64(visitor), cityHash64(visitor, 'session'), opened, if(tagged, 'Paid Search', 'Direct'),
    if(tagged, 'google', ''), if(tagged, 'cpc', ''), if(tagged, concat('sale-', toString(drawn % 50)), ''),
    'www.example.com', concat('/p/', toString(drawn % 5000)), {spool:UInt64}, visitor * {each:UInt8} + step,
    visitor % {partitions:UInt32}, visitor * {each:UInt8} + step, 0, {end:UInt64} - 1
FROM numbers({visitors:UInt64})"""
COUNT = """
INSERT INTO batches (topic, log_partition, batch_first, batch_last, spool_id, seq_min, seq_max, inserted, received_at)
SELECT 'hits', number, {end:UInt64}, {end:UInt64}, {spool:UInt64}, {end:UInt64}, {end:UInt64}, 1, now64(3, 'UTC')
FROM numbers({partitions:UInt64})"""


class LoadedLog(Log):
    """A partition that was just assigned; its last batch, of one record, is loaded."""

    def __init__(self, partition: int, end: int) -> None:
        super().__init__(partition)
        self.registered = Registered(end, end, int(time.time() * 1000))
        self._next = end

    def fetch(self, records_max: int, bytes_max: int, last: int | None = None) -> list[Record]:
        """Return the record of the batch."""
        del records_max, bytes_max, last
        self._next += 1
        return [Record(self._next - 1, b"", b"")]

    def end(self) -> int:
        """Return the end."""
        return self._next + 1


class Assigned:
    """The reader of a worker that was just assigned every partition."""

    def __init__(self, end: int) -> None:
        self._logs = [LoadedLog(number, end) for number in range(PARTITIONS)]

    def assigned(self) -> list[LoadedLog]:
        """Return all of them."""
        return self._logs

    def wait(self, timeout_s: float) -> None:
        """Have all there is."""

    def close(self) -> None:
        """Hold nothing."""


def fill(client: ClickHouse, visitors: int) -> int:
    """Make the rows; return the offset behind them."""
    place = {"visitors": visitors, "each": EVENTS_EACH_MAX, "end": visitors * EVENTS_EACH_MAX}
    place |= {"spool": SPOOL, "partitions": PARTITIONS}
    client.query(FILL, place)
    client.query(COUNT, place)
    return place["end"]


def be_worker(pipe: Connection, root: Path, port: int, end: int) -> None:
    """Be assigned everything; answer with seconds and bytes."""
    settings = load(data_dir=root, clickhouse_port=port)
    with open_client(settings, exact=True) as client:
        worker = Worker(Assigned(end), ClickHouseStore(client), worker_rules(settings), time.time)
        client.ping()
        freeze()
        before = psutil.Process().memory_info().rss
        began_s = time.monotonic()
        worker.step()
        took_s = time.monotonic() - began_s
        if worker.counters.retries or worker.counters.recovered:
            raise RuntimeError(f"{worker.counters}")
        after = psutil.Process().memory_info().rss
        visit_all(worker)
        pipe.send((took_s, before, after, psutil.Process().memory_info().rss, peak_bytes()))


def visit_all(worker: Worker) -> None:
    """Let every visitor be back, as far as memory is concerned."""
    for partition in worker._partitions.values():  # noqa: SLF001  an event of each would change more than memory
        state = partition._state  # noqa: SLF001  as above
        for site, visitors in state._sites.items():  # noqa: SLF001  as above
            for visitor in visitors:
                state.of((site, visitor))


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(root: Path, visitors: int) -> dict[str, Any]:
    """Fill, rebuild, and return the figures."""
    with clickhouse(root, BOTH_CORES) as server:
        settings = load(data_dir=root, clickhouse_port=server.port)
        with open_client(settings, exact=True) as client:
            end = fill(client, visitors)
            events = int(client.query("SELECT count() FROM events")[0][0])
        context = get_context("spawn")
        pipe, theirs = context.Pipe()
        worker = context.Process(target=be_worker, args=(theirs, root, server.port, end), daemon=True)
        worker.start()
        theirs.close()
        took_s, before, after, live, peak = pipe.recv()
        worker.join(10)
    return {
        "visitors": visitors,
        "events": events,
        "partitions": PARTITIONS,
        "rebuild_s": round(took_s, 2),
        "worker_rss_mib": round(after / MIB),
        "worker_rss_all_back_mib": round(live / MIB),
        "worker_rss_peak_mib": round(peak / MIB),
        "worker_rss_before_mib": round(before / MIB),
        "bytes_per_session": round((after - before) / visitors),
        "bytes_per_session_back": round((live - before) / visitors),
    }


def main() -> int:
    """Measure, print, write the result; return 1 when a bound is passed."""
    parser = argparse.ArgumentParser(description="A worker's state after a rebalance: seconds and memory")
    parser.add_argument("--visitors", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(Path(temporary), given.visitors)
    table = Table(title="A worker's state made anew", title_justify="left", show_header=False)
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console(highlight=False).print(table)
    print(write_result("rebuild", figures))
    return 0 if figures["rebuild_s"] <= SECONDS_MAX and figures["worker_rss_peak_mib"] <= RSS_MIB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
