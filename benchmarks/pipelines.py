"""Whole pipelines as they are run, from the HTTP port to rows in ClickHouse: what `bench_end_to_end.py` compares.

Each is a context manager that starts one and yields a `Pipeline`. Ours is `hitstream up` with one collector and one
worker, with Kafka or on its own; the rival is `rivals/aiohttp_kafka.py`, one process per core, and one
`rivals/kafka_to_clickhouse.py`. Both sides load into the ClickHouse that CLICKHOUSE_URL names, else into an embedded
one (`hitstream clickhouse`) of their own. The rival's table has the columns, the order and the indexes of ours, and no
view. Both logs have PARTITIONS partitions, enough for the workers that two cores can feed: each has batches of its own,
and a batch costs ClickHouse something, however few rows it has.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from benchmarks.edge_servers import Arrived, await_answer, free_port, make_topic, process
from consumers.clickhouse_client import ClickHouse
from infra.command.accounts import read_ledger
from infra.command.database import apply_migrations, clickhouse_url
from schemas.errors import RetryError
from schemas.settings import Settings, child_environment, load

CORES = (0, 1)
PARTITIONS = 1  # one worker loads all: each more is a batch more a second for ClickHouse
OURS_TOPIC, RIVAL_TOPIC = "hits-bench", "rival-bench"
RIVAL_DATABASE = "rival_bench"
START_S_MAX = 90.0
LOOK_S = 0.1
Found = TypeVar("Found")


class Counts(NamedTuple):
    """Hits that the pipeline has taken so far, and of these what has no row yet."""

    taken: int
    lag: int


class Pipeline(NamedTuple):
    """A running pipeline: where it takes hits, its processes by role, what it has done, and where its rows are.

    `topic` is Kafka's, "": it does without; `spools` is where its spools are, None: it has none.
    """

    name: str
    port: int
    pids: Mapping[str, list[int]]
    counts: Callable[[], Counts]
    clickhouse: str
    database: str
    topic: str
    spools: Path | None


@contextmanager
def ours(name: str, root: Path, kafka: str = "", broker: int = 0) -> Iterator[Pipeline]:
    """Run a whole box; with `kafka`, a bootstrap server whose process is `broker`, through that."""
    fields: dict[str, object] = {
        "data_dir": root,
        "config": root.parent / "no-such-file.toml",
        "host": "127.0.0.1",
        "port": free_port(),
        "admin_port": 0,
        "clickhouse_port": free_port(),
        "collectors": 1,
        "workers": 1,
        "partitions": PARTITIONS,
        "log_level": "warning",
        "spool_bytes_max": 32 << 30,
        "log_bytes_max": 32 << 30,
        **({"kafka_topic": OURS_TOPIC} if kafka else {}),
    }
    environment = {f"HITSTREAM_{field.upper()}": str(value) for field, value in fields.items()}
    environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka
    settings = load(
        **{field: value for field, value in fields.items() if field != "config"}, kafka_bootstrap_servers=kafka
    )
    log = root.with_suffix(".log")
    command = [str(Path(sys.executable).with_name("hitstream")), "up"]
    with (
        log.open("wb") as said,
        process(command, cores=CORES, env=child_environment(**environment), stdout=said, stderr=said),
    ):
        pids = _awaited(lambda: _roles(root), f"{name} is not up", log)
        await_answer(settings.port)
        _awaited(lambda: _loads(settings), f"{name} does not load", log)
        pids |= {"broker": [broker]} if broker else {}
        counts, url, topic = partial(_ledger, settings), clickhouse_url(settings), OURS_TOPIC if kafka else ""
        yield Pipeline(name, settings.port, pids, counts, url, "hitstream", topic, root / "spool")


@contextmanager
def rival(name: str, root: Path, kafka: str, broker: int) -> Iterator[Pipeline]:
    """Run aiohttp and aiokafka's `send`, one process per core, and one process from Kafka to ClickHouse."""
    settings = load(data_dir=root, clickhouse_port=free_port(), log_level="warning")
    url, port = clickhouse_url(settings), free_port()
    environment = child_environment(
        HITSTREAM_DATA_DIR=str(root),
        HITSTREAM_CLICKHOUSE_PORT=str(settings.clickhouse_port),
        HITSTREAM_LOG_LEVEL="warning",
        RIVAL_KAFKA=kafka,
        RIVAL_TOPIC=RIVAL_TOPIC,
        RIVAL_PORT=str(port),
        RIVAL_CLICKHOUSE=url,
        RIVAL_DATABASE=RIVAL_DATABASE,
    )
    make_topic(kafka, RIVAL_TOPIC, PARTITIONS)
    edge, loader = (
        [sys.executable, "-m", f"benchmarks.rivals.{part}"] for part in ("aiohttp_kafka", "kafka_to_clickhouse")
    )
    engine = [str(Path(sys.executable).with_name("hitstream")), "clickhouse"]
    log = root.with_suffix(".log")
    with log.open("wb") as said, process(engine, cores=CORES, env=environment, stdout=said, stderr=said) as server:
        _awaited(lambda: _migrates(settings), f"{name}: no ClickHouse", log)
        _make_rival_table(url)
        with (
            process(edge, cores=CORES, env=environment, stdout=said, stderr=said) as first,
            process(edge, cores=CORES, env=environment, stdout=said, stderr=said) as second,
            process(loader, cores=CORES, env=environment, stdout=said, stderr=said) as last,
        ):
            await_answer(port)
            pids = {
                "aiohttp": [first.pid, second.pid],
                "consumer": [last.pid],
                "clickhouse": [server.pid],
                "broker": [broker],
            }
            client, arrived = ClickHouse(url, database=RIVAL_DATABASE), Arrived(kafka, RIVAL_TOPIC)
            try:
                yield Pipeline(
                    name, port, pids, partial(_rival_counts, client, arrived), url, RIVAL_DATABASE, RIVAL_TOPIC, None
                )
            finally:
                client.close()
                arrived.close()


