"""The worker: CPU per event from Apache Kafka to rows in ClickHouse, against the least a Python consumer can do.

*The worker* is the process that `hitstream work` runs, with all steps on: fetch, decode, drop resent, validate, enrich
(a place database, datacentre ranges, scrubbing, a site with domains), sessionize, insert over HTTP into an embedded
ClickHouse, `hitstream clickhouse`, whose CPU is shown beside. *The baseline*: aiokafka's `getmany` and `orjson.loads`
of the same records from the same topic, with the worker's fetch settings, in a process of its own on the same core.
ClickHouse has the other core.

Records are what a collector made of the demo's shop as a crowd sends it (`crowd.py`), put into the topic by their keys:
4 partitions, the share of one worker of three. The shop's visits lie in the six days before now, so sessions of seven
days stay in memory, where a live site needs its latest hours. In every round a fresh slice of the traffic is put there
while the worker is stopped (SIGSTOP); then the baseline reads half of it, the worker all, the baseline its other half,
since a machine's speed may change within seconds. CPU is user and system time of the process, until the last row is
there. The first round, in which the worker joins and fills its caches, is left out.

Run it as `python -m benchmarks.bench_worker`; it writes `results/worker.json`. Where a worker's time goes is drawn by
`flames.py`.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from benchmarks.bench_enrich import clickhouse, hits_of, write_network_files
from benchmarks.crowd import crowd
from benchmarks.edge_servers import SERVER_CORE, make_topic, process
from benchmarks.results_file import write_result
from benchmarks.rivals.getmany import baseline
from benchmarks.shop import shop_requests
from benchmarks.shop_world import HOST
from benchmarks.wrk import cpu_s
from consumers.clickhouse_client import ClickHouse
from infra.command.database import open_client
from infra.kafka_server.broker import KafkaServer
from infra.kafka_server.jars import ensure_jars
from schemas.hit import KEY_END, KEY_START, partition_of
from schemas.settings import Settings, child_environment, load

BOUND = 5.0
WORKER, CLICKHOUSE, BASELINE = "worker", "ClickHouse", "getmany + orjson.loads"
TOPIC = "hits"
PARTITIONS = 4
CLICKHOUSE_CORES = (1,)  # the baseline has its core for itself, so the worker must too
LOADED_S_MAX = 120.0
POLL_S = 0.1
PUT_KIB_MAX = 2_000_000  # a slice whole: librdkafka refuses what its queue has no room for
COUNTED = "SELECT sum(inserted + rejected + duplicate + filtered + resent) FROM batches"


class Round(NamedTuple):
    """What one round took: CPU us per event by process, and the worker's events per second of wall time."""

    cpu_us: dict[str, float]
    per_s: float


def settings_of(root: Path, kafka: str, clickhouse_port: int) -> Settings:
    """Write the worker's settings file and return what it says."""
    file = root / "hitstream.toml"
    file.write_text(
        f"""
kafka_bootstrap_servers = "{kafka}"
partitions = {PARTITIONS}
data_dir = "{root}"
clickhouse_port = {clickhouse_port}
session_cache_horizon_s = {7 * 86_400}
place_database = "{root}/place.mmdb"
datacentre_ranges = ["{root}/ranges.txt"]
[sites.shop]
domains = ["{HOST.partition(".")[2]}"]
"""
    )
    return load(file)


def put(kafka: str, hits: Sequence[bytes]) -> None:
    """Put hits into the topic, each into its key's partition, and wait until they are there."""
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "compression.type": "zstd",
            "linger.ms": 50,
            "queue.buffering.max.messages": len(hits),
            "queue.buffering.max.kbytes": PUT_KIB_MAX,
        }
    )
    for hit in hits:
        key = hit[KEY_START:KEY_END]
        producer.produce(TOPIC, hit, key, partition_of(key, PARTITIONS))
    producer.flush()


@contextmanager
def worker(root: Path) -> Iterator[int]:
    """Run one worker; yield its process id."""
    environment = child_environment(HITSTREAM_CONFIG=str(root / "hitstream.toml"))
    command = [sys.executable, "-m", "infra.compiled", "infra.command.child", "worker", "--slot", "0"]
    with (root / "worker.log").open("wb") as log, process(command, env=environment, stdout=log, stderr=log) as one:
        try:
            yield one.pid
        finally:
            os.kill(one.pid, signal.SIGCONT)


