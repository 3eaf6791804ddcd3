"""The forwarder: CPU per hit from spool to Apache Kafka, against kcat sending the same records to the same broker.

A collector that wrk drives fills one spool. In every round a copy of it is put before a running `hitstream forward`, as
the spool of a collector that ended, and the same records, key and value, go through `kcat -P -z zstd` with its
defaults (acks from all in-sync replicas, batches of up to 1 MB, 5 ms linger; idempotence off, as kcat has it). CPU is
user and system time of all of a side's processes, from the moment the records are there until the topic has them; the
broker's own is shown beside. Run it as `python -m benchmarks.bench_forward [--rounds 5] [--seconds 6]`; it writes
`results/forward.json`.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.edge_requests import RETURNING
from benchmarks.edge_servers import Arrived, collector, make_topic, process
from benchmarks.results_file import write_result
from benchmarks.wrk import check_programs, cpu_s, drive
from infra.journal.reader import JournalReader
from infra.kafka_server.broker import KafkaServer
from infra.kafka_server.jars import ensure_jars
from schemas.hit import KEY_END, KEY_START
from schemas.settings import child_environment, load

OURS, KCAT = "hitstream forward", "kcat -P -z zstd"
READ_BYTES = 8 << 20
ARRIVE_S_MAX = 60.0
START_S = 3.0
KEY_END_MARK = b"\t"


def fill(root: Path, seconds: float) -> Path:
    """Have a collector fill a spool for so long; return the spool's directory."""
    with collector(root) as server:
        drive(server.port, server.pids, RETURNING.script(root.parent), seconds=seconds)
    return next((root / "spool").glob("[0-9a-f]" * 16))


def write_lines(spool: Path, lines: Path) -> int:
    """Write a spool's hits as kcat reads them, key and value; return how many there are."""
    count, reader = 0, JournalReader(spool)
    with lines.open("wb") as file:
        while chunk := reader.read(READ_BYTES):
            count += len(chunk.payloads)
            file.writelines(b"%b%b%b\n" % (hit[KEY_START:KEY_END], KEY_END_MARK, hit) for hit in chunk.payloads)
    reader.close()
    return count


class Side:
    """One way to Kafka, with a topic of its own; `send` starts it on the records, `pids` are its processes."""

    def __init__(self, name: str, topic: str, kafka: KafkaServer, pids: Callable[[], list[int]]) -> None:
        self.name = name
        self._kafka = kafka
        self._pids = pids
        self._arrived = Arrived(kafka.bootstrap_servers, topic)
        self.cpu_us: list[float] = []
        self.broker_us: list[float] = []
        self.per_s: list[float] = []

    def measure(self, hits: int, send: Callable[[], float]) -> None:
        """Send, wait until the topic has the hits, and note what it took; `send` returns CPU seconds of what it ran."""
        before, broker, began = cpu_s(self._pids()), cpu_s([self._kafka.pid]), time.monotonic()
        used = send()
        while not self._arrived(hits):
            if time.monotonic() > began + ARRIVE_S_MAX:
                raise SystemExit(f"{self.name}: the hits have not arrived after {ARRIVE_S_MAX:g} s")
            time.sleep(0.02)
        wall_s = time.monotonic() - began
        self.cpu_us.append((used + cpu_s(self._pids()) - before) / hits * 1e6)
        self.broker_us.append((cpu_s([self._kafka.pid]) - broker) / hits * 1e6)
        self.per_s.append(hits / wall_s)


