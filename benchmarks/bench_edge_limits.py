"""The edge beyond its cost a hit: handling times, stalls, many connections, a long backlog, memory, and `sync = disk`.

- *Handling*: the histograms of collector and bare echo, both timed the same way (bytes read to answer handed to the
  kernel, for the whole tick), at half of what the collector can do, interleaved. Each connection of wrk pauses at
  random, for whole ms, so some requests come together, and each counts with its whole tick.
- *Stalls*: the longest handling time in STALL_S seconds at that load, while segments roll and a forwarder deletes them.
  The machine's own pauses on that core are watched meanwhile (`pauses.py`); what a time has beyond those within it is
  the server's own. The bare echo, at the same load, stands beside it.
- *Connections*: CPU a hit over nginx's with its log, at 64 and at 4,096 connections, interleaved.
- *Backlog and memory*: one collector keeps MEMORY_HITS hits that nobody takes away, and its memory is looked at; its
  spool is then filled up to BACKLOG_BYTES with segments written straight, and its CPU a hit is compared with that of a
  collector that has just begun.
- *Disk*: hits a second, answer times and fdatasync calls per 1,000 hits with `sync = disk`.

Run it as `python -m benchmarks.bench_edge_limits [--only PART]`; all parts take a quarter of an hour and write
`results/edge_limits.json`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.edge_requests import RETURNING
from benchmarks.edge_servers import SERVER_CORE, Server, collector, forwarder_of, nginx, timed_echo, told_by
from benchmarks.pauses import paused_ms, pauses, watched
from benchmarks.results_file import write_result
from benchmarks.server_counts import LOOK_FROM_MS, longest_ms, quantile
from benchmarks.wrk import CLIENT_CORE, Sample, check_programs, drive
from infra.journal.segment import SUFFIX, Segment

ROUNDS = 5
SECONDS = 4.0
PACED_CONNECTIONS = 256
STALL_S = 60.0
CONNECTIONS_FEW, CONNECTIONS_MANY = 64, 4096
MEMORY_HITS = 10_000_000
MEMORY_STEPS = 10
BACKLOG_BYTES = 8 << 30

Figures = dict[str, Any]


def counted(server: Server, load: Callable[[], Any]) -> dict[str, int]:
    """Return by how much a server's counters grow under a load."""
    before = told_by(server).counts
    load()
    return _growth(before, told_by(server).counts)


def _growth(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: after[name] - before.get(name, 0) for name in after}


def paced(root: Path, per_s: float) -> tuple[Path, float]:
    """Return a script that sends about `per_s` requests over PACED_CONNECTIONS, and how many it sends at most."""
    delay_ms = max(round(PACED_CONNECTIONS / per_s * 1000), 1)
    return RETURNING.script(root, delay_ms=delay_ms), PACED_CONNECTIONS / delay_ms * 1000


def half_load(server: Server, root: Path) -> tuple[Path, float]:
    """Return a script at half of what a server can do, and its rate."""
    full = drive(server.port, server.pids, RETURNING.script(root), seconds=SECONDS)
    return paced(root, full.per_s / 2)


def measure_handling(root: Path) -> Figures:
    """Compare handling times at half load."""
    with ExitStack() as stack:
        servers = {
            "hitstream": stack.enter_context(collector(root / "collector")),
            "echo": stack.enter_context(timed_echo(root / "echo")),
        }
        script, rate = half_load(servers["hitstream"], root)
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        rates: list[float] = []
        for number in range(ROUNDS + 1):
            for name, server in servers.items():
                counts = counted(server, partial(_paced, server, script, rates))
                if number:
                    rows[name].append((quantile(counts, 0.5), quantile(counts, 0.99)))
    figures: Figures = {"rate_wanted": round(rate), "rate": round(statistics.median(rates))}
    for place, part in enumerate(("p50", "p99")):
        ours, bare = ([times[place] for times in rows[name]] for name in ("hitstream", "echo"))
        figures[f"{part}_us"] = round(statistics.median(ours), 1)
        figures[f"{part}_us_echo"] = round(statistics.median(bare), 1)
        figures[f"{part}_ratio"] = round(statistics.median(a / b for a, b in zip(ours, bare, strict=True)), 2)
    return figures


def _paced(server: Server, script: Path, rates: list[float], seconds: float = SECONDS) -> None:
    rates.append(drive(server.port, server.pids, script, seconds=seconds, connections=PACED_CONNECTIONS).per_s)


def measure_stalls(root: Path) -> Figures:
    """Load for STALL_S while segments come and go, and the bare echo as long."""
    figures: Figures = {"seconds": STALL_S}
    rates: list[float] = []
    with collector(root / "collector") as server, forwarder_of(root / "collector"):
        script, rate = half_load(server, root)
        figures |= {"rate_wanted": round(rate)} | _stalls(server, partial(_paced, server, script, rates), root / "ours")
    with timed_echo(root / "echo") as server:
        echo = _stalls(server, partial(_paced, server, script, rates), root / "bare")
    del echo["segments"]
    return figures | {"rate": round(rates[1])} | {f"{name}_echo": value for name, value in echo.items()}


def _stalls(server: Server, load: Callable[..., None], file: Path) -> Figures:
    load()
    with watched(SERVER_CORE, file):
        began_s, before = time.monotonic(), told_by(server).counts
        load(seconds=STALL_S)
        told = told_by(server)
    counts, found = _growth(before, told.counts), pauses(file)
    looks = [look for look in told.looks if look.at_s >= began_s]
    own_ms = (look.longest_ms - paused_ms(found, look.at_s - look.longest_ms / 1000, look.at_s) for look in looks)
    return {
        "segments": counts["segments"],
        "longest_ms_at_most": longest_ms(counts),
        "longest_pause_ms": round(max((pause.ms for pause in found), default=0.0), 1),
        "longest_own_ms_at_most": round(max(own_ms, default=LOOK_FROM_MS), 1),
        "p999_us": round(quantile(counts, 0.999), 1),
    }


