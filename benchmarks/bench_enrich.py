"""What enrichment costs: CPU per event of the worker with it, over the worker without it.

*The worker*: `consumers.worker.Worker` as it runs in production, over a real embedded ClickHouse, which is a process of
its own and does not count: decode, drop resent, validate, enrich, sessionize, columns, insert over HTTP. The records
come from memory, so the ratio leaves out reading the log, which would lower it. *Without it*: the same, with
`Enricher.enrich` doing nothing; its columns stay empty and sessions have no campaigns. All of enrichment is on: a place
database and a list of datacentres, scrubbing, one site with domains. What validation needs anyway (the page's address
split, the language) stays in both.

Records are what a collector made of the traffic: the demo's shop as a crowd sends it (`crowd.py`), and, with `--log`,
an access log. Each worker is a process of its own with its own caches, on the same core; they take the same slices of
the records in turn, now one first, now the other, so that a slow moment meets both. A pass begins with empty caches.
*Steady* leaves out its first quarter, in which they fill as at a start; `cold` is all of it.
Run it as `python -m benchmarks.bench_enrich`; it writes `results/enrich.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]  # it has no types
from rich.console import Console
from rich.table import Table

from benchmarks.access_log import AccessLog
from benchmarks.crowd import crowd
from benchmarks.edge_servers import SERVER_CORE, Server, await_answer, collector, free_port, process
from benchmarks.http_sender import Pace, Target, send
from benchmarks.results_file import write_result
from benchmarks.shop import shop_requests
from benchmarks.shop_world import HOST, LOCALES
from benchmarks.traffic import Request
from consumers import pipeline
from consumers.clickhouse_store import ClickHouseStore
from consumers.enrich.caches import CACHES, cache_info
from consumers.log_reader.port import Record, Registered
from consumers.worker import Worker
from infra.command.database import apply_migrations, open_client
from infra.command.worker_rules import network_files, worker_rules
from infra.journal.reader import JournalReader
from schemas.settings import Settings, child_environment, load

BOUND = 1.25
WITH, WITHOUT = "with enrichment", "without"
BENCH_CORE = 1
READ_BYTES = 8 << 20
SLICE_HITS = 2_500
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


class Nothing:
    """The enrichment step, doing nothing."""

    def __init__(self, *_: object) -> None: ...

    def enrich(self, *_: object) -> None:
        """Leave the event as it is."""


class Pass(NamedTuple):
    """One worker's pass over a traffic: CPU seconds by slice, and of each cache the share of answers that it had."""

    cpu_s: list[float]
    hit_rates: dict[str, float]


def _settings(root: Path, port: int) -> Settings:
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


@contextmanager
def clickhouse(root: Path, core: int = SERVER_CORE) -> Iterator[Server]:
    """Run an embedded ClickHouse with its tables, on a core."""
    port = free_port()
    environment = child_environment(
        HITSTREAM_DATA_DIR=str(root), HITSTREAM_CLICKHOUSE_PORT=str(port), HITSTREAM_ADMIN_PORT=str(free_port())
    )
    command = [sys.executable, "-m", "infra.command.main", "clickhouse"]
    with (
        (root / "clickhouse.log").open("wb") as log,
        process(command, core=core, env=environment, stdout=log, stderr=log) as one,
    ):
        await_answer(port)
        apply_migrations(_settings(root, port))
        yield Server("ClickHouse", port, [one.pid])


def write_network_files(root: Path) -> None:
    """Write a list of 4,000 datacentre ranges and a place database of what the shop's visitors have."""
    (root / "ranges.txt").write_text("".join(f"{18 + n // 250}.{n % 250}.0.0/18\n" for n in range(4_000)))
    writer = MMDBWriter(6, "Bench-City", languages=["en"], ipv4_compatible=True, int_type="u32")
    for locale in LOCALES:
        names = {"names": {"en": f"Region of {locale.language}"}}
        country = {"iso_code": locale.language[-2:], "names": {"en": locale.language}}
        for network in locale.networks:
            cidr = f"{network}:/32" if ":" in network else f"{network}.0.0/16"
            writer.insert_network(IPSet([cidr]), {"country": country, "subdivisions": [names], "city": names})
    writer.to_db_file(str(root / "place.mmdb"))


def hits_of(requests: Iterable[Request], root: Path) -> list[bytes]:
    """Return the hits that a collector makes of `requests`, in its order."""
    root.mkdir()
    with collector(root, HITSTREAM_TRUSTED_PROXIES="127.0.0.0/8") as server:
        report = asyncio.run(send(requests, Target("127.0.0.1", server.port), Pace(connections=32)))
        if report.unanswered:
            raise RuntimeError(f"{report.unanswered} requests were not answered")
    hits = []
    for spool in sorted(path for path in (root / "spool").iterdir() if path.is_dir()):
        reader = JournalReader(spool)
        while chunk := reader.read(READ_BYTES):
            hits += chunk.payloads
        reader.close()
    return hits


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
        self._worker = Worker(self._log, self._store, self._rules, time.time)
        self._worker.step()  # finds nothing to take up again
        gc.collect()

    def load(self, hits: Sequence[bytes]) -> float:
        """Load one slice; return its CPU seconds."""
        log, worker = self._log, self._worker
        log.append(hits)
        began_s = time.process_time()
        while log.registered is None or log.registered.last < log.end() - 1:
            worker.step()
        used_s = time.process_time() - began_s
        counters = worker.counters
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


