"""What reports cost: each against a bare `GROUP BY visitor_id` over the same events, in the same run.

A real `hitstream clickhouse` with the migrations' tables holds events that `report_events.py` made; reports are what
`hitstream report` runs, over HTTP. *Bare* is `SELECT max(n) FROM (SELECT visitor_id, count() AS n FROM events GROUP BY
visitor_id)`: one column, read and hashed once. Of every size all queries run in turn, round by round, after a round
that does not count; a ratio is of one round, figures are medians over the rounds.
Run it as `python -m benchmarks.bench_reports`; it writes `results/reports.json`, or what `--result` names. `--keep DIR`
keeps the events there, and finds those of an earlier run, which are migrated to the present tables.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.edge_servers import await_answer, free_port, process
from benchmarks.report_events import await_merges, fill
from benchmarks.results_file import write_result
from consumers.clickhouse_client import ClickHouse
from infra.command.database import apply_migrations, open_client
from infra.report_options import ALL_MODELS, ReportOptions
from infra.reports import run
from schemas.settings import child_environment, load

ALL_CORES = tuple(sorted(os.sched_getaffinity(0)))
SIZES = (1_000_000, 10_000_000, 100_000_000)
STEPS = ("PageView", "ViewContent", "AddToCart", "Purchase")
QUERY_S_MAX = 3600.0
BARE, FUNNEL, ATTRIBUTION = "bare GROUP BY visitor_id", "funnel, 4 steps by channel", "attribution, six models"
SESSIONS_CHANNEL, SESSIONS_DAY = "sessions by channel", "sessions by day"
CHANNELS = "channels: sessions by channel and day"
BOUNDS = {FUNNEL: 6.0, ATTRIBUTION: 8.0}
CHANNELS_S_BOUND = 0.3
BYTES_BOUND = 40.0

_BARE = "SELECT max(n) FROM (SELECT visitor_id, count() AS n FROM events GROUP BY visitor_id)"
_COUNTS = """
SELECT count() AS events, uniqExact(visitor_id) AS visitors, uniqExact(session_id) AS sessions,
       countIf(event_name = 'Purchase') AS purchases FROM events"""
_HOURS_COLUMNS = (
    "site, start_hour, version, unit_rows, quarter, channel, is_bot, sessions, bounces, events, duration_ms"
)
_DISK = """
SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts
WHERE active AND database = currentDatabase() GROUP BY table ORDER BY table"""
_COLUMNS = """
SELECT column, sum(column_bytes_on_disk) AS bytes FROM system.parts_columns
WHERE active AND database = currentDatabase() AND table = 'events' GROUP BY column ORDER BY bytes DESC"""


@contextmanager
def clickhouse(root: Path) -> Iterator[ClickHouse]:
    """Run an embedded ClickHouse on all cores, its data in `root`; yield a client of it, its tables migrated."""
    root.mkdir(parents=True, exist_ok=True)
    settings = load(data_dir=root, clickhouse_port=free_port(), insert_timeout_s=QUERY_S_MAX)
    environment = child_environment(
        HITSTREAM_DATA_DIR=str(root),
        HITSTREAM_CLICKHOUSE_PORT=str(settings.clickhouse_port),
        HITSTREAM_ADMIN_PORT=str(free_port()),
    )
    command = [sys.executable, "-m", "infra.command.main", "clickhouse"]
    log = root / "clickhouse.log"
    with log.open("ab") as out, process(command, cores=ALL_CORES, env=environment, stdout=out, stderr=out):
        await_answer(settings.clickhouse_port)
        apply_migrations(settings)
        with open_client(settings) as client:
            yield client


def queries(client: ClickHouse) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    return {
        BARE: lambda: client.query(_BARE),
        FUNNEL: lambda: run("funnel", client, ReportOptions(steps=STEPS, by="channel")),
        ATTRIBUTION: lambda: run("attribution", client, ReportOptions(model=ALL_MODELS)),
        SESSIONS_CHANNEL: lambda: run("sessions", client, ReportOptions(by="channel")),
        SESSIONS_DAY: lambda: run("sessions", client, ReportOptions(by="day")),
        CHANNELS: lambda: run("channels", client, ReportOptions()),
    }


def seconds(asked: Callable[[], object]) -> float:
    """Return how long a query took."""
    began_s = time.perf_counter()
    asked()
    return time.perf_counter() - began_s


def measure(client: ClickHouse, rounds: int) -> dict[str, Any]:
    """Return what the queries took: medians and spread, of seconds and of the ratio to the bare one."""
    asked = queries(client)
    took = [{name: seconds(one) for name, one in asked.items()} for _ in range(rounds + 1)][1:]
    return {
        name: {
            "s": round(statistics.median(one[name] for one in took), 4),
            "s_spread": [round(end(one[name] for one in took), 4) for end in (min, max)],
            "ratio": round(statistics.median(one[name] / one[BARE] for one in took), 2),
            "ratio_spread": [round(end(one[name] / one[BARE] for one in took), 2) for end in (min, max)],
        }
        for name in asked
    }


def count_hours(client: ClickHouse) -> None:
    """Count sessions beforehand, as the view does every ten minutes: SYSTEM REFRESH is off in the embedded engine."""
    counts = client.query("SELECT as_select FROM system.tables WHERE name = 'session_hours_mv'")[0][0]
    client.command(f"INSERT INTO session_hours ({_HOURS_COLUMNS}) {counts}")


def size_figures(root: Path, wanted: int, rounds: int) -> dict[str, Any]:
    """Return all figures of one size."""
    with clickhouse(root) as client:
        if not client.query("SELECT count() FROM events")[0][0]:
            began_s = time.perf_counter()
            fill(client, wanted)
            print(f"{wanted:,} events made in {time.perf_counter() - began_s:.0f} s", flush=True)
        await_merges(client)
        count_hours(client)
        counts = {name: int(column[0]) for name, column in client.query_columns(_COUNTS).items()}
        tables = {table: (rows, size, parts) for table, rows, size, parts in client.query(_DISK)}
        events = counts["events"]
        return {
            **counts,
            "parts": {table: parts for table, (_, _, parts) in tables.items()},
            "bytes_per_event": {table: round(size / events, 2) for table, (_, size, _) in tables.items()},
            "bytes_per_event_by_column": {str(name): round(size / events, 3) for name, size in client.query(_COLUMNS)},
            "queries": measure(client, rounds),
        }


def show(figures: dict[str, dict[str, Any]]) -> None:
    """Print a table."""
    table = Table(title="Reports: seconds, and times the bare GROUP BY of the same round", title_justify="left")
    table.add_column("query")
    for row in figures.values():
        table.add_column(f"{row['events']:,} events", justify="right")
    table.add_column("most", justify="right")
    for name in next(iter(figures.values()))["queries"]:
        cells = [(row["queries"][name]["s"], row["queries"][name]["ratio"]) for row in figures.values()]
        bound = f"{BOUNDS[name]:.0f} x" if name in BOUNDS else ""
        bound = f"{CHANNELS_S_BOUND} s" if name == CHANNELS else bound
        table.add_row(name, *(f"{took:.3f} s  {ratio:.2f} x" for took, ratio in cells), bound)
    sizes = [row["bytes_per_event"]["events"] for row in figures.values()]
    table.add_row("bytes an event on disk", *(f"{size:.1f}" for size in sizes), f"{BYTES_BOUND:.0f}")
    Console(highlight=False).print(table)


def kept_bounds(figures: dict[str, Any]) -> bool:
    """Whether the largest size keeps all bounds."""
    ratios = all(figures["queries"][name]["ratio"] <= bound for name, bound in BOUNDS.items())
    prompt = figures["queries"][CHANNELS]["s"] <= CHANNELS_S_BOUND
    return ratios and prompt and figures["bytes_per_event"]["events"] <= BYTES_BOUND


def main() -> int:
    """Measure, print, write the result; return 1 when a bound is passed."""
    parser = argparse.ArgumentParser(description="Seconds of reports, from a million events to a hundred")
    parser.add_argument("--events", type=float, default=SIZES[-1], help="the largest size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--result", default="reports", help="the result's name")
    parser.add_argument("--keep", type=Path, help="a directory for the events")
    given = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        for size in sorted({*(one for one in SIZES if one < given.events), int(given.events)}):
            root = (given.keep or Path(temporary)) / str(size)
            figures[f"{size:,}"] = size_figures(root, size, given.rounds)
    show(figures)
    print(write_result(given.result, figures))
    return 0 if kept_bounds(list(figures.values())[-1]) else 1


if __name__ == "__main__":
    sys.exit(main())
