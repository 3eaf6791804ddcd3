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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple

from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]  # it has no types
from rich.console import Console
from rich.table import Table

from benchmarks.access_log import AccessLog
from benchmarks.crowd import crowd
from benchmarks.edge_servers import SERVER_CORE, Server, await_answer, collector, free_port, process
from benchmarks.enrich_worker import WITH, WITHOUT, settings_of
from benchmarks.http_sender import Pace, Target, send
from benchmarks.results_file import write_result
from benchmarks.shop import shop_requests
from benchmarks.shop_world import LOCALES
from benchmarks.traffic import Request
from infra import compiled
from infra.command.database import apply_migrations
from infra.journal.reader import JournalReader
from schemas.settings import child_environment

BOUND = 1.25
READ_BYTES = 8 << 20
SLICE_HITS = 2_500


class Pass(NamedTuple):
    """One worker's pass over a traffic: CPU seconds by slice, and of each cache the share of answers that it had."""

    cpu_s: list[float]
    hit_rates: dict[str, float]


@contextmanager
def clickhouse(root: Path, cores: Sequence[int] = (SERVER_CORE,)) -> Iterator[Server]:
    """Run an embedded ClickHouse with its tables, on cores, the servers' one unless told otherwise."""
    port = free_port()
    environment = child_environment(
        HITSTREAM_DATA_DIR=str(root), HITSTREAM_CLICKHOUSE_PORT=str(port), HITSTREAM_ADMIN_PORT=str(free_port())
    )
    command = [sys.executable, "-m", "infra.command.main", "clickhouse"]
    with (
        (root / "clickhouse.log").open("wb") as log,
        process(command, cores=cores, env=environment, stdout=log, stderr=log) as one,
    ):
        await_answer(port)
        apply_migrations(settings_of(root, port))
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


@contextmanager
def worker_processes(root: Path, port: int) -> Iterator[dict[str, Connection]]:
    """Run both workers, compiled where the box's are; yield the pipes to them."""
    with ExitStack() as stack:
        pipes = {}
        for name in (WITH, WITHOUT):
            address = str(root / f"{name}.sock")
            listener = stack.enter_context(Listener(address, "AF_UNIX"))
            program = ["-m", compiled.__name__, "benchmarks.enrich_worker", address, name, str(root), str(port)]
            one = stack.enter_context(subprocess.Popen([sys.executable, *program]))
            stack.callback(one.terminate)
            pipes[name] = stack.enter_context(listener.accept())
        yield pipes


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
