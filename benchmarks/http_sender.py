"""An HTTP/1.1 keep-alive sender that knows exactly what was answered: for the demo, kill tests and benchmarks.

Promise: every request is counted once (see `send_report`). One request is outstanding on a connection; its answer time
runs from the write to the read of its last byte. A connection that ends, stalls or breaks the protocol before the
answer is complete leaves the request *unanswered*: kept or not, nobody knows; it is sent again only when asked
(`retries`). A request whose connection could not be opened was never sent, and waits. Bytes after an answer, or without
a request, are a desynchronized connection: counted and closed. `Request.raw` goes out as it is, on a connection that is
then given up. Connections, waiting requests, cookies, answers and times are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from itertools import count, islice
from time import perf_counter, perf_counter_ns
from typing import NamedTuple, cast

from benchmarks.http_answer import Answer, AnswerReader, BadAnswerError
from benchmarks.request_feed import RequestFeed
from benchmarks.send_report import SendReport
from benchmarks.traffic import Request, render

TICK_S = 0.1  # how often progress is told and time-outs are looked for
RECONNECT_S = 0.05
COOKIES_MAX = 1_000_000
COOKIE_PREFIX = b"_hs="

Progress = Callable[[int], None]


class Target(NamedTuple):
    """Where to send; `host_header` is the Host field, by default `host:port`."""

    host: str
    port: int
    host_header: str = ""


class Pace(NamedTuple):
    """How to send: connections, requests a second over all of them (None: as fast as answers come), and limits.

    `patience_s` is how long a connection may fail to open before the run is given up, `retries` how often an
    unanswered request is sent again, `pause_on_503_s` how long a connection rests after a 503.
    """

    connections: int = 16
    rate_per_s: float | None = None
    seconds_max: float | None = None
    requests_max: int | None = None
    answer_timeout_s: float = 10.0
    patience_s: float = 5.0
    retries: int = 0
    pause_on_503_s: float = 0.0


DEFAULT_PACE = Pace()
KILL_TEST_PACE = Pace(connections=32, patience_s=60.0, answer_timeout_s=5.0, pause_on_503_s=0.2)


async def send(
    requests: Iterable[Request],
    target: Target,
    pace: Pace = DEFAULT_PACE,
    progress: Progress | None = None,
    stop: asyncio.Event | None = None,
) -> SendReport:
    """Send `requests` until they, the pace's limits or `stop` end it, and report.

    `progress` is called about every 100 ms with the number of requests finished so far.
    """
    return await _Sender(requests, target, pace, stop or asyncio.Event()).run(progress)


async def send_until(
    stop: asyncio.Event,
    requests: Iterable[Request],
    target: Target,
    pace: Pace = KILL_TEST_PACE,
    progress: Progress | None = None,
) -> SendReport:
    """Send steady load until `stop` is set, through kills of the server; report acknowledged and unknown hits.

    What is in flight when `stop` comes is waited for. `benchmarks.steady.steady_hits` makes requests for it.
    """
    return await send(requests, target, pace, progress, stop)


class _LostError(Exception):
    """The connection ended before the answer; the message is the kind that is counted."""


class _Connection(asyncio.Protocol):
    """One connection, at most one outstanding request."""

    def __init__(self) -> None:
        self.usable = False
        self.desynchronized = False
        self.sent_ns = 0
        self._answered_ns = 0
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._waiting: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self.usable = True

    async def exchange(self, data: bytes, method: str) -> tuple[Answer, int]:
        """Send one request; return its answer and the time it took in ns. Raises _LostError."""
        assert self._transport is not None, "connection_made comes first"
        self._reader.expect(method)
        self._waiting = asyncio.get_running_loop().create_future()
        self.sent_ns = perf_counter_ns()
        self._transport.write(data)
        try:
            answer = await self._waiting
        finally:
            self._waiting = None
        if not answer.keep_alive:
            self.close()
        return answer, self._answered_ns - self.sent_ns

    def data_received(self, data: bytes) -> None:
        now_ns = perf_counter_ns()
        if self._waiting is None or self._waiting.done():
            self._desynchronize()
            return
        try:
            answer = self._reader.feed(data)
        except BadAnswerError as error:
            self.fail(f"bad answer: {error}")
            return
        if answer is not None:
            self._answered_ns = now_ns
            self._waiting.set_result(answer)
            if self._reader.pending:
                self._desynchronize()

    def eof_received(self) -> None:
        now_ns = perf_counter_ns()
        self.usable = False
        if self._waiting is None or self._waiting.done():
            return
        try:
            answer = self._reader.end()
        except BadAnswerError as error:
            self.fail(f"bad answer: {error}")
            return
        if answer is None:
            self.fail("closed")
        else:
            self._answered_ns = now_ns
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("closed" if exc is None else "reset")

    def fail(self, kind: str) -> None:
        """Give the connection up; an outstanding request gets no answer."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(_LostError(kind))
        self.close()

    def overdue(self, now_ns: int, timeout_s: float) -> bool:
        """Whether an answer is outstanding for longer than `timeout_s`."""
        return self._waiting is not None and now_ns - self.sent_ns > timeout_s * 1e9

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _desynchronize(self) -> None:
        self.desynchronized = True
        self.close()


