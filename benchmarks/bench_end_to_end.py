"""End to end on two cores, load generator included: the rate at which hits become rows, and none waits longer.

Side by side, in one session, on the same two cores: `hitstream up` through a real Apache Kafka, `hitstream up` on its
own log, what people write instead (`rivals/`, through the same Kafka), and nginx that serves the GIF and logs, which
loads nothing. wrk sends the hits of a crowd (`paced_wrk.py`); each pipeline stands in `pipelines.py`.

The rate is searched for (`steady_rate.py`): short trials, then ones of `--seconds` in which the lag must not grow and
hits must be queryable in time. nginx serves as fast as it can right before and behind each of these, since a machine's
speed may change within minutes: a pipeline's share is that of these two. *Lag* is read off the parts themselves: of
ours the ledger's hits in spools and in the log (spool backlog + consumer lag), of the rival the topic's records without
a row. *CPU* is user and system time of each role's processes over the hits taken in that window. *Hit -> queryable* is
measured on the rows themselves, see `first_seen.py`. In the end every hit that was answered must have its row.

Run it as `python -m benchmarks.bench_end_to_end`; it writes `results/end_to_end.json` and what is made from it: chart,
the README's part, `docs/scale.md`. What misses a goal, it says. With CLICKHOUSE_URL set, that (empty) server is loaded,
and its CPU is not seen.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import end_to_end_page, scale_page
from benchmarks.edge_servers import nginx
from benchmarks.end_to_end_page import BOX, KAFKA, NGINX, RIVAL
from benchmarks.first_seen import FirstSeen, Latency
from benchmarks.footprint import Footprint, footprint
from benchmarks.paced_wrk import CONNECTIONS, SITE, Answers, Load, prepare
from benchmarks.pipelines import CORES, PARTITIONS, Counts, Pipeline, check_empty, ours, rival
from benchmarks.results_file import write_result
from benchmarks.steady_rate import (
    GROWTH_LONG,
    GROWTH_SHORT,
    LAG_S_MAX,
    Bounds,
    Look,
    Verdict,
    bracket,
    confirm,
    judge,
    search,
)
from benchmarks.wrk import check_programs, cpu_s
from infra import compiled
from infra.kafka_server.broker import KafkaServer
from infra.kafka_server.jars import ensure_jars
from ingest.http_response import PIXEL
from schemas.settings import load

FIRST_RATE, FACTOR = 4_000.0, 1.6
LOOK_S, WARM_UP_S, TRIAL_S, NGINX_S = 2.0, 6.0, 15.0, 10.0
COMPILE_S = 30.0
BRACKETING, TRIALS, CONFIRMATIONS = 6, 3, 8
FOREIGN_CORES_MAX, DISTURBED_MAX = 0.15, 3  # a trial in which others had more is repeated
QUIET_S_MAX = 120.0
Say = Callable[[str], None]
DRAIN_S_MAX = 240.0


class Trial(NamedTuple):
    """One drive of a pipeline at a rate: what it shows, CPU us a hit by role, and what cores others had meanwhile."""

    rate: float
    verdict: Verdict
    looks: list[Look]
    answers: Answers
    cpu_us: dict[str, float]
    latency: Latency
    foreign_cores: float

    @property
    def cores(self) -> float:
        """How many cores it all took, wrk and the measuring included."""
        return sum(self.cpu_us.values()) * self.rate / 1e6


class Served(NamedTuple):
    """What nginx did as fast as it could: hits a second, and CPU us a hit of nginx and of wrk."""

    per_s: float
    nginx_us: float
    wrk_us: float


def drive(pipeline: Pipeline, prepared: Path, rate: float, seconds: float, bounds: Bounds) -> Trial:
    """Send hits at a rate; look for so long, after a warm-up that does not count; return once all have their rows."""
    await_quiet()
    before = pipeline.counts()
    seen = FirstSeen(pipeline.clickhouse, pipeline.database, SITE, PARTITIONS)
    looks: list[Look] = []
    with Load(pipeline.port, prepared, WARM_UP_S + seconds + LOOK_S, rate=rate) as load:
        roles = {**pipeline.pids, "wrk": [load.pid], "measuring": [os.getpid()]}
        time.sleep(WARM_UP_S)
        seen.start()
        used, busy_s, first, began = _used(roles), _busy_s(), pipeline.counts(), time.monotonic()
        while (now_s := time.monotonic() - began) < seconds:
            looks.append(Look(now_s, pipeline.counts().lag))
            time.sleep(LOOK_S)
        last, until_ms, after = pipeline.counts(), time.time() * 1000, _used(roles)
        wall_s, busy_s = time.monotonic() - began, _busy_s() - busy_s
        looks.append(Look(wall_s, last.lag))
        answers = load.answers()
    _drain(pipeline, before, answers)
    seen.stop()
    hits = last.taken - first.taken
    cpu_us = {role: round((after[role] - used[role]) / hits * 1e6, 2) for role in roles}
    foreign_cores = (busy_s - sum(after.values()) + sum(used.values())) / wall_s
    latency = seen.latency(until_ms)
    verdict = judge(rate, answers.per_s, looks, latency.p99_ms / 1000, bounds)
    return Trial(rate, verdict, looks, answers, cpu_us, latency, foreign_cores)


def steady(
    pipeline: Pipeline, prepared: Path, given: argparse.Namespace, say: Say, serve: Callable[[], Served]
) -> tuple[Trial, list[Served]]:
    """Return the long trial at the highest rate found that holds, or at the one that is given, held or not.

    With it, what nginx served right before and behind it. Raises SystemExit when none holds.
    """
    confirmed: dict[float, tuple[Trial, list[Served]]] = {}

    def trial(rate: float, seconds: float, growth_max: float) -> Trial:
        for _ in range(DISTURBED_MAX):
            made = drive(pipeline, prepared, rate, seconds, Bounds(growth_max, given.lag))
            say(f"{pipeline.name}: {sentence(made)}")
            if made.foreign_cores <= FOREIGN_CORES_MAX:
                break
        return made

    def holds(rate: float) -> bool:
        return trial(rate, TRIAL_S, GROWTH_SHORT).verdict.held

    def holds_long(rate: float) -> bool:
        before = serve()
        made = trial(rate, given.seconds, GROWTH_LONG)
        confirmed[rate] = made, [before, serve()]
        return made.verdict.held

    if given.rate:
        holds_long(given.rate)
        return confirmed[given.rate]
    trial(FIRST_RATE, COMPILE_S, GROWTH_SHORT)  # the broker's code is compiled meanwhile
    rate = search(holds, *bracket(holds, FIRST_RATE, FACTOR, BRACKETING), TRIALS)
    if held := confirm(holds_long, rate, CONFIRMATIONS):
        return confirmed[held]
    raise SystemExit(f"{pipeline.name} holds no rate from {rate:,.0f} to {min(confirmed):,.0f} hits/s")


def await_quiet() -> None:
    """Return when nobody else uses these cores, or has not ceased to for a while: then the trial's figures say so."""
    deadline = time.monotonic() + QUIET_S_MAX
    while time.monotonic() < deadline:
        busy_s, own_s, began = _busy_s(), cpu_s([os.getpid()]), time.monotonic()
        time.sleep(1.0)
        others_s = _busy_s() - busy_s - (cpu_s([os.getpid()]) - own_s)
        if others_s / (time.monotonic() - began) <= FOREIGN_CORES_MAX:
            return


