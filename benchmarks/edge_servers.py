"""The servers that the edge benchmarks compare: each a context manager that starts one on a core and yields it.

Ours runs as in production but for the parent: one collector process on its own spool, with Kafka also its forwarder.
Rivals stand in `rivals/`, written the way their documentation says. All count with all their processes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import uvloop
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.server_counts import FILE as COUNTS_FILE
from benchmarks.server_counts import Account, Told, ask
from benchmarks.wrk import CLIENT_CORE
from infra import compiled
from infra.collection import freeze
from ingest.collector import run
from ingest.counters import Counters
from ingest.http_response import PIXEL
from schemas.settings import child_environment, load

SERVER_CORE = 0
START_S_MAX = 20.0
PARTITIONS = 12
ANSWER_S_MAX = 10.0
FORWARDER_ROOM = {"HITSTREAM_LOG_BYTES_MAX": str(64 << 30)}  # nobody loads what it writes

NGINX_CONF = """
worker_processes {workers}; daemon off; pid {root}/nginx.pid; error_log {root}/error.log; user {user};
events {{ worker_connections 8192; }}
http {{
  access_log {root}/access.log combined; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u;
  scgi_temp_path {root}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096; location = /p.gif {{ empty_gif; {log} }} }}
}}
"""


class Server(NamedTuple):
    """A running server: the processes that count, and when hits that it answered have arrived (None: at once).

    `counts` is the file where the process writes its counters when it is asked to (`told_by`).
    """

    name: str
    port: int
    pids: list[int]
    settled: Callable[[int], bool] | None = None
    counts: Path | None = None


def told_by(server: Server) -> Told:
    """Return what a collector or a timed echo has counted up to now. Raises TimeoutError."""
    if server.counts is None:
        raise AssertionError(f"{server.name} counts nothing")
    return ask(server.pids[0], server.counts)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def await_answer(port: int) -> None:
    """Return once the server on a port answers a pixel request; raises TimeoutError."""
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=START_S_MAX) as sock:
            sock.sendall(b"GET /p.gif?s=shop HTTP/1.1\r\nHost: a\r\n\r\n")
            if sock.recv(1):
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody answers on port {port}")


@contextmanager
def process(
    command: list[str], *, cores: Sequence[int] = (SERVER_CORE,), **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on cores, the servers' one unless told otherwise, and end it with all that it started."""
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
    started = subprocess.Popen(pinned, start_new_session=True, **options)  # type: ignore[call-overload]  # its own
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@contextmanager
def nginx(name: str, root: Path, log: str = "", *, cores: Sequence[int] = (SERVER_CORE,)) -> Iterator[Server]:
    """Run nginx with a worker per core; `log` is a line of its location."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    root.mkdir()
    port = free_port()
    user = "root" if os.getuid() == 0 else str(os.getuid())
    (root / "nginx.conf").write_text(NGINX_CONF.format(root=root, port=port, log=log, user=user, workers=len(cores)))
    with process([program, "-c", str(root / "nginx.conf")], cores=cores, stderr=subprocess.DEVNULL) as parent:
        await_answer(port)
        yield Server(name, port, [parent.pid])


@contextmanager
def inherited(name: str, arguments: list[str], *, plain: bool = False, **environment: str) -> Iterator[Server]:
    """Run this module as a server on a socket that we opened, with more in its environment.

    Its hot path is compiled where that was done (`infra.compiled`), unless it is to be `plain` Python.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as sock:
        port = int(sock.getsockname()[1])
        modules = ["benchmarks.edge_servers"] if plain else [compiled.__name__, "benchmarks.edge_servers"]
        command = [sys.executable, "-m", *modules, *arguments, str(sock.fileno())]
        with process(command, pass_fds=[sock.fileno()], env=child_environment(**environment)) as started:
            await_answer(port)
            yield Server(name, port, [started.pid])