def check_empty(settings: Settings) -> None:
    """Raise SystemExit when CLICKHOUSE_URL names a server that has hits: the bench would mix its own with them."""
    if not settings.clickhouse_url:
        return
    apply_migrations(settings)
    client = ClickHouse(clickhouse_url(settings))
    try:
        if client.query("SELECT count() FROM events")[0][0]:
            raise SystemExit("CLICKHOUSE_URL names a database with events: give the bench an empty one")
    finally:
        client.close()


def _roles(root: Path) -> dict[str, list[int]]:
    """Return the box's processes by role, once its worker is there."""
    try:
        known: dict[str, int] = orjson.loads((root / "run.json").read_bytes())["pids"]
    except FileNotFoundError:
        return {}
    if "worker-0" not in known:
        return {}
    roles: dict[str, list[int]] = {}
    for name, pid in known.items():
        if name not in ("parent", "migrate"):
            roles.setdefault(name.partition("-")[0], []).append(pid)
    return roles


def _loads(settings: Settings) -> bool:
    try:
        counts = _ledger(settings)
    except RetryError:
        return False
    return counts.taken > 0 and counts.lag == 0


def _ledger(settings: Settings) -> Counts:
    """Return the ledger's counts: what stands in spools and in the log is the lag."""
    ledger = read_ledger(settings)
    if ledger.rejected or ledger.duplicate or ledger.damaged:
        raise SystemExit(f"the load is not what it should be, not every hit makes a row: {ledger}")
    return Counts(ledger.appended, ledger.in_flight)


def _rival_counts(client: ClickHouse, arrived: Arrived) -> Counts:
    """Return the topic's records and how many of them have no row; what the producers still hold is not seen."""
    rows = int(client.query("SELECT count() FROM events")[0][0])  # first: it cannot be ahead of the topic
    taken = arrived.end()
    return Counts(taken, taken - rows)


def _migrates(settings: Settings) -> bool:
    address = urlsplit(clickhouse_url(settings))
    with suppress(OSError, RetryError):
        socket.create_connection((address.hostname or "", address.port or 8123), timeout=START_S_MAX).close()
        apply_migrations(settings)
        return True
    return False


def _make_rival_table(url: str) -> None:
    client = ClickHouse(url, database="")
    try:
        client.command(f"DROP DATABASE IF EXISTS {RIVAL_DATABASE} SYNC")
        client.command(f"CREATE DATABASE {RIVAL_DATABASE}")
        client.command(f"CREATE TABLE {RIVAL_DATABASE}.events AS hitstream.events")
    finally:
        client.close()


def _awaited(look: Callable[[], Found], what: str, log: Path) -> Found:
    """Return what `look` finds once that is true. Raises SystemExit with the log's end when it is not in time."""
    deadline = time.monotonic() + START_S_MAX
    while not (found := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} after {START_S_MAX:g} s:\n{log.read_text()[-2000:]}")
        time.sleep(LOOK_S)
    return found