def run_kcat(address: str, topic: str, lines: Path) -> float:
    """Send the lines with kcat; return its CPU seconds."""
    before = os.times()
    command = ["kcat", "-P", "-z", "zstd", "-b", address, "-t", topic, "-K", KEY_END_MARK.decode(), "-l", str(lines)]
    subprocess.run(["/usr/bin/taskset", "-c", "0", *command], check=True, capture_output=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def figures(sides: list[Side]) -> dict[str, dict[str, Any]]:
    """Return medians and spread by name, without the first round; ratios are to kcat, round by round."""
    base = sides[-1]
    rows = {}
    for side in sides:
        ratios = sorted(a / b for a, b in zip(side.cpu_us[1:], base.cpu_us[1:], strict=True))
        cpu = sorted(side.cpu_us[1:])
        rows[side.name] = {
            "cpu_us_per_hit": round(statistics.median(cpu), 2),
            "cpu_us_per_hit_spread": [round(cpu[0], 2), round(cpu[-1], 2)],
            "broker_us_per_hit": round(statistics.median(side.broker_us[1:]), 2),
            "hits_per_s": round(statistics.median(side.per_s[1:])),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        }
    return rows


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print a table."""
    table = Table(title="CPU per hit, spool or file to Kafka", title_justify="left")
    for column in ("sender", "us/hit", "spread", "÷ kcat", "spread", "broker us/hit", "hits/s"):
        table.add_column(column, justify="left" if column == "sender" else "right")
    for name, row in rows.items():
        low, high = row["cpu_us_per_hit_spread"]
        least, most = row["ratio_spread"]
        table.add_row(
            name,
            f"{row['cpu_us_per_hit']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{row['ratio']:.2f}",
            f"{least:.2f} to {most:.2f}",
            f"{row['broker_us_per_hit']:.2f}",
            f"{row['hits_per_s']:,}",
        )
    Console(highlight=False).print(table)


def measure(root: Path, rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Compare both, interleaved, after one round that does not count."""
    spool = fill(root / "filled", seconds)
    lines, live = root / "lines", root / "live"
    hits = write_lines(spool, lines)
    print(f"{hits:,} hits of {lines.stat().st_size / hits:.0f} bytes")
    (live / "spool").mkdir(parents=True)
    with ExitStack() as stack:
        kafka = stack.enter_context(KafkaServer(root / "kafka", ensure_jars(load().cache_dir, print)))
        address = kafka.bootstrap_servers
        for topic in ("ours", "kcat"):
            make_topic(address, topic)
        environment = child_environment(
            HITSTREAM_DATA_DIR=str(live),
            KAFKA_BOOTSTRAP_SERVERS=address,
            HITSTREAM_KAFKA_TOPIC="ours",
            HITSTREAM_ADMIN_PORT="0",
        )
        command = [str(Path(sys.executable).with_name("hitstream")), "forward"]
        forwarder = stack.enter_context(process(command, env=environment, stderr=(root / "forward.log").open("wb")))
        time.sleep(START_S)  # what starting costs is not asked here
        ours = Side(OURS, "ours", kafka, lambda: [forwarder.pid])
        theirs = Side(KCAT, "kcat", kafka, list)

        def forward() -> float:
            shutil.copytree(spool, live / "fresh", copy_function=os.link)
            (live / "fresh").rename(live / "spool" / secrets.token_hex(8))  # no id comes twice
            return 0.0

        for _ in track(range(rounds + 1), "measuring"):
            ours.measure(hits, forward)
            theirs.measure(hits, lambda: run_kcat(address, "kcat", lines))
            while any(path.is_dir() for path in (live / "spool").iterdir()):  # drained spools go a little later
                time.sleep(0.05)
        return figures([ours, theirs])


def main() -> int:
    """Measure, print the table, write the result."""
    parser = argparse.ArgumentParser(description="CPU per hit: forwarder and kcat")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6, help="how long the spool is filled")
    given = parser.parse_args()
    check_programs("wrk", "taskset", "kcat")
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(Path(temporary), given.rounds, given.seconds)
    show(rows)
    kcat = subprocess.run(["/usr/bin/kcat", "-V"], capture_output=True, text=True, check=True).stdout
    print(write_result("forward", rows, {"kcat": kcat.strip().splitlines()[-1]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