@contextmanager
def collector(root: Path, *, plain: bool = False, **environment: str) -> Iterator[Server]:
    """Run one collector process on its own spool in `root`; `environment` are settings beside the defaults."""
    with inherited("hitstream", ["collector", str(root)], plain=plain, **environment) as server:
        yield server._replace(counts=root / COUNTS_FILE)


@contextmanager
def echo() -> Iterator[Server]:
    """Run bare uvloop: every read is answered with the pixel's bytes, and looked at by nobody."""
    with inherited("bare uvloop echo", ["echo", "-"]) as server:
        yield server


@contextmanager
def timed_echo(root: Path) -> Iterator[Server]:
    """Run the bare echo with the collector's way of timing: reads of a tick gathered, then answered, then counted."""
    root.mkdir()
    with inherited("bare uvloop echo", ["timed", str(root)]) as server:
        yield server._replace(counts=root / COUNTS_FILE)


@contextmanager
def forwarder_of(root: Path) -> Iterator[None]:
    """Run the forwarder that takes a collector's hits to local partitions, on the other core."""
    environment = child_environment(HITSTREAM_DATA_DIR=str(root), HITSTREAM_ADMIN_PORT="0", **FORWARDER_ROOM)
    command = [str(Path(sys.executable).with_name("hitstream")), "forward"]
    with process(command, cores=(CLIENT_CORE,), env=environment, stderr=subprocess.DEVNULL):
        yield


@contextmanager
def collector_and_forwarder(root: Path, kafka: str, topic: str) -> Iterator[Server]:
    """Run one collector and the forwarder that takes its hits to Kafka; settled when the spool is drained."""
    environment = child_environment(
        HITSTREAM_DATA_DIR=str(root),
        KAFKA_BOOTSTRAP_SERVERS=kafka,
        HITSTREAM_KAFKA_TOPIC=topic,
        HITSTREAM_ADMIN_PORT="0",
    )
    forward = [str(Path(sys.executable).with_name("hitstream")), "forward"]
    with collector(root) as edge, process(forward, env=environment, stderr=subprocess.DEVNULL) as forwarder:
        arrived = Arrived(kafka, topic)
        yield Server("hitstream collector + forwarder to Kafka", edge.port, [*edge.pids, forwarder.pid], arrived)


@contextmanager
def nginx_and_kcat(root: Path, kafka: str, topic: str) -> Iterator[Server]:
    """Run what people would build by hand: nginx's access log, `tail -F` and kcat."""
    with nginx("nginx + access_log + tail | kcat to Kafka", root) as server:
        pipe = f"exec tail -n0 -F {root}/access.log | kcat -P -z zstd -b {kafka} -t {topic}"
        with process(["bash", "-c", pipe], stderr=subprocess.DEVNULL) as tail:
            yield server._replace(pids=[*server.pids, tail.pid], settled=Arrived(kafka, topic))


