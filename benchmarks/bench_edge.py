"""The edge: CPU per hit of the collector and of what it is compared with, whole servers side by side.

Every server is driven from outside by wrk over loopback (`edge_requests.py`), on one core, the load generator and the
broker on the other. What counts is the CPU time of all its processes, user and system, divided by the hits it answered;
where hits go to Kafka, until they have arrived there. Rounds are interleaved, and the ratio of two figures of the same
round is what to trust. Run it as `python -m benchmarks.bench_edge [--rounds 5] [--seconds 3] [--only edge|kafka]`;
it writes `results/edge.json` and the README's chart.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.chart import draw_edge
from benchmarks.edge_requests import CASES, RETURNING, Case
from benchmarks.edge_servers import (
    Server,
    collector,
    collector_and_forwarder,
    echo,
    free_port,
    make_topic,
    nginx,
    nginx_and_kcat,
    rival,
    rivals,
)
from benchmarks.results_file import write_result
from benchmarks.wrk import Sample, check_programs, drive
from infra import compiled
from infra.kafka_server.broker import KafkaServer
from infra.kafka_server.jars import ensure_jars
from schemas.settings import load

OURS = "hitstream, returning visitor"
OURS_TO_KAFKA = "hitstream collector + forwarder to Kafka"
NGINX_LOGGED = "nginx empty_gif + access_log"
NGINX_BARE = "nginx empty_gif"
EDGE_AGAINST = (NGINX_LOGGED, NGINX_BARE, OURS)


class Contestant:
    """One row of the table: a server under one kind of load, and its samples, one a round."""

    def __init__(self, name: str, server: Server, case: Case, script: Path) -> None:
        self.name = name
        self._server = server
        self._case = case
        self._script = script
        self.samples: list[Sample] = []

    def measure(self, seconds: float, connections: int) -> Sample:
        """Drive the server once."""
        server = self._server
        return drive(
            server.port,
            server.pids,
            self._script,
            seconds=seconds,
            connections=connections,
            hits_per_request=self._case.events,
            settled=server.settled,
        )


def rounds(contestants: Sequence[Contestant], count: int, seconds: float, connections: int) -> None:
    """Measure every contestant `count` times, interleaved, after one short round that does not count."""
    with Progress() as progress:
        task = progress.add_task("measuring", total=(count + 1) * len(contestants))
        for number in range(count + 1):
            for contestant in contestants:
                progress.update(task, description=contestant.name, advance=1)
                sample = contestant.measure(seconds if number else 1, connections)
                if number:
                    contestant.samples.append(sample)


def figures(contestants: Sequence[Contestant], against: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return medians and spread by name; `ratios` are to those named in `against`, round by round."""
    bases = [contestant for contestant in contestants if contestant.name in against]
    return {
        contestant.name: {
            "cpu_us_per_hit": round(statistics.median(sample.cpu_us for sample in contestant.samples), 2),
            "cpu_us_per_hit_spread": [
                round(bound(sample.cpu_us for sample in contestant.samples), 2) for bound in (min, max)
            ],
            "hits_per_s": round(statistics.median(sample.per_s for sample in contestant.samples)),
            "p50_ms": round(statistics.median(sample.p50_ms for sample in contestant.samples), 3),
            "p99_ms": round(statistics.median(sample.p99_ms for sample in contestant.samples), 3),
            "ratios": {base.name: _ratio(contestant, base) for base in bases},
        }
        for contestant in contestants
    }


def _ratio(one: Contestant, other: Contestant) -> dict[str, Any]:
    ratios = [a.cpu_us / b.cpu_us for a, b in zip(one.samples, other.samples, strict=True)]
    return {
        "median": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def show(title: str, rows: dict[str, dict[str, Any]], against: Sequence[str]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for column in ("server", "us/hit", "hits/s", *(f"÷ {name}" for name in against)):
        table.add_column(column, justify="left" if column == "server" else "right")
    for name, row in rows.items():
        cells = [_cell(row["cpu_us_per_hit"], row["cpu_us_per_hit_spread"]), f"{row['hits_per_s']:,}"]
        cells += [_cell(row["ratios"][base]["median"], row["ratios"][base]["spread"]) for base in against]
        table.add_row(name, *cells)
    Console(highlight=False).print(table)


def _cell(median: float, spread: Sequence[float]) -> str:
    return f"{median:.2f}\n({spread[0]:.2f} to {spread[1]:.2f})"


def measure_edge(root: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Compare the collector's cases with nginx and bare uvloop."""
    with ExitStack() as stack:
        ours = stack.enter_context(collector(root / "collector"))
        plain = stack.enter_context(collector(root / "plain", plain=True))
        bare = stack.enter_context(echo())
        logged = stack.enter_context(nginx("logged", root / "logged"))
        silent = stack.enter_context(nginx("silent", root / "silent", "access_log off;"))
        scripts = {case: case.script(root) for case in CASES}
        # each of ours stands near what it is compared with: a round lasts half a minute, and machines drift
        before, behind = (
            [Contestant(name, server, RETURNING, scripts[RETURNING]) for name, server in some.items()]
            for some in (
                {"bare uvloop echo": bare, NGINX_BARE: silent, NGINX_LOGGED: logged},
                {"hitstream as plain Python, returning visitor": plain},
            )
        )
        cases = [Contestant(f"hitstream, {case.name}", ours, case, scripts[case]) for case in CASES]
        contestants = [*before, *cases, *behind]
        rounds(contestants, given.rounds, given.seconds, given.connections)
        return figures(contestants, EDGE_AGAINST)


def measure_kafka(root: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Compare collector and forwarder, to Kafka, with what people build by hand and with Python rivals."""
    with ExitStack() as stack:
        kafka = stack.enter_context(KafkaServer(root / "kafka", ensure_jars(load().cache_dir, print)))
        address = kafka.bootstrap_servers
        script = RETURNING.script(root)
        made: list[Callable[[str], Any]] = [
            lambda topic: collector_and_forwarder(root / "edge", address, topic),
            lambda topic: nginx_and_kcat(root / "kcat", address, topic),
        ]
        for name, command in rivals():
            port = free_port()
            made.append(partial(rival, name, command(port), address, port))
        contestants = []
        for number, make in enumerate(made):
            topic = f"bench-{number}"
            make_topic(address, topic)
            server = stack.enter_context(make(topic))
            contestants.append(Contestant(server.name, server, RETURNING, script))
        rounds(contestants, given.rounds, given.seconds, given.connections)
        return figures(contestants, [OURS_TO_KAFKA])


def main() -> int:
    """Measure, print the tables, write result and chart."""
    parser = argparse.ArgumentParser(description="CPU per hit: collector, nginx and rivals")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", choices=("edge", "kafka"), help="one half; nothing is written")
    given = parser.parse_args()
    check_programs("wrk", "taskset", "nginx", "kcat")
    if compiled.state() != compiled.COMPILED:
        raise SystemExit(
            f"the hot path as it is run is to be measured, and it is {compiled.state()}: hitstream compile"
        )
    parts: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if given.only != "kafka":
            parts["edge"] = measure_edge(root, given)
            show("CPU per hit, whole server", parts["edge"], EDGE_AGAINST)
        if given.only != "edge":
            parts["kafka"] = measure_kafka(root, given)
            show("CPU per hit, until it is in Kafka", parts["kafka"], [OURS_TO_KAFKA])
    if given.only is None:
        nginx_says = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
        print(write_result("edge", parts, {"nginx": nginx_says.strip().rpartition("/")[2]}))
        print(draw_edge(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