def be_worker(pipe: Connection, name: str, root: Path, port: int) -> None:
    """Serve as a worker process: `None` begins a pass, a slice is loaded and answered with (CPU s, hit rates)."""
    os.sched_setaffinity(0, {BENCH_CORE % (os.cpu_count() or 1)})
    settings = _settings(root, port)
    with ExitStack() as stack:
        if name == WITHOUT:
            stack.enter_context(patch.object(pipeline, "Enricher", Nothing))
        client = stack.enter_context(open_client(settings, exact=True))
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


@contextmanager
def worker_processes(root: Path, port: int) -> Iterator[dict[str, Connection]]:
    """Run both workers; yield the pipes to them."""
    context = get_context("spawn")
    pipes, started = {}, []
    for name in (WITH, WITHOUT):
        pipes[name], theirs = context.Pipe()
        started.append(context.Process(target=be_worker, args=(theirs, name, root, port), daemon=True))
        started[-1].start()
        theirs.close()
    try:
        yield pipes
    finally:
        for pipe in pipes.values():
            pipe.close()
        for one in started:
            one.join(10)


def take_pass(pipes: dict[str, Connection], slices: Sequence[Sequence[bytes]]) -> dict[str, Pass]:
    """Let both workers load all slices, in turn."""
    passes = {name: Pass([], {}) for name in pipes}
    for pipe in pipes.values():
        pipe.send(None)
    for number, hits in enumerate(slices):
        for name in sorted(pipes, reverse=bool(number % 2)):
            pipes[name].send(hits)
            cpu_s, rates = pipes[name].recv()
            passes[name].cpu_s.append(cpu_s)
            passes[name].hit_rates.update(rates)
    return passes


def figures_of(passes: Sequence[dict[str, Pass]], slices: Sequence[Sequence[bytes]], first: int) -> dict[str, Any]:
    """Return medians over the passes, of the slices from `first` on."""
    events = sum(map(len, slices[first:]))
    cpu = [{name: sum(one.cpu_s[first:]) / events * 1e6 for name, one in both.items()} for both in passes]
    ratios = sorted(both[WITH] / both[WITHOUT] for both in cpu)
    return {
        "events": events,
        "cpu_us_per_event": {name: round(statistics.median(both[name] for both in cpu), 2) for name in (WITH, WITHOUT)},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        "cache_hit_rates": passes[-1][WITH].hit_rates,
    }


def show(figures: dict[str, dict[str, Any]]) -> None:
    """Print a table."""
    table = Table(title="CPU of the worker per event, us", title_justify="left")
    for column in ("traffic", WITH, WITHOUT, "ratio", "spread", "events"):
        table.add_column(column, justify="left" if column == "traffic" else "right")
    for name, row in figures.items():
        cpu, (low, high) = row["cpu_us_per_event"], row["ratio_spread"]
        cells = (f"{cpu[WITH]:.2f}", f"{cpu[WITHOUT]:.2f}", f"{row['ratio']:.3f}", f"{low:.3f} to {high:.3f}")
        table.add_row(name, *cells, f"{row['events']:,}")
    Console(highlight=False).print(table)


def main() -> int:
    """Measure, print, write the result; return 1 when the bound is passed."""
    parser = argparse.ArgumentParser(description="CPU per event: the worker with enrichment and without")
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--requests", type=int, default=24_000)
    parser.add_argument("--log", type=Path, help="an access log, as further traffic")
    given = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        root = Path(temporary)
        shop = shop_requests(5, int(time.time() * 1000), visitors=given.requests)
        traffic = {"shop": hits_of(islice(crowd(shop), given.requests), root / "shop")}
        if given.log:
            traffic["access log"] = hits_of(AccessLog(given.log), root / "log")
        write_network_files(root)
        port = stack.enter_context(clickhouse(root)).port
        pipes = stack.enter_context(worker_processes(root, port))
        for name, hits in traffic.items():
            slices = [hits[first : first + SLICE_HITS] for first in range(0, len(hits), SLICE_HITS)]
            passes = [take_pass(pipes, slices) for _ in range(given.passes + 1)][1:]  # the first loads what is lazy
            figures[name] = figures_of(passes, slices, len(slices) // 4)
            figures[f"{name}, cold"] = figures_of(passes, slices, 0)
    show(figures)
    print(write_result("enrich", figures))
    return 0 if figures["shop"]["ratio"] <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
