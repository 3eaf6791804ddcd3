"""One connection of the public port: bytes in, requests to the routes, answers out in request order.

- The reads of one tick are queued and then taken in one go, so that the code and the data of each step stay in the
  processor's caches: first all reads, then all requests, then one write to the spool, then all answers.
- A read that is exactly one common request takes the fast path (`pixel_head.py`, `event_head.py`); everything else,
  split or pipelined or odd, goes through `read`, where the strict reader decides what the fast path does not recognize.
- After a request that ends the connection (malformed, `Connection: close`) nothing on it is read as a request any
  more. It is closed once all answers in front are out: first our direction, then, when the client has closed or
  LINGER_S has passed, all of it, so that the client can read the answer.
- Bounded: at most PIPELINE_MAX unanswered requests; beyond, and while the client does not read its answers, reading
  pauses and at most one read is kept back.
- Answers are written to the socket directly, through a handle of the connection's own, for as long as the kernel takes
  them whole; from the first one that it does not, they go through the loop's buffer, which knows of slow readers.
- One sweep (`Edge.sweep`) watches all time limits; a limit strikes between its time and two sweeps later.
"""

from __future__ import annotations

import asyncio
import os
from enum import IntEnum
from typing import NamedTuple, cast

from ingest.client_address import Peer
from ingest.counters import Counters, Refusal
from ingest.event_head import EventHeads
from ingest.group_commit import GroupCommit
from ingest.http_response import CONTINUE
from ingest.http_strict import HEAD_END, HttpLimits, RefusedError, Request, StrictReader
from ingest.pixel_batch import PixelBatch
from ingest.pixel_head import PixelHeads
from ingest.routes import Routes

PIPELINE_MAX = 64
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

    `reads` queues this tick's reads that may be whole requests, at most one of each connection, until the tick's end.
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
        self.reads: list[tuple[Connection, bytes]] = []
        self.reads_max = group.hits_max
        self.batch = PixelBatch(heads, event_heads, routes, group)
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
        for first in range(0, len(reads), self.reads_max):
            self.batch.take(reads[first : first + self.reads_max], self.now_s)

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


class Connection(asyncio.Protocol):
    """A client's connection; the loop makes one for every socket it accepts."""

    __slots__ = (
        "_begun",
        "_edge",
        "_lingered",
        "_paused",
        "_phase",
        "_pixel",
        "_plain",
        "_recognize",
        "_rest",
        "_strict",
        "_transport",
        "handle",
        "held",
        "peer",
        "queued",
        "since_s",
        "unanswered",
    )

    def __init__(self, edge: Edge) -> None:
        self.unanswered = 0
        self.held = False
        self.queued = False  # a read of this connection waits in the edge's queue
        self.peer = Peer("", trusted=False, ip_member=b"")
        self.handle = -1
        self._edge = edge
        self._recognize = edge.heads.recognize
        self._pixel = edge.routes.pixel
        self._phase = Phase.OPEN
        self._plain = True  # the next read may be a whole request of its own
        self._begun = False  # some of a request is here, not all
        self._paused = False  # the client does not read its answers
        self._rest = b""
        self._strict: StrictReader | None = None
        self.since_s = edge.now_s
        self._lingered = 0

    # the loop's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or close at once when there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        edge = self._edge
        if len(edge.connections) >= edge.connections_max or not self._has_handle():
            edge.counters.refused[Refusal.TOO_MANY_CONNECTIONS] += 1
            self._phase = Phase.CLOSED
            self._plain = False
            self._transport.abort()
            return
        edge.connections.add(self)
        edge.counters.connections_opened += 1
        edge.counters.connections_open = len(edge.connections)
        name = transport.get_extra_info("peername")
        self.peer = edge.routes.peer(name[0] if isinstance(name, tuple) else "")
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

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
        elif self._phase is Phase.OPEN:
            if not self._edge.reads:
                self._edge.group.arrive()
            self.read(self._rest + data if self._rest else data)
        else:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES_MAX:
                self._transport.abort()

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
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client reads again."""
        self._paused = False
        self.since_s = self._edge.now_s
        if self._phase is not Phase.OPEN:
            return
        if self._rest:
            self.proceed()
        else:
            self._transport.resume_reading()
            self._plain = not self._begun and not self._edge.stopping

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; answers still due to it are dropped, their hits stay kept."""
        del exc
        self._phase = Phase.CLOSED
        self._plain = False
        self._close_handle()
        if self.queued:
            self._edge.take_reads()
        self.held = False
        self._rest = b""
        self._edge.connections.discard(self)
        self._edge.counters.connections_open = len(self._edge.connections)

    # answering

    def _has_handle(self) -> bool:
        """Return whether the process may have one more open file: the connection's own handle of its socket.

        It is a duplicate, because the loop closes its own before it says so, and the number may be another
        connection's by then.
        """
        try:
            self.handle = os.dup(self._transport.get_extra_info("socket").fileno())
        except OSError:
            return False
        return True

    def _close_handle(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def send(self, answer: bytes) -> None:
        """Hand an answer to the kernel, or, where that does not take it whole, to the loop."""
        sent = 0
        if self.handle >= 0:
            try:
                sent = os.write(self.handle, answer)
            except BlockingIOError:
                pass
            except OSError:  # reset by the client
                self._transport.abort()
                return
        if sent < len(answer):
            self.send_slowly(answer[sent:])

    def send_slowly(self, answer: bytes) -> None:
        """Hand an answer to the loop, and all later ones: the kernel does not take them at once."""
        self._close_handle()
        if self._phase is not Phase.CLOSED:
            self._transport.write(answer)

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
            fields = self._recognize(data[at : end + 4]) if end >= 0 else None
            if fields is not None:
                self._pixel(self, fields)
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
        self._transport.pause_reading()

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
            self._transport.resume_reading()
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
        self._transport.resume_reading()
        self._transport.write_eof()

    def stop(self) -> None:
        """Close now if nothing is under way, else after that: the collector ends."""
        self._plain = False
        if self._phase is Phase.OPEN and not (self.unanswered or self._begun or self._rest):
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def look(self, now_s: float) -> None:
        """Apply the time limits."""
        times = self._edge.times
        waited_s = now_s - self.since_s - times.sweep_s  # `since_s` may be older than the event by one sweep
        if self._paused:
            if waited_s > times.write_timeout_s:
                self._edge.counters.refused[Refusal.SLOW_READER] += 1
                self._transport.abort()
        elif self._phase is Phase.LINGERING:
            if waited_s > LINGER_S:
                self._transport.abort()
        elif self._begun:
            if waited_s > times.request_timeout_s:
                self._refuse(Refusal.SLOW_REQUEST)
        elif not self.unanswered and waited_s > times.idle_timeout_s:
            self._transport.close()
