"""`hitstream kafka`: a local Apache Kafka in the foreground, on the data directory; and the one that the demo uses."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from infra.command.logs import configure
from infra.command.run_file import take_roles
from infra.command.sockets import listening
from infra.kafka_server.broker import HOST, KafkaServer
from infra.kafka_server.jars import ensure_jars
from schemas.settings import Settings

POLL_S = 0.2


def start_kafka(
    settings: Settings, directory: Path, say: Callable[[str], None], *, port: int = 0, tied: bool = False
) -> KafkaServer:
    """Return a local Kafka that answers, its jars fetched if need be; `say` is told what takes long. Raises FatalError.

    Tied, it ends with this process; call from the main thread.
    """
    jars = ensure_jars(settings.cache_dir, say)
    server = KafkaServer(directory, jars, port=port, heap_mib=settings.kafka_local_heap_mib, tied=tied)
    say("starting Apache Kafka: about five seconds")
    server.start()
    try:
        server.wait_ready()
    except BaseException:
        server.kill()
        raise
    return server


def run_kafka(settings: Settings) -> int:
    """Run a local Kafka until SIGTERM or SIGINT; return the exit code. Raises UserError and FatalError."""
    configure("kafka", settings.log_level)
    data_dir = settings.data_dir.absolute()
    locks = take_roles(data_dir, ("kafka",))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    console = Console(highlight=False, soft_wrap=True)
    try:
        listening(HOST, settings.kafka_local_port, "HITSTREAM_KAFKA_LOCAL_PORT").close()
        server = start_kafka(settings, data_dir / "kafka", console.print, port=settings.kafka_local_port, tied=True)
        try:
            console.print(
                f"[bold green]Apache Kafka[/] answers at {server.bootstrap_servers}, data in {server.directory}"
            )
            console.print(f"[dim]then  [/] KAFKA_BOOTSTRAP_SERVERS={server.bootstrap_servers} hitstream up")
            console.print("[dim]stop  [/] Ctrl-C")
            while not stop.wait(POLL_S):
                if not server.is_running:
                    console.print(f"Kafka ended; {server.log_path} says:\n{server.log_tail()}", markup=False)
                    return 1
        finally:
            server.stop()
    finally:
        for lock in locks:
            lock.release()
    return 0
