"""One connection of the public port: bytes in, requests to the routes, answers out in request order.

- The reads of one tick, READS_MAX at most, are queued and then taken in one go, so that code and data of each step stay
  in the processor's caches: first all reads, then all requests, then one write to the spool, then all answers.
- A read that is exactly one common request takes the fast path (`pixel_head.py`, `event_head.py`); everything else,
  split or pipelined or odd, goes through `read`, where the strict reader decides what the fast path does not recognize.
- After a request that ends the connection (malformed, `Connection: close`) nothing on it is read as a request any
  more. It is closed once all answers in front are out: first our direction, then, when the client has closed or
  LINGER_S has passed, all of it, so that the client can read the answer.
- Bounded: at most PIPELINE_MAX unanswered requests; beyond, and while the client does not read its answers, reading
  pauses and at most one read is kept back.
- One sweep (`Edge.sweep`) watches all time limits; a limit strikes between its time and two sweeps later.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import NamedTuple, cast

from ingest.client import Client
from ingest.counters import Counters, Refusal
from ingest.event_head import EventHeads
from ingest.group_commit import GroupCommit
from ingest.http_response import CONTINUE
from ingest.http_strict import HEAD_END, HttpLimits, RefusedError, Request, StrictReader
from ingest.pixel_head import PixelHeads
from ingest.request_batch import Read, RequestBatch
from ingest.routes import Routes

PIPELINE_MAX = 64
READS_MAX = 64  # more would save little, and the first of them would wait for their answers
WRITE_BUFFER_BYTES = 64 * 1024
LINGER_S = 2.0
LINGER_BYTES_MAX = 1024 * 1024


class TimeLimits(NamedTuple):
    """Time limits in seconds, from the settings of the same names, and how often they are looked at."""

    idle_timeout_s: float
    request_timeout_s: float
    write_timeout_s: float
    sweep_s: float


class Phase(IntEnum):
    """Where a connection stands."""

    OPEN = 0  # takes requests
    CLOSING = 1  # takes no more; answers are still to go out
    LINGERING = 2  # our direction is closed; waits for the client to close its own
    CLOSED = 3


class Edge:
    """What all connections of a collector share. `now_s` is the loop's time at the last sweep.

    `reads` queues this tick's reads that may be whole requests, at most one of each connection, until the tick's end
    or until there are `reads_max`.
    """

    def __init__(
        self, group: GroupCommit, routes: Routes, heads: PixelHeads, event_heads: EventHeads, counters: Counters
    ) -> None:
        self.group = group
        self.routes = routes
        self.heads = heads
        self.counters = counters
        self.connections: set[Connection] = set()
        self.stopping = False
        self.reads: list[Read] = []
        self.reads_max = min(group.hits_max, READS_MAX)
        self.batch = RequestBatch(heads, event_heads, routes, group)
        loop = asyncio.get_running_loop()
        self.call_soon = loop.call_soon
        self.now_s = loop.time()

    def limit(self, limits: HttpLimits, times: TimeLimits, connections_max: int) -> None:
        """Set the limits; before the first connection."""
        self.limits = limits
        self.times = times
        self.connections_max = connections_max

    def take_reads(self) -> None:
        """Take the queued reads in their order, and answer what can be answered."""
        reads, self.reads = self.reads, []
        if reads:
            self.batch.take(reads, self.now_s)

    def sweep(self, now_s: float) -> None:
        """Apply the time limits to all connections."""
        self.take_reads()
        self.group.arrive()  # an answer to what did not come counts from here
        self.now_s = now_s
        for connection in tuple(self.connections):
            connection.look(now_s)

    def stop(self) -> None:
        """Take no further request on connections that have none under way, and end the others after theirs."""
        self.take_reads()
        self.stopping = True
        for connection in tuple(self.connections):
            connection.stop()


class Connection(Client):
    """The reading half of a connection: an `asyncio.Protocol` in all but name, as a class of that would not compile."""

    __slots__ = (
        "_begun",
        "_edge",
        "_lingered",
        "_paused",
        "_phase",
        "_plain",
        "_rest",
        "_strict",
    )

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge.now_s)
        self._edge = edge
        self._phase = Phase.OPEN
        self._plain = True  # the next read may be a whole request of its own
        self._begun = False  # some of a request is here, not all
        self._paused = False  # the client does not read its answers
        self._rest = b""
        self._strict: StrictReader | None = None
        self._lingered = 0

    # the loop's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or close at once when there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        edge = self._edge
        if len(edge.connections) >= edge.connections_max or not self.has_handle():
            edge.counters.refused[Refusal.TOO_MANY_CONNECTIONS] += 1
            self._phase = Phase.CLOSED
            self._plain = False
            self.transport.abort()
            return
        edge.connections.add(self)
        edge.counters.connections_opened += 1
        edge.counters.connections_open = len(edge.connections)
        name = transport.get_extra_info("peername")
        self.peer = edge.routes.peer(name[0] if isinstance(name, tuple) else "")
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Take what one read brought."""
        if self.queued:
            self._edge.take_reads()
        if self._plain:
            self.queued = True
            edge = self._edge
            if not edge.reads:
                edge.group.arrive()
                edge.call_soon(edge.take_reads)
            edge.reads.append((self, data))
            if len(edge.reads) >= edge.reads_max:
                edge.take_reads()
        elif self._phase is Phase.OPEN:
            if not self._edge.reads:
                self._edge.group.arrive()
            self.read(self._rest + data if self._rest else data)
        else:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES_MAX:
                self.transport.abort()

    def eof_received(self) -> bool:
        """End after the answers that are due; return whether the loop is to leave our direction open for them."""
        if self.queued:
            self._edge.take_reads()
        if self.unanswered and self._phase <= Phase.CLOSING:
            self._close_after_answers()
            return True
        return False

    def pause_writing(self) -> None:
        """Read no more of what the client sends: it does not read its answers."""
        self._paused = True
        self._plain = False
        self.since_s = self._edge.now_s
        if self._phase is Phase.OPEN:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client reads again."""
        self._paused = False
        self.since_s = self._edge.now_s
        if self._phase is not Phase.OPEN:
            return
        if self._rest:
            self.proceed()
        else:
            self.transport.resume_reading()
            self._plain = not self._begun and not self._edge.stopping

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; answers still due to it are dropped, their hits stay kept."""
        del exc
        self.lost = True
        self._phase = Phase.CLOSED
        self._plain = False
        self.close_handle()
        if self.queued:
            self._edge.take_reads()
        self.held = False
        self._rest = b""
        self._edge.connections.discard(self)
        self._edge.counters.connections_open = len(self._edge.connections)

    # reading

    def read(self, data: bytes) -> None:
        """Take the requests in `data`, which starts where the last one ended, or within one."""
        self._rest = b""
        self._plain = False
        at = 0
        complete = False
        try:
            while at < len(data) and self._phase is Phase.OPEN:
                if self._paused or self.unanswered >= PIPELINE_MAX:
                    self._keep_back(data[at:])
                    return
                at, taken = self._read_one(data, at)
                complete = complete or taken
        except RefusedError as error:
            self._refuse(error.reason)
            return
        if self._phase is not Phase.OPEN:
            return
        begun = self._strict is not None and self._strict.begun
        if complete or begun != self._begun:
            self.since_s = self._edge.now_s
        self._begun = begun
        self._plain = not begun and not self._paused and not self._edge.stopping

    def _read_one(self, data: bytes, at: int) -> tuple[int, bool]:
        """Take one request, or what there is of it; return the place behind it and whether it was whole."""
        edge = self._edge
        if not self._begun and not edge.stopping:
            end = data.find(HEAD_END, at)
            fields = edge.heads.recognize(data[at : end + 4]) if end >= 0 else None
            if fields is not None:
                edge.routes.pixel(self, fields)
                return end + 4, True
        if self._strict is None:
            self._strict = StrictReader(edge.limits)
        at, request = self._strict.feed(data, at)
        self._begun = self._strict.begun
        if request is not None:
            self._take(request)
        elif self._strict.wants_continue:
            edge.group.add((self, 0, 100, CONTINUE, CONTINUE), [])
        return at, request is not None

    def _take(self, request: Request) -> None:
        keep_alive = request.keep_alive and not self._edge.stopping
        if not keep_alive:
            self._close_after_answers()
        self._edge.routes.request(self, request, keep_alive=keep_alive)

    def _keep_back(self, rest: bytes) -> None:
        self._rest = rest
        self.held = True
        self.transport.pause_reading()

    # ending

    def proceed(self) -> None:
        """Go on, now that all requests so far are answered: close, or read what was kept back."""
        if self.unanswered or self._phase is Phase.CLOSED:
            return
        if self._phase is Phase.CLOSING:
            self._linger()
        elif self._phase is Phase.OPEN and self._rest and not self._paused:
            self.held = False
            rest = self._rest
            self.transport.resume_reading()
            self.read(rest)

    def _refuse(self, reason: Refusal) -> None:
        self._close_after_answers()
        self._edge.routes.refuse_and_close(self, reason)

    def _close_after_answers(self) -> None:
        self._phase = Phase.CLOSING
        self._plain = False
        self._begun = False
        self._rest = b""
        self.held = True
        self.since_s = self._edge.now_s

    def _linger(self) -> None:
        self._phase = Phase.LINGERING
        self.held = False
        self.since_s = self._edge.now_s
        self.transport.resume_reading()
        self.transport.write_eof()

    def stop(self) -> None:
        """Close now if nothing is under way, else after that: the collector ends."""
        self._plain = False
        if self._phase is Phase.OPEN and not (self.unanswered or self._begun or self._rest):
            self.transport.close()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.transport.abort()

    def look(self, now_s: float) -> None:
        """Apply the time limits."""
        times = self._edge.times
        waited_s = now_s - self.since_s - times.sweep_s  # `since_s` may be older than the event by one sweep
        if self._paused:
            if waited_s > times.write_timeout_s:
                self._edge.counters.refused[Refusal.SLOW_READER] += 1
                self.transport.abort()
        elif self._phase is Phase.LINGERING:
            if waited_s > LINGER_S:
                self.transport.abort()
        elif self._begun:
            if waited_s > times.request_timeout_s:
                self._refuse(Refusal.SLOW_REQUEST)
        elif not self.unanswered and waited_s > times.idle_timeout_s:
            self.transport.close()