@contextmanager
def rival(name: str, command: list[str], kafka: str, port: int, topic: str) -> Iterator[Server]:
    """Run a rival: an application of `rivals/` under its server."""
    environment = child_environment(RIVAL_KAFKA=kafka, RIVAL_TOPIC=topic, RIVAL_PORT=str(port))
    with process(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        await_answer(port)
        yield Server(name, port, [started.pid], Arrived(kafka, topic))


def rivals() -> list[tuple[str, Callable[[int], list[str]]]]:
    """Return (name, command for a port) of every rival."""
    program = Path(sys.executable)
    aiohttp = [str(program), "-m", "benchmarks.rivals.aiohttp_kafka"]
    uvicorn = [str(program.with_name("uvicorn")), "--no-access-log", "--log-level=warning", "--loop=uvloop"]
    granian = [str(program.with_name("granian")), "--interface=asgi", "--workers=1", "--no-access-log", "--loop=uvloop"]
    return [
        ("aiohttp + aiokafka", lambda _: aiohttp),
        (
            "FastAPI/uvicorn + aiokafka",
            lambda port: [*uvicorn, f"--port={port}", "benchmarks.rivals.fastapi_kafka:app"],
        ),
        ("Granian + aiokafka", lambda port: [*granian, f"--port={port}", "benchmarks.rivals.asgi_kafka:app"]),
    ]


class Arrived:
    """Says when the hits answered so far are in a topic: its end has moved by as many."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bench"})
        self._due = self.end()

    def __call__(self, hits: int) -> bool:
        """Return whether `hits` more than at the last true answer have arrived."""
        end = self.end()
        if end < self._due + hits:
            return False
        self._due = end
        return True

    def close(self) -> None:
        """Give its connections up: it complains when the broker goes first."""
        self._consumer.close()

    def end(self) -> int:
        """Return how many records the topic has ever had, all partitions together."""
        topics = self._consumer.list_topics(self._topic, timeout=ANSWER_S_MAX).topics
        places = [TopicPartition(self._topic, number) for number in topics[self._topic].partitions]
        return sum(self._consumer.get_watermark_offsets(place, timeout=ANSWER_S_MAX)[1] for place in places)


def make_topic(kafka: str, topic: str, partitions: int = PARTITIONS) -> None:
    """Make a topic and wait until the broker leads all its partitions; raises KafkaException when it never does."""
    admin = AdminClient({"bootstrap.servers": kafka})  # must live until the answer has come
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(ANSWER_S_MAX)
    deadline = time.monotonic() + ANSWER_S_MAX
    while True:
        try:
            Arrived(kafka, topic)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


class EchoProtocol(asyncio.Protocol):
    """Answers every read with the pixel's bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._write = transport.write  # type: ignore[attr-defined]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        """Answer."""
        del data
        self._write(PIXEL)


class TimedEcho:
    """What the connections of a timed echo share: this tick's reads, and the counters."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._handles: list[int] = []
        self._arrived_ns = 0
        self._call_soon = asyncio.get_running_loop().call_soon

    def take(self, handle: int) -> None:
        """Take a read; it is answered when the tick's reads are here."""
        if not self._handles:
            self._arrived_ns = time.perf_counter_ns()
            self._call_soon(self._answer)
        self._handles.append(handle)

    def _answer(self) -> None:
        handles, self._handles = self._handles, []
        for handle in handles:
            with suppress(OSError):  # closed meanwhile
                os.write(handle, PIXEL)
        self._counters.handled(len(handles), time.perf_counter_ns() - self._arrived_ns)


class TimedEchoProtocol(asyncio.Protocol):
    """One connection of it."""

    def __init__(self, echo: TimedEcho) -> None:
        self._take = echo.take

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._handle = os.dup(transport.get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        """Take a read."""
        del data
        self._take(self._handle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the handle."""
        del exc
        os.close(self._handle)


async def _echo(sock: socket.socket, counts: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    protocol: Callable[[], asyncio.Protocol] = EchoProtocol
    if counts is not None:
        counters = Counters()
        Account(counters, counts)
        protocol = partial(TimedEchoProtocol, TimedEcho(counters))
    server = await loop.create_server(protocol, sock=sock, backlog=4096)
    await stop.wait()
    server.close()


def main() -> int:
    """Be the server that the arguments name: `collector ROOT FD`, `timed ROOT FD` or `echo - FD`."""
    kind, root, handle = sys.argv[1:]
    counts = Path(root) / COUNTS_FILE
    if kind != "collector":
        uvloop.run(_echo(socket.socket(fileno=int(handle)), counts if kind == "timed" else None))
        return 0

    def begin(stop: asyncio.Event, counters: Counters) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        Account(counters, counts)

    settings = load(data_dir=Path(root), collectors=1, spool_bytes_max=64 << 30)
    return run(settings, int(handle), Path(root) / "spool", begin=begin, ready=lambda _: freeze())


if __name__ == "__main__":
    sys.exit(main())