class Bench:
    """Both sides over one topic; the worker sleeps but while it is measured."""

    def __init__(self, worker_pid: int, clickhouse_pids: list[int], reader: Connection, client: ClickHouse) -> None:
        self._worker = worker_pid
        self._clickhouse = clickhouse_pids
        self._reader = reader
        self._client = client
        self._put = 0
        os.kill(worker_pid, signal.SIGSTOP)

    def round(self, kafka: str, hits: Sequence[bytes]) -> Round:
        """Let both sides read `hits`; return what that took."""
        put(kafka, hits)
        self._put += len(hits)
        events = len(hits)
        before_s = self._read(events // 2)
        found = self._load()
        found[BASELINE] = before_s + self._read(events - events // 2)
        return Round(
            {name: found[name] / events * 1e6 for name in (WORKER, CLICKHOUSE, BASELINE)}, events / found["wall"]
        )

    def _read(self, count: int) -> float:
        self._reader.send(count)
        used_s: float = self._reader.recv()
        return used_s

    def _load(self) -> dict[str, float]:
        began_s, used_s, others_s = time.monotonic(), cpu_s([self._worker]), cpu_s(self._clickhouse)
        os.kill(self._worker, signal.SIGCONT)
        while (there := int(self._client.query(COUNTED)[0][0])) < self._put:
            if time.monotonic() > began_s + LOADED_S_MAX:
                raise SystemExit(f"{there:,} of {self._put:,} records are loaded after {LOADED_S_MAX:g} s")
            time.sleep(POLL_S)
        wall_s = time.monotonic() - began_s
        os.kill(self._worker, signal.SIGSTOP)
        return {
            "wall": wall_s,
            WORKER: cpu_s([self._worker]) - used_s,
            CLICKHOUSE: cpu_s(self._clickhouse) - others_s,
        }


def figures_of(rounds: Sequence[Round], events: int) -> dict[str, Any]:
    """Return medians and spread over the rounds; the ratio is taken round by round."""
    ratios = sorted(one.cpu_us[WORKER] / one.cpu_us[BASELINE] for one in rounds)
    cpu = {name: sorted(one.cpu_us[name] for one in rounds) for name in (WORKER, CLICKHOUSE, BASELINE)}
    return {
        "events": events,
        "rounds": len(rounds),
        "cpu_us_per_event": {name: round(statistics.median(each), 2) for name, each in cpu.items()},
        "cpu_us_per_event_spread": {name: [round(each[0], 2), round(each[-1], 2)] for name, each in cpu.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        "events_per_s": round(statistics.median(one.per_s for one in rounds)),
    }


def show(figures: dict[str, Any]) -> None:
    """Print a table."""
    table = Table(title="CPU per event, Kafka to ClickHouse", title_justify="left")
    for column in ("process", "us/event", "spread"):
        table.add_column(column, justify="left" if column == "process" else "right")
    for name, value in figures["cpu_us_per_event"].items():
        low, high = figures["cpu_us_per_event_spread"][name]
        table.add_row(name, f"{value:.2f}", f"{low:.2f} to {high:.2f}")
    low, high = figures["ratio_spread"]
    table.add_row("worker ÷ baseline", f"{figures['ratio']:.2f}", f"{low:.2f} to {high:.2f}")
    Console(highlight=False).print(
        table, f"{figures['events_per_s']:,} events/s by one worker, its last batch included"
    )


def measure(root: Path, hits: Sequence[bytes], rounds: int) -> list[Round]:
    """Run all rounds; return those that count."""
    with ExitStack() as stack:
        kafka = stack.enter_context(KafkaServer(root / "kafka", ensure_jars(load().cache_dir, print)))
        address = kafka.bootstrap_servers
        make_topic(address, TOPIC, PARTITIONS)
        write_network_files(root)
        server = stack.enter_context(clickhouse(root, CLICKHOUSE_CORES))
        settings = settings_of(root, address, server.port)
        client = stack.enter_context(open_client(settings, exact=True))
        reader = stack.enter_context(baseline(settings, SERVER_CORE))
        pid = stack.enter_context(worker(root))
        bench = Bench(pid, server.pids, reader, client)
        size = len(hits) // (rounds + 1)
        return [bench.round(address, hits[number * size :][:size]) for number in range(rounds + 1)][1:]


def main() -> int:
    """Measure, print, write the result; return 1 when the bound is passed."""
    parser = argparse.ArgumentParser(description="CPU per event: the worker, and getmany with orjson.loads")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--requests", type=int, default=1_500_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        shop = shop_requests(5, int(time.time() * 1000), visitors=given.requests)
        hits = hits_of(islice(crowd(shop), given.requests), root / "shop")
        rounds = measure(root, hits, given.rounds)
    figures = figures_of(rounds, len(hits))
    show(figures)
    print(write_result("worker", figures))
    return 0 if figures["ratio"] <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