def sentence(trial: Trial) -> str:
    """Return what a trial shows, in words."""
    verdict, latency = trial.verdict, trial.latency
    held = "held" if verdict.held else "not held"
    return (
        f"{trial.rate:,.0f} hits/s {held}: {verdict.answered:.1%} answered, lag {verdict.lag_s:.1f} s of hits and "
        f"{verdict.growth:+.1%} of the rate a second, queryable p50 {latency.p50_ms:,} ms p99 {latency.p99_ms:,} ms, "
        f"{trial.cores:.2f} cores, others {trial.foreign_cores:.2f}"
    )


def serve_and_log(root: Path, prepared: Path, say: Say) -> Served:
    """Let nginx serve and log as fast as it can, in a new directory below `root`."""
    await_quiet()
    directory = Path(tempfile.mkdtemp(dir=root)) / "nginx"
    with nginx(NGINX, directory, cores=CORES) as server, Load(server.port, prepared, NGINX_S) as load:
        answers = load.answers()
        made = Served(answers.per_s, cpu_s(server.pids) / answers.hits * 1e6, answers.cpu_us)
    say(f"{NGINX}: {made.per_s:,.0f} hits/s")
    return made


def measure(root: Path, prepared: Path, given: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Measure the pipelines that are asked for, nginx beside each; return the figures."""
    rows: dict[str, Any] = {}
    served: list[Served] = []
    with KafkaServer(root / "kafka", ensure_jars(load().cache_dir, say)) as kafka:
        address, broker = kafka.bootstrap_servers, kafka.pid
        made: dict[str, Callable[[], AbstractContextManager[Pipeline]]] = {
            KAFKA: lambda: ours(KAFKA, root / "through-kafka", address, broker),
            RIVAL: lambda: rival(RIVAL, root / "rival", address, broker),
            BOX: lambda: ours(BOX, root / "box"),
        }
        for name, make in made.items():
            if given.only not in name:
                continue
            with make() as pipeline:
                trial, beside = steady(pipeline, prepared, given, say, partial(serve_and_log, root, prepared, say))
                sizes = footprint(pipeline, kafka.directory / "data", pipeline.counts().taken)
            rows[name] = row(trial, given.seconds, beside, sizes)
            served += beside
    rates = sorted(one.per_s for one in served)
    rows[NGINX] = {
        "hits_per_s": round(statistics.median(rates)),
        "hits_per_s_spread": [round(rates[0]), round(rates[-1])],
        "cpu_us_per_hit": {
            "nginx": round(statistics.median(one.nginx_us for one in served), 2),
            "wrk": round(statistics.median(one.wrk_us for one in served), 2),
        },
    }
    return rows


def row(trial: Trial, seconds: float, beside: Sequence[Served], sizes: Footprint) -> dict[str, Any]:
    """Return a pipeline's figures as they stand in the result."""
    return {
        "hits_per_s": round(trial.answers.per_s),
        "nginx_hits_per_s": round(statistics.fmean(one.per_s for one in beside)),
        "seconds": seconds,
        "lag_hits_start": trial.looks[0].lag,
        "lag_hits_end": trial.looks[-1].lag,
        "lag_growth_share": round(trial.verdict.growth, 4),
        "lag_s_mean": round(trial.verdict.lag_s, 2),
        "queryable_ms": trial.latency._asdict(),
        "answer_ms": {"p50": round(trial.answers.p50_ms, 2), "p99": round(trial.answers.p99_ms, 2)},
        "cpu_us_per_hit": trial.cpu_us,
        "cores_busy": round(trial.cores, 2),
        "cores_of_others": round(trial.foreign_cores, 2),
        "bytes_per_hit": {name: round(size, 1) for name, size in sizes._asdict().items()},
    }


def show(rows: Mapping[str, Any]) -> None:
    """Print the table, and which goals are met."""
    table = Table(title="two cores, load generator included", title_justify="left")
    for column in ("pipeline", "hits/s", "÷ nginx + log", "queryable p50, p99 ms", "CPU us/hit by role"):
        table.add_column(column, justify="left" if column in ("pipeline", "CPU us/hit by role") else "right")
    for name, found in rows.items():
        share = end_to_end_page.share_of_nginx(name, found)
        waited = found.get("queryable_ms")
        by_role = ", ".join(f"{role} {cpu_us:.1f}" for role, cpu_us in found["cpu_us_per_hit"].items())
        queryable = f"{waited['p50_ms']:,}, {waited['p99_ms']:,}" if waited else ""
        table.add_row(name, f"{found['hits_per_s']:,}", f"{share:.2f}", queryable, by_role)
    console = Console(highlight=False)
    console.print(table)
    for goal in end_to_end_page.goals(rows):
        console.print(goal.sentence, style="green" if goal.met else "bold red")


def _used(roles: Mapping[str, list[int]]) -> dict[str, float]:
    """Return the CPU seconds of each role's processes; `measuring` is this process without its children."""
    used = {role: cpu_s(pids) for role, pids in roles.items() if role != "measuring"}
    return {**used, "measuring": time.process_time()}


def _busy_s() -> float:
    """Return the seconds that the cores have worked, whoever for."""
    every = psutil.cpu_times(percpu=True)
    return sum(sum(every[core]) - every[core].idle - every[core].iowait - every[core].guest for core in CORES)


def _drain(pipeline: Pipeline, before: Counts, answers: Answers) -> None:
    """Wait until every hit has its row; raises SystemExit when one is lost, or it takes too long.

    When wrk ends, hits whose answer it did not wait for may have been taken: at most one a connection.
    """
    deadline = time.monotonic() + DRAIN_S_MAX
    while (counts := pipeline.counts()).lag or counts.taken < before.taken + answers.hits:
        if time.monotonic() > deadline:
            raise SystemExit(f"{pipeline.name}: {counts} after {DRAIN_S_MAX:g} s; {answers.hits:,} hits were answered")
        time.sleep(0.2)
    if counts.taken > before.taken + answers.hits + CONNECTIONS:
        raise SystemExit(f"{pipeline.name}: {counts.taken - before.taken:,} rows of {answers.hits:,} hits")


def main() -> int:
    """Measure, print the table, write result, chart and pages."""
    parser = argparse.ArgumentParser(description="hits/s end to end on two cores")
    parser.add_argument("--seconds", type=float, default=60, help="how long a rate must be held")
    parser.add_argument("--only", default="", help="measure pipelines with this in their name; nothing is written")
    parser.add_argument("--rate", type=float, default=0, help="drive at this rate, search for none; nothing is written")
    parser.add_argument("--lag", type=float, default=LAG_S_MAX, help="seconds of hits that may wait, on the mean")
    given = parser.parse_args()
    check_programs("wrk", "chrt", "taskset", "nginx")
    if compiled.state() != compiled.COMPILED:
        raise SystemExit(f"the box as it is run is to be measured, and it is {compiled.state()}: hitstream compile")
    check_empty(load())
    os.sched_setaffinity(0, CORES)  # whatever is started inherits it, on larger machines too
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        prepared, request_bytes = prepare(root)
        rows = measure(root, prepared, given, partial(console.print, soft_wrap=True))
    show(rows)
    if given.only or given.rate:
        return 0
    nginx_says = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
    versions = {"nginx": nginx_says.strip().rpartition("/")[2], "kafka": end_to_end_page.kafka_version()}
    figures = {
        "request_bytes": round(request_bytes),
        "answer_bytes": len(PIXEL),
        "partitions": PARTITIONS,
        "pipelines": rows,
    }
    print(write_result("end_to_end", figures, versions))
    print(*end_to_end_page.write(), scale_page.write(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
