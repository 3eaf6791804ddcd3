"""The collector process: one event loop, one listening socket, one spool.

- The listening socket belongs to the parent, which holds it open: this process only stops reading it, so connections
  that wait in its queue wait for the successor.
- Ending in order: no further connection is accepted, what is under way is answered and appended, then the spool is
  closed. What has not ended by `stop_timeout_s` is cut off, unanswered.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import uvloop

from ingest.cookieless import DailySalts
from ingest.counters import Counters
from ingest.event_head import EventHeads
from ingest.group_commit import GroupCommit
from ingest.http_protocol import Connection, Edge, TimeLimits
from ingest.http_strict import HttpLimits
from ingest.pixel_head import PixelHeads
from ingest.routes import Routes
from ingest.salt_file import SaltError, SaltFile
from ingest.salt_keeper import SaltKeeper
from ingest.spool import Spool, SpoolError
from schemas.settings import Settings

LISTEN_BACKLOG = 4096
SWEEPS_PER_LIMIT = 5
SWEEP_S_MAX = 1.0
DRAIN_STEP_S = 0.02

log = logging.getLogger(__name__)


class Collector:
    """A running collector: made by `start`, ended by `stop`."""

    def __init__(self, settings: Settings, spool: Spool, counters: Counters, salts: SaltKeeper | None) -> None:
        limits = HttpLimits(
            settings.target_bytes_max, settings.head_bytes_max, settings.headers_max, settings.body_bytes_max
        )
        times = (settings.idle_timeout_s, settings.request_timeout_s, settings.write_timeout_s)
        self._sweep_s = min(SWEEP_S_MAX, min(times) / SWEEPS_PER_LIMIT)
        self._stop_timeout_s = settings.stop_timeout_s
        self._loop = asyncio.get_running_loop()
        self._group = GroupCommit(
            spool,
            counters,
            hits_max=settings.group_hits_max,
            bytes_max=settings.group_bytes_max,
            disk=settings.sync == "disk",
        )
        proxied = bool(settings.trusted_proxies)
        header = settings.client_address_header
        heads = PixelHeads(settings.pixel_path, header, limits, proxied=proxied)
        event_heads = EventHeads(settings.events_path, header, limits, proxied=proxied)
        self._salts = salts
        self._data_dir = settings.data_dir
        self._routes = Routes(settings, self._group, counters, heads, self.daily_salts)
        self.edge = Edge(self._group, self._routes, heads, event_heads, counters)
        self.edge.limit(limits, TimeLimits(*times, self._sweep_s), settings.connections_max)
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def failed(self) -> OSError | None:
        """What made further promises impossible, if anything did."""
        return self._group.failed

    def is_ready(self) -> bool:
        """Whether a hit that comes now can be kept."""
        return self._group.ready and not self.edge.stopping

    def take_sites(self, settings: Settings) -> None:
        """Go by the sites of these settings from the next request on; within the event loop."""
        self._routes.take_sites(settings)

    def daily_salts(self) -> DailySalts:
        """Return the salts of cookieless sites, kept from now on; callable in any thread. Raises SaltError."""
        self._salts = self._salts or SaltKeeper(SaltFile(self._data_dir), time.time())
        return self._salts.salts

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket; this process's handle of it is used up."""
        self._server = await self._loop.create_server(self._connection, sock=sock, backlog=LISTEN_BACKLOG)
        self._sweep()

    async def stop(self) -> None:
        """End in order, within `stop_timeout_s`."""
        deadline_s = self._loop.time() + self._stop_timeout_s
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(DRAIN_STEP_S)  # requests that have arrived are read before connections count as idle
        while self._loop.time() < deadline_s:
            self.edge.stop()
            if not self.edge.connections and self._group.idle:
                break
            await asyncio.sleep(DRAIN_STEP_S)
        for connection in tuple(self.edge.connections):
            connection.abort()
        self._group.flush()
        await self._group.settled()
        if self._timer is not None:
            self._timer.cancel()
        self._group.close()

    def _connection(self) -> asyncio.Protocol:
        return cast("asyncio.Protocol", Connection(self.edge))

    def _sweep(self) -> None:
        self.edge.sweep(self._loop.time())
        if self._salts is not None:
            self._salts.look(time.time())
        self._timer = self._loop.call_later(self._sweep_s, self._sweep)


async def serve(  # noqa: PLR0913  all that surrounds a process
    settings: Settings,
    sock: socket.socket,
    spool_root: Path,
    counters: Counters,
    *,
    stop: asyncio.Event,
    ready: Callable[[Collector], None] = lambda _: None,
) -> None:
    """Serve on a listening socket until `stop` is set, then end in order.

    `ready` is called once connections are accepted. `sock` stays the caller's: a duplicate is used. Raises SpoolError
    when no spool can be made, SaltError when a cookieless site has no salt, OSError when the spool failed and nothing
    can be promised any more.
    """
    salts = SaltKeeper(SaltFile(settings.data_dir), time.time()) if settings.cookieless else None
    spool = Spool(
        spool_root,
        bytes_max=settings.spool_bytes_max,
        segment_bytes_max=settings.segment_bytes_max,
        collectors=settings.collectors,
        disk=settings.sync == "disk",
    )
    collector = Collector(settings, spool, counters, salts)
    await collector.start(sock.dup())
    ready(collector)
    try:
        while not stop.is_set() and collector.failed is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), timeout=SWEEP_S_MAX)
    finally:
        await collector.stop()
    if collector.failed is not None:
        raise collector.failed


def run(
    settings: Settings,
    listen_fd: int,
    spool_root: Path,
    *,
    begin: Callable[[asyncio.Event, Counters], None],
    ready: Callable[[Collector], None] = lambda _: None,
) -> int:
    """Be a collector process on the inherited listening socket `listen_fd`; return the exit code.

    `begin` is called inside the event loop with the event that ends the process and the counters, to wire signals,
    the parent and the metrics.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    counters = Counters()

    async def main() -> None:
        stop = asyncio.Event()
        begin(stop, counters)
        with socket.socket(fileno=listen_fd) as sock:
            await serve(settings, sock, spool_root, counters, stop=stop, ready=ready)

    try:
        uvloop.run(main())
    except (OSError, SpoolError, SaltError) as error:
        log.critical("collector ends: %s", error)
        return 1
    return 0
