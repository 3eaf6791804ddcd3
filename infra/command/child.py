"""The entry of every child: `python -m infra.command.child KIND …`, started by the parent (`box.py`) only.

Each kind imports its own wing alone. A fatal error is one line and exit code 1; the parent starts the child again. The
metrics and the readiness of the process are served on its socket in the run directory.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client.registry import REGISTRY, Collector

from infra.child import Life
from infra.command.event_log import open_dead_letter, open_log_reader, open_log_writer
from infra.command.logs import configure
from infra.command.run_file import run_directory
from infra.command.settings_watch import SettingsWatch, SettingsWatchMetrics
from schemas.errors import FatalError, RetryError
from schemas.settings import Settings, load
from schemas.settings_error import SettingsError

log = logging.getLogger("hitstream.child")

ADOPTION_LOOK_S = 0.02
RETRY_S_FIRST = 0.1
RETRY_S_MAX = 2.0


def main() -> None:
    """Be the child that the arguments name."""
    given = _arguments()
    name = f"{given.kind}-{given.slot}" if given.slot >= 0 else given.kind
    try:
        settings = load()
    except SettingsError as error:
        sys.exit(f"{name}: {error}")
    configure(name, settings.log_level)
    life = Life(given.alive_fd)
    try:
        sys.exit(KINDS[given.kind](given, name, settings, life))
    except (FatalError, RetryError) as error:
        log.error("%s", error)  # noqa: TRY400  the message is made for the reader
        sys.exit(1)
    except Exception:
        log.exception("%s ends on an error that is ours", name)
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.command.child", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--slot", type=int, default=-1, help="which of several, from 0")
    parser.add_argument("--of", type=int, default=1, help="how many of this kind there are")
    parser.add_argument("--fd", type=int, default=-1, help="the inherited listening socket")
    parser.add_argument("--alive-fd", type=int, default=-1, help="the read end of the parent's alive pipe")
    return parser.parse_args()


def _watch(settings: Settings) -> SettingsWatch:
    """Return a watch of the settings file whose state is a metric."""
    watch = SettingsWatch(settings)
    REGISTRY.register(SettingsWatchMetrics(watch))
    return watch


def _collector(given: argparse.Namespace, name: str, settings: Settings, life: Life) -> int:
    from infra.collection import freeze
    from ingest.collector import Collector as RunningCollector
    from ingest.collector import run
    from ingest.counters import Counters
    from ingest.forwarder_cursor import spool_root
    from ingest.metrics import CollectorMetrics
    from ingest.salt_file import SaltError

    running: list[RunningCollector] = []
    watch = _watch(settings)

    def why_not() -> str:
        if life.stop.is_set():
            return "stopping"
        if not running:
            return "starting"
        return "" if running[0].is_ready() else "the spool is full, or the disk"

    def begin(stop: asyncio.Event, counters: Counters) -> None:
        life.set_in_loop(stop)
        _serve_status(name, settings, CollectorMetrics(counters.as_dict), why_not, watch)

    def started(collector: RunningCollector) -> None:
        freeze()
        running.append(collector)
        loop = asyncio.get_running_loop()

        def take_up(changed: Settings) -> None:
            if changed.cookieless:
                try:
                    collector.daily_salts()
                except SaltError as error:  # it may come: the former sites go on, and the next look tries again
                    raise RetryError(str(error)) from error
            loop.call_soon_threadsafe(collector.take_sites, changed)

        watch.start(take_up)

    root = spool_root(settings.data_dir)
    return run(settings, given.fd, root, begin=begin, ready=started)


def _forwarder(_: argparse.Namespace, name: str, settings: Settings, life: Life) -> int:
    from ingest.forwarder import Forwarder
    from ingest.forwarder_metrics import ForwarderCollector

    async def forward() -> None:
        forwarder = Forwarder.from_settings(settings, open_log_writer(settings))
        counters = forwarder.counters

        def why_not() -> str:
            return f"the log takes no hits: {forwarder.trouble}" if counters.backoff_s else ""

        _serve_status(name, settings, ForwarderCollector(counters), why_not)
        stop = asyncio.Event()
        life.set_in_loop(stop)
        await forwarder.run(stop)

    asyncio.run(forward())
    return 0


def _worker(given: argparse.Namespace, name: str, settings: Settings, life: Life) -> int:
    from consumers.clickhouse_store import ClickHouseStore
    from consumers.inserts import Inserts
    from consumers.metrics import WorkerCounters, WorkerMetrics
    from consumers.network_files import NetworkFileMetrics
    from consumers.progress import ProgressMetrics, TimedClient
    from consumers.worker import Worker
    from infra.collection import WORKERS_NEW_MAX, freeze
    from infra.command.database import apply_retention, open_client
    from infra.command.worker_rules import network_files, worker_rules

    counters = WorkerCounters()
    files = network_files(settings)
    rules = worker_rules(settings, files)
    why_not: list[Callable[[], str]] = []
    watch = _watch(settings)
    _serve_status(name, settings, WorkerMetrics(counters), lambda: why_not[0]() if why_not else "starting", watch)
    with open_client(settings, exact=True) as client, open_dead_letter(settings) as dead_letter:
        # Last: a member of a consumer group that ends without leaving keeps its partitions idle for a while.
        reader, keeps = open_log_reader(settings, given.slot, given.of, life.stop, counters)
        why_not.append(keeps)
        timed = TimedClient(client)
        store = ClickHouseStore(timed, settings.clickhouse_cluster)
        # A cluster takes one quorum insert at a time into a table of a shard.
        inserts = Inserts(1 if settings.clickhouse_cluster else settings.inserts_at_once_max)
        worker = Worker(reader, store, rules, time.time, counters, inserts=inserts, dead_letter=dead_letter)
        REGISTRY.register(ProgressMetrics(worker.progress, timed))
        REGISTRY.register(NetworkFileMetrics(files))

        def take_up(changed: Settings) -> None:
            changed_rules = worker_rules(changed, files)
            worker.go_by(changed_rules)
            while not worker.goes_by(changed_rules):  # the step at work still judges by the former ones
                if life.stop.wait(ADOPTION_LOOK_S):
                    return
            if given.slot == 0:
                apply_retention(changed)

        watch.start(take_up)
        freeze(WORKERS_NEW_MAX)
        worker.run(life.stop)
    return 0


def _clickhouse(given: argparse.Namespace, name: str, settings: Settings, life: Life) -> int:
    from infra.clickhouse_server.counters import Counters, CountersCollector
    from infra.clickhouse_server.engine import EngineError
    from infra.clickhouse_server.server import serve

    state = ["the engine is starting"]
    counters = Counters()

    async def answer() -> None:
        stop = asyncio.Event()
        life.set_in_loop(stop)
        _serve_status(name, settings, CountersCollector(counters), lambda: state[0])
        sock = socket.socket(fileno=given.fd)
        await serve(settings, sock, lambda: state.__setitem__(0, ""), stop, counters)

    try:
        asyncio.run(answer())
    except EngineError as error:
        raise FatalError(str(error)) from error
    return 0


def _migrate(_given: argparse.Namespace, _name: str, settings: Settings, life: Life) -> int:
    """Wait for ClickHouse, however long it takes, and make the tables."""
    from infra.command.database import apply_migrations

    pause_s = RETRY_S_FIRST
    while not life.stop.is_set():
        try:
            apply_migrations(settings)
        except RetryError as error:
            log.info("waiting for ClickHouse: %s", error)
            life.stop.wait(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)
        else:
            return 0
    return 1


Kind = Callable[[argparse.Namespace, str, Settings, Life], int]
KINDS: dict[str, Kind] = {
    "collector": _collector,
    "forwarder": _forwarder,
    "worker": _worker,
    "clickhouse": _clickhouse,
    "migrate": _migrate,
}


def _serve_status(
    name: str,
    settings: Settings,
    metrics: Collector,
    why_not: Callable[[], str],
    watch: SettingsWatch | None = None,
) -> None:
    from infra.admin import ProcessStatus, serve_in_thread

    REGISTRY.register(metrics)
    status = ProcessStatus(name, REGISTRY, why_not, lambda: watch.problem if watch else "")
    serve_in_thread(name, status, run_directory(Path(settings.data_dir)))


if __name__ == "__main__":
    main()
