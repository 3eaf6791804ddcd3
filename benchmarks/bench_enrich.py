"""What enrichment costs: CPU per event of the worker with it, over the worker without it.

*The worker*: `consumers.worker.Worker` as it runs in production, over a real embedded ClickHouse, which is a process of
its own and does not count: decode, drop resent, validate, enrich, sessionize, columns, insert over HTTP. The records
come from memory, so the ratio leaves out reading the log, which would lower it. *Without it*: the same, with
`Enricher.enrich` doing nothing; its columns stay empty and sessions have no campaigns. All of enrichment is on: a place
database and a list of datacentres, scrubbing, one site with domains. What validation needs anyway (the page's address
split, the language) stays in both.

Records are what a collector made of the traffic: the demo's shop as a crowd sends it (`crowd.py`), and, with `--log`,
an access log. Both workers take the same records in the same process, in turn, first one then the other. Before each
run all caches are emptied and a part of the traffic that is not measured fills them (`--warm`, a quarter), as in a
worker that has run for a while; `cold` is the same without that part.
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
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]  # it has no types
from rich.console import Console
from rich.table import Table

from benchmarks.access_log import AccessLog
from benchmarks.crowd import crowd
from benchmarks.edge_servers import await_answer, collector, free_port, process
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


class Log:
    """A log of one partition whose records are in memory; also its reader."""

    topic = "hits"

    def __init__(self, partition: int, values: Sequence[bytes]) -> None:
        self.partition = partition
        self.registered: Registered | None = None
        self._records = [Record(offset, value[8:24], value) for offset, value in enumerate(values)]
        self._next = 0

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


class Sample(NamedTuple):
    """One run: CPU per event, and of each cache the share of answers that it had."""

    cpu_us: float
    hit_rates: dict[str, float]


@contextmanager
def clickhouse(root: Path) -> Iterator[Settings]:
    """Run an embedded ClickHouse with its tables; yield the settings that all of enrichment is on with."""
    ranges, place = _network_files(root)
    sites = {"shop": {"domains": [HOST.partition(".")[2]]}, "semicomplete": {"domains": ["semicomplete.com"]}}
    port = free_port()
    settings = load(
        data_dir=root,
        clickhouse_port=port,
        sites=sites,
        place_database=place,
        datacentre_ranges=[ranges],
        event_age_s_max=40 * 365 * 86_400,  # the access log is of 2015
        batch_age_s_max=0.000001,  # what is there is a batch
    )
    environment = child_environment(
        HITSTREAM_DATA_DIR=str(root), HITSTREAM_CLICKHOUSE_PORT=str(port), HITSTREAM_ADMIN_PORT=str(free_port())
    )
    command = [sys.executable, "-m", "infra.command.main", "clickhouse"]
    with (root / "clickhouse.log").open("wb") as log, process(command, env=environment, stdout=log, stderr=log):
        await_answer(port)
        apply_migrations(settings)
        yield settings


def _network_files(root: Path) -> tuple[Path, Path]:
    """Write a list of 4,000 datacentre ranges and a place database of what the shop's visitors have."""
    ranges = root / "ranges.txt"
    ranges.write_text("".join(f"{18 + n // 250}.{n % 250}.0.0/18\n" for n in range(4_000)))
    writer = MMDBWriter(6, "Bench-City", languages=["en"], ipv4_compatible=True, int_type="u32")
    for locale in LOCALES:
        names = {"names": {"en": f"Region of {locale.language}"}}
        country = {"iso_code": locale.language[-2:], "names": {"en": locale.language}}
        for network in locale.networks:
            cidr = f"{network}:/32" if ":" in network else f"{network}.0.0/16"
            writer.insert_network(IPSet([cidr]), {"country": country, "subdivisions": [names], "city": names})
    place = root / "place.mmdb"
    writer.to_db_file(str(place))
    return ranges, place


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
    """The two workers over one ClickHouse; every run has a partition of its own."""

    def __init__(self, settings: Settings, store: ClickHouseStore) -> None:
        self._rules = worker_rules(settings, network_files(settings))
        self._store = store
        self._partitions = count()

    def run(self, name: str, hits: Sequence[bytes], warm: int) -> Sample:
        """Load `hits` from fresh; of the first `warm` the time does not count."""
        for cached in CACHES.values():
            cached.cache_clear()
        with ExitStack() as stack:
            if name == WITHOUT:
                stack.enter_context(patch.object(pipeline, "Enricher", Nothing))
            if warm:
                self._load(hits[:warm])
            before = {cache: (info.hits, info.misses) for cache, info in cache_info().items()}
            cpu_s = self._load(hits[warm:])
        rates = {}
        for cache, info in cache_info().items():
            found, missed = info.hits - before[cache][0], info.misses - before[cache][1]
            if found + missed:
                rates[cache] = round(found / (found + missed), 4)
        return Sample(cpu_s / (len(hits) - warm) * 1e6, rates)

    def _load(self, hits: Sequence[bytes]) -> float:
        log = Log(next(self._partitions), hits)
        worker = Worker(log, self._store, self._rules, time.time)
        gc.collect()
        began_s = time.process_time()
        while log.registered is None or log.registered.last < len(hits) - 1 or worker.step():
            worker.step()
            if worker.counters.retries or worker.counters.fenced:
                raise RuntimeError("the worker had to try again")
        used_s = time.process_time() - began_s
        counters = worker.counters
        gone = counters.duplicates + counters.resent + counters.rejected.total()
        if counters.inserted + gone != len(hits):
            raise RuntimeError(f"{counters} of {len(hits)} hits")
        return used_s


def compare(bench: Bench, hits: Sequence[bytes], warm: int, rounds: int) -> dict[str, Any]:
    """Return both workers' figures, medians over interleaved rounds after one that does not count."""
    samples: dict[str, list[Sample]] = {WITH: [], WITHOUT: []}
    for number in range(rounds + 1):
        for name in (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH):
            sample = bench.run(name, hits, warm)
            if number:
                samples[name].append(sample)
    ratios = sorted(a.cpu_us / b.cpu_us for a, b in zip(samples[WITH], samples[WITHOUT], strict=True))
    return {
        "events": len(hits) - warm,
        "cpu_us_per_event": {
            name: round(statistics.median(s.cpu_us for s in these), 2) for name, these in samples.items()
        },
        "ratio": round(statistics.median(ratios), 3),
        "ratio_spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        "cache_hit_rates": samples[WITH][-1].hit_rates,
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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--hits", type=int, default=40_000)
    parser.add_argument("--warm", type=float, default=0.25, help="share of the hits that fills the caches")
    parser.add_argument("--log", type=Path, help="an access log, as further traffic")
    given = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        root = Path(temporary)
        shop = shop_requests(5, int(time.time() * 1000), visitors=given.hits)
        traffic = {"shop": hits_of(islice(crowd(shop), given.hits), root / "shop")}
        if given.log:
            traffic["access log"] = hits_of(AccessLog(given.log), root / "log")
        os.sched_setaffinity(0, {BENCH_CORE % (os.cpu_count() or 1)})
        settings = stack.enter_context(clickhouse(root))
        bench = Bench(settings, ClickHouseStore(stack.enter_context(open_client(settings, exact=True))))
        for name, hits in traffic.items():
            figures[name] = compare(bench, hits, int(len(hits) * given.warm), given.rounds)
            figures[f"{name}, cold"] = compare(bench, hits, 0, max(given.rounds // 2, 1))
    show(figures)
    print(write_result("enrich", figures))
    return 0 if figures["shop"]["ratio"] <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
