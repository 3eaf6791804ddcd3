"""Pixel hits at a fixed rate, as cheap as Python can send them: for runs in which senders and servers share the cores.

Promise: hit k is due at `started_at + k / rate_per_s` and is sent then, or as soon as a connection is free: none is
left out, however slow the answers (an open loop, at most `WAITING_S_MAX` behind). Its id is its number k, and its
answer time runs from the moment the sender found it due to its answer's last byte, so a server that stands still shows
in every hit it kept waiting. An answer counts when it is complete, and as kept when it is a 200.

`python -m benchmarks.pixel_load PORT DIRECTORY` sends until SIGTERM, then leaves what `read_report` returns.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import perf_counter_ns
from typing import Any, NamedTuple, cast

import orjson
import uvloop

from benchmarks.http_answer import AnswerReader, BadAnswerError
from benchmarks.steady import HEADERS
from benchmarks.traffic import pixel, render, visitor_cookie

TICK_S = 0.001
WAITING_S_MAX = 20.0
LAST_ANSWERS_S_MAX = 20.0
RECONNECT_S = 0.05
VISITORS = 2_000
ID_MARK = "NUMBER"
GIF_END = b"\x00;"  # the last bytes of every GIF


class LoadReport(NamedTuple):
    """One run. `latencies_us[k]` is the answer time of hit k, 0 when it was not answered 200."""

    started_at: float
    rate_per_s: int
    latencies_us: array[int]
    refused: int
    unanswered: int

    def seconds(self) -> list[tuple[float, int, int]]:
        """Return for each full second of the schedule when it began, and the p50 and p99 of its answered hits in us."""
        rate = self.rate_per_s
        found = []
        for second in range(len(self.latencies_us) // rate):
            answered = sorted(filter(None, self.latencies_us[second * rate : (second + 1) * rate]))
            if answered:
                p99 = answered[min(len(answered) - 1, int(0.99 * len(answered)))]
                found.append((self.started_at + second, answered[len(answered) // 2], p99))
        return found


class PixelLoad:
    """One run against a port of loopback; `run` is its life, `report` what came of it."""

    def __init__(self, port: int, rate_per_s: int, connections: int, seed: int = 1) -> None:
        self._port = port
        self._rate_per_s = rate_per_s
        self._connections = connections
        self._requests = _requests(port, seed)
        self._free: deque[_Connection] = deque()
        self._waiting: deque[tuple[int, int]] = deque()  # number, and since when in ns
        self._latencies_us = array("I")
        self._open = 0
        self._ended = False
        self._refused = 0
        self._unanswered = 0
        self._started_at = 0.0
        self._started_ns = 0
        self._background: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set, and wait for the last answers. Raises RuntimeError when too far behind."""
        for _ in range(self._connections):
            await self._connect()
        self._started_at, self._started_ns = time.time(), perf_counter_ns()
        while not stop.is_set():
            self._send_due(perf_counter_ns())
            if len(self._waiting) > WAITING_S_MAX * self._rate_per_s:
                raise RuntimeError(f"{len(self._waiting)} hits wait to be sent: the server does not keep up")
            await asyncio.sleep(TICK_S)
        deadline_ns = perf_counter_ns() + int(LAST_ANSWERS_S_MAX * 1e9)
        while (self._waiting or len(self._free) < self._open) and perf_counter_ns() < deadline_ns:  # noqa: ASYNC110  callbacks
            await asyncio.sleep(TICK_S)
        self._unanswered += len(self._waiting) + self._open - len(self._free)
        self._ended = True
        for connection in self._free:
            connection.close()

    def report(self) -> LoadReport:
        """Return the run as it is now."""
        return LoadReport(self._started_at, self._rate_per_s, self._latencies_us, self._refused, self._unanswered)

    def answered(self, number: int, latency_ns: int, *, kept: bool) -> None:
        """Note an answer."""
        if kept:
            self._latencies_us[number] = max(latency_ns // 1000, 1)
        else:
            self._refused += 1

    def is_free(self, connection: _Connection) -> None:
        """Give a connection its next hit, or let it wait for one."""
        if self._waiting:
            self._send(connection, *self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: _Connection) -> None:
        """Note that a connection ended, and open another one in its place."""
        if self._ended:
            return
        self._open -= 1
        if connection.number >= 0:
            self._unanswered += 1
        else:
            self._free.remove(connection)
        task = asyncio.create_task(self._connect())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _send_due(self, now_ns: int) -> None:
        due = (now_ns - self._started_ns) * self._rate_per_s // 1_000_000_000 + 1
        for number in range(len(self._latencies_us), due):
            self._latencies_us.append(0)
            if self._free:
                self._send(self._free.popleft(), number, perf_counter_ns())
            else:
                self._waiting.append((number, now_ns))

    def _send(self, connection: _Connection, number: int, since_ns: int) -> None:
        before, behind = self._requests[number % VISITORS]
        connection.send(number, since_ns, b"%b%d%b" % (before, number, behind))

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
            else:
                self._open += 1
                self.is_free(connection)
                return


class _Connection(asyncio.Protocol):
    """One connection; `number` is the hit whose answer is awaited, -1: none."""

    def __init__(self, load: PixelLoad) -> None:
        self.number = -1
        self._since_ns = 0
        self._load = load
        self._reader: AnswerReader | None = None  # while an answer comes in pieces, or is another than expected
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def send(self, number: int, since_ns: int, request: bytes) -> None:
        self.number, self._since_ns = number, since_ns
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        now_ns = perf_counter_ns()
        if self.number < 0:
            self._transport.abort()
            return
        if self._reader is None and data.startswith(b"HTTP/1.1 200 ") and data.endswith(GIF_END):
            self._done(now_ns, kept=True)
            return
        try:
            status = self._read(data)
        except BadAnswerError:
            self._transport.abort()
            return
        if status:
            self._reader = None
            self._done(now_ns, kept=status == 200)

    def close(self) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._load.lost(self)

    def _read(self, data: bytes) -> int:
        """Return the status once the answer is complete, else 0."""
        if self._reader is None:
            self._reader = AnswerReader()
            self._reader.expect("GET")
        answer = self._reader.feed(data)
        return answer.status if answer else 0

    def _done(self, now_ns: int, *, kept: bool) -> None:
        number, self.number = self.number, -1
        self._load.answered(number, now_ns - self._since_ns, kept=kept)
        self._load.is_free(self)


def _requests(port: int, seed: int) -> list[tuple[bytes, bytes]]:
    """Return each visitor's pixel request, in two parts around the hit's number."""
    rng = Random(seed)
    made = []
    for _ in range(VISITORS):
        page = f"https://steady.example.com/{rng.randrange(50)}"
        parameters = {"s": "steady", "e": "PageView", "u": page, "l": "en-GB", "sr": "1920x1080", "id": ID_MARK}
        cookie = visitor_cookie(rng.randrange(1, 1 << 64), int(time.time()) - 3600)
        before, behind = render(pixel(parameters, (*HEADERS, cookie)), b"127.0.0.1:%d" % port).split(ID_MARK.encode())
        made.append((before, behind))
    return made


def write_report(directory: Path, report: LoadReport) -> None:
    """Leave a report in a directory that is there."""
    (directory / "latencies_us.bin").write_bytes(report.latencies_us.tobytes())
    counts = {name: value for name, value in report._asdict().items() if name != "latencies_us"}
    (directory / "load.json").write_bytes(orjson.dumps(counts))


def read_report(directory: Path) -> LoadReport:
    """Return the report in a directory."""
    counts: dict[str, Any] = orjson.loads((directory / "load.json").read_bytes())
    latencies_us = array("I")
    latencies_us.frombytes((directory / "latencies_us.bin").read_bytes())
    return LoadReport(latencies_us=latencies_us, **counts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send as the command line says, until SIGTERM."""
    parser = argparse.ArgumentParser(description="pixel hits at a fixed rate")
    parser.add_argument("port", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rate", type=int, default=10_000, help="hits a second")
    parser.add_argument("--connections", type=int, default=128)
    given = parser.parse_args(arguments)

    async def life() -> LoadReport:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        load = PixelLoad(given.port, given.rate, given.connections)
        await load.run(stop)
        return load.report()

    write_report(given.directory, uvloop.run(life()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