def measure_connections(root: Path) -> Figures:
    """Compare with nginx at few and at many connections."""
    script = RETURNING.script(root)
    ratios: dict[int, list[float]] = {CONNECTIONS_FEW: [], CONNECTIONS_MANY: []}
    with collector(root / "collector") as ours, nginx("logged", root / "logged") as logged:
        for number in range(ROUNDS + 1):
            for connections, found in ratios.items():
                cost = [
                    drive(server.port, server.pids, script, seconds=SECONDS, connections=connections).cpu_us
                    for server in (ours, logged)
                ]
                if number:
                    found.append(cost[0] / cost[1])
    few, many = (statistics.median(found) for found in ratios.values())
    return {
        f"ratio_{CONNECTIONS_FEW}": round(few, 3),
        f"ratio_{CONNECTIONS_MANY}": round(many, 3),
        "growth": round(many / few, 3),
    }


def measure_backlog(root: Path) -> Figures:
    """Keep hits that nobody takes, look at the memory, then at what a hit costs."""
    script = RETURNING.script(root)
    with collector(root / "full") as full, collector(root / "empty") as empty:
        process = psutil.Process(full.pids[0])
        sizes: list[float] = []
        kept = 0
        with Progress() as progress:
            task = progress.add_task("keeping hits", total=MEMORY_HITS)
            while kept < MEMORY_HITS:
                kept += drive(full.port, full.pids, script, seconds=SECONDS * 2).hits
                progress.update(task, completed=kept)
                if kept >= MEMORY_HITS * len(sizes) / MEMORY_STEPS:
                    sizes.append(process.memory_info().rss / (1 << 20))
        _fill(root / "full" / "spool", BACKLOG_BYTES)
        backlog = _spooled(root / "full" / "spool")
        costs: list[list[float]] = []
        for number in range(ROUNDS + 1):
            pair = [drive(server.port, server.pids, script, seconds=SECONDS).cpu_us for server in (full, empty)]
            if number:
                costs.append(pair)
    return {
        "hits": kept,
        "rss_mib": [round(size, 1) for size in sizes],
        "backlog_gib": round(backlog / (1 << 30), 2),
        "cpu_us_per_hit": round(statistics.median(cost[0] for cost in costs), 2),
        "cpu_us_per_hit_without": round(statistics.median(cost[1] for cost in costs), 2),
        "ratio": round(statistics.median(cost[0] / cost[1] for cost in costs), 3),
    }


def _segments(spool_root: Path) -> Iterator[Path]:
    return (path for path in spool_root.glob(f"*/*{SUFFIX}") if not path.name.startswith("."))


def _spooled(spool_root: Path) -> int:
    return sum(path.stat().st_size for path in _segments(spool_root))


def _fill(spool_root: Path, size: int) -> None:
    """Copy a segment into the directory of a spool whose collector is gone, until all are `size` bytes."""
    pattern = min(_segments(spool_root))
    dead = spool_root / ("0" * 16)
    dead.mkdir()
    for number in range(-((_spooled(spool_root) - size) // pattern.stat().st_size)):
        shutil.copyfile(pattern, dead / Segment(number, number).name)


def measure_disk(root: Path) -> Figures:
    """Load a collector that syncs before it answers."""
    with collector(root / "collector", HITSTREAM_SYNC="disk") as server:
        script = RETURNING.script(root)
        drive(server.port, server.pids, script, seconds=1)
        samples: list[Sample] = []

        def load() -> None:
            samples.extend(drive(server.port, server.pids, script, seconds=SECONDS) for _ in range(ROUNDS))

        counts = counted(server, load)
    return {
        "hits_per_s": round(statistics.median(sample.per_s for sample in samples)),
        "p50_ms": round(statistics.median(sample.p50_ms for sample in samples), 2),
        "p99_ms": round(statistics.median(sample.p99_ms for sample in samples), 2),
        "fdatasyncs_per_1000_hits": round(counts["syncs"] / counts["hits_kept"] * 1000, 2),
        "handling_p50_us": round(quantile(counts, 0.5)),
        "handling_p99_us": round(quantile(counts, 0.99)),
    }


PARTS: dict[str, Callable[[Path], Figures]] = {
    "handling": measure_handling,
    "stalls": measure_stalls,
    "connections": measure_connections,
    "backlog": measure_backlog,
    "disk": measure_disk,
}


@contextmanager
def _many_files() -> Iterator[None]:
    """Let this process and those that it starts open as many files as they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def show(parts: Mapping[str, Figures]) -> None:
    """Print a table."""
    table = Table(title="the edge at its limits", title_justify="left")
    for column in ("part", "figure", "value"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for part, figures in parts.items():
        for name, value in figures.items():
            table.add_row(part, name, str(value))
    Console(highlight=False).print(table)


def main() -> int:
    """Measure, print the table, write the result."""
    parser = argparse.ArgumentParser(description="handling times, stalls, connections, backlog, memory, sync = disk")
    parser.add_argument("--only", choices=PARTS, help="one part; nothing is written")
    given = parser.parse_args()
    check_programs("wrk", "taskset", "nginx")
    os.sched_setaffinity(0, {CLIENT_CORE})  # what looks at the servers takes nothing from their core
    parts: dict[str, Figures] = {}
    with _many_files():
        for name, measure in PARTS.items():
            if given.only in {None, name}:
                with tempfile.TemporaryDirectory() as temporary:
                    parts[name] = measure(Path(temporary))
                show({name: parts[name]})
    if given.only is None:
        print(write_result("edge_limits", parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