class _Sender:
    """One run."""

    def __init__(self, requests: Iterable[Request], target: Target, pace: Pace, stop: asyncio.Event) -> None:
        self._feed = RequestFeed(islice(requests, pace.requests_max), pace.connections)
        self._target = target
        self._pace = pace
        self._stop = stop
        self._host_header = (target.host_header or f"{target.host}:{target.port}").encode("ascii")
        self._connections: list[_Connection | None] = [None] * pace.connections
        self._cookies: dict[int, bytes] = {}
        self._places = count()  # in the schedule of a rate
        self._report = SendReport()
        self._started = 0.0
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, progress: Progress | None) -> SendReport:
        self._started = perf_counter()
        ticker = asyncio.create_task(self._tick(progress))
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(self._pace.connections):
                    group.create_task(self._work(index))
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
            for index in range(self._pace.connections):
                self._drop(index)
            self._report.unsent += self._feed.stop()
            self._report.seconds = perf_counter() - self._started
        if progress is not None:
            progress(self._finished())
        return self._report

    def _finished(self) -> int:
        return self._report.answered + self._report.unanswered + self._report.unsent

    async def _tick(self, progress: Progress | None) -> None:
        """Watch over time-outs and limits, and tell progress."""
        while True:
            await asyncio.sleep(TICK_S)
            now_ns = perf_counter_ns()
            for connection in self._connections:
                if connection is not None and connection.overdue(now_ns, self._pace.answer_timeout_s):
                    connection.fail("timeout")
            if self._ended() and not self._ending.done():
                self._ending.set_result(None)
                self._report.unsent += self._feed.stop()
            if progress is not None:
                progress(self._finished())

    def _ended(self) -> bool:
        over_time = self._pace.seconds_max is not None and perf_counter() - self._started > self._pace.seconds_max
        return over_time or self._stop.is_set() or bool(self._report.gave_up)

    async def _work(self, index: int) -> None:
        """Send what the feed deals to this connection."""
        while not self._ended():
            request = await self._feed.take(index)
            if request is None:
                return
            if self._pace.rate_per_s is not None:
                await self._wait_until(self._started + next(self._places) / self._pace.rate_per_s)
            if self._ended():
                self._report.unsent += 1
                return
            await self._deliver(index, request)

    async def _wait_until(self, due: float) -> None:
        ahead = due - perf_counter()
        if ahead > TICK_S:
            await asyncio.wait([self._ending], timeout=ahead)
        elif ahead > 0:
            await asyncio.sleep(ahead)
        self._report.lag_us_max = max(self._report.lag_us_max, int((perf_counter() - due) * 1e6))

    async def _deliver(self, index: int, request: Request) -> None:
        """Send a request, again if unanswered and asked to, and count what became of it."""
        for attempt in range(self._pace.retries + 1):
            connection = await self._connected(index)
            if connection is None:
                if attempt == 0:
                    self._report.unsent += 1
                else:
                    self._report.count_unanswered(request, "not connected again")
                return
            self._report.resent += attempt > 0
            data = render(request, self._host_header, self._cookies.get(request.visitor))
            try:
                answer, latency_ns = await connection.exchange(data, request.method)
            except _LostError as error:
                kind = str(error)
                self._report.connection_errors[kind.partition(":")[0]] += 1
                if attempt == self._pace.retries:
                    self._report.count_unanswered(request, kind)
                continue
            self._report.count_answer(request, answer.status, latency_ns)
            self._keep_cookie(request, answer)
            if request.raw:
                self._drop(index)
            if answer.status == 503 and self._pace.pause_on_503_s:
                await asyncio.sleep(self._pace.pause_on_503_s)
            return

    def _keep_cookie(self, request: Request, answer: Answer) -> None:
        if not request.visitor:
            return
        for name, value in answer.headers:
            if name == b"set-cookie" and value.startswith(COOKIE_PREFIX):
                if len(self._cookies) >= COOKIES_MAX:
                    self._cookies.pop(next(iter(self._cookies)))
                self._cookies[request.visitor] = value.partition(b";")[0]

    async def _connected(self, index: int) -> _Connection | None:
        """Return a usable connection; None when patience or the run is over."""
        connection = self._connections[index]
        if connection is not None and connection.usable:
            return connection
        self._drop(index)
        deadline = perf_counter() + self._pace.patience_s
        while not self._ended():
            try:
                async with asyncio.timeout(max(RECONNECT_S, deadline - perf_counter())):
                    _, opened = await asyncio.get_running_loop().create_connection(
                        _Connection, self._target.host, self._target.port
                    )
            except OSError as error:  # a TimeoutError is one
                self._report.connection_errors["not opened"] += 1
                if perf_counter() >= deadline:
                    self._report.gave_up = f"no connection for {self._pace.patience_s} s: {error}"
                    return None
                await asyncio.sleep(RECONNECT_S)
            else:
                self._report.connections += 1
                self._connections[index] = opened
                return opened
        return None

    def _drop(self, index: int) -> None:
        """Close a connection and count what was wrong with it."""
        connection = self._connections[index]
        if connection is not None:
            if connection.desynchronized:
                self._report.connection_errors["desynchronized"] += 1
            connection.close()
            self._connections[index] = None
