"""One of the two workers of `bench_enrich.py`, as a program: `python -m infra.compiled benchmarks.enrich_worker`.

So it runs compiled where the box's workers do. It is given a socket to connect to, its name, a directory and
ClickHouse's port, and serves until the socket is closed.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from multiprocessing.connection import Client
from pathlib import Path
from unittest.mock import patch

from benchmarks.shop_world import HOST
from consumers import pipeline, worker
from consumers.batch import Prepared
from consumers.clickhouse_store import ClickHouseStore
from consumers.deduplicate import Marks
from consumers.enrich.caches import CACHES, cache_info
from consumers.enrich.network import Networks
from consumers.log_reader.port import Record, Registered
from consumers.rules import Rules
from infra.collection import freeze
from infra.command.database import open_client
from infra.command.worker_rules import network_files, worker_rules
from schemas.settings import Settings, load

WITH, WITHOUT = "with enrichment", "without"
BENCH_CORE = 1
PASSES_MAX = 100_000


class Log:
    """A log of one partition whose records are in memory; also its reader."""

    topic = "hits"
    over = False

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.registered: Registered | None = None
        self._records: list[Record] = []
        self._next = 0

    def append(self, values: Sequence[bytes]) -> None:
        """Add records."""
        offset = len(self._records)
        self._records += [Record(offset + place, value[8:24], value) for place, value in enumerate(values)]

    def fetch(self, records_max: int, bytes_max: int, last: int | None = None) -> list[Record]:
        """Return the next records, up to a number of bytes."""
        del last
        found, size = [], 0
        for record in self._records[self._next : self._next + records_max]:
            found.append(record)
            size += len(record.value)
            if size >= bytes_max:
                break
        self._next += len(found)
        return found

    def register(self, batch: Registered) -> None:
        """Take the end of a batch."""
        self.registered = batch

    def end(self) -> int:
        """Return the end."""
        return len(self._records)

    def position(self) -> int:
        """Return the next offset."""
        return self._next

    def assigned(self) -> list[Log]:
        """Return itself."""
        return [self]

    def wait(self, timeout_s: float) -> None:
        """Have all there is."""

    def close(self) -> None:
        """Hold nothing."""


def prepare_without(records: Sequence[Record], marks: Marks, rules: Rules, networks: Networks) -> list[Prepared]:
    """Do as `pipeline.prepare`, with an enrichment step that leaves the event as it is."""
    del networks
    return pipeline.prepare_with(records, marks, rules.limits, lambda *_: None)


def settings_of(root: Path, port: int) -> Settings:
    """Return the settings that all of enrichment is on with."""
    return load(
        data_dir=root,
        clickhouse_port=port,
        sites={"shop": {"domains": [HOST.partition(".")[2]]}, "semicomplete": {"domains": ["semicomplete.com"]}},
        place_database=root / "place.mmdb",
        datacentre_ranges=[root / "ranges.txt"],
        event_age_s_max=40 * 365 * 86_400,  # the access log is of 2015
        batch_age_s_max=0.000001,  # what is there is a batch
    )


class Bench:
    """One of the two workers, in a process of its own. Every pass has a partition of its own."""

    def __init__(self, settings: Settings, store: ClickHouseStore, first_partition: int) -> None:
        self._rules = worker_rules(settings, network_files(settings))
        self._store = store
        self._partitions = count(first_partition)
        self.begin()

    def begin(self) -> None:
        """Begin a pass: all caches are empty, the partition is fresh."""
        for cached in CACHES.values():
            cached.cache_clear()
        self._log = Log(next(self._partitions))
        self._worker = worker.Worker(self._log, self._store, self._rules, time.time)
        self._worker.step()  # finds nothing to take up again
        gc.collect()

    def load(self, hits: Sequence[bytes]) -> float:
        """Load one slice; return its CPU seconds."""
        log, one = self._log, self._worker
        log.append(hits)
        began_s = time.process_time()
        while log.registered is None or log.registered.last < log.end() - 1:
            one.step()
        used_s = time.process_time() - began_s
        counters = one.counters
        gone = counters.duplicates + counters.resent + counters.rejected.total()
        if counters.retries or counters.inserted + gone != log.end():
            raise RuntimeError(f"{counters} of {log.end()} hits")
        return used_s

    def hit_rates(self) -> dict[str, float]:
        """Return of each cache that was asked in this pass the share of answers that it had."""
        infos = cache_info().items()
        return {
            name: round(info.hits / (info.hits + info.misses), 4) for name, info in infos if info.hits + info.misses
        }


def main() -> None:
    """Serve as a worker process: `None` begins a pass, a slice is loaded and answered with (CPU s, hit rates)."""
    address, name, root, port = sys.argv[1:]
    os.sched_setaffinity(0, {BENCH_CORE % (os.cpu_count() or 1)})
    settings = settings_of(Path(root), int(port))
    with ExitStack() as stack:
        pipe = stack.enter_context(Client(address))
        if name == WITHOUT:
            stack.enter_context(patch.object(worker, "prepare", prepare_without))
        client = stack.enter_context(open_client(settings, exact=True))
        freeze()
        bench = Bench(settings, ClickHouseStore(client), 0 if name == WITH else PASSES_MAX)
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            if asked is None:
                bench.begin()
            else:
                pipe.send((bench.load(asked), bench.hit_rates()))


if __name__ == "__main__":
    main()
