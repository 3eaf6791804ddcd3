"""How many statements run at once. Full: wait a bounded time, then ClickHouse's error 202.

A few places are kept for statements that look after others (KILL QUERY, system.processes), so that a full server can
still be asked what it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.clickhouse_server import errors

RUNNING_MAX = 24
RESERVE = 4
WAITING_MAX = 1000
WAIT_S_MAX = 30.0


class Slots:
    """The places; used from one event loop."""

    def __init__(self, running_max: int = RUNNING_MAX, wait_s_max: float = WAIT_S_MAX) -> None:
        self._places = asyncio.Semaphore(running_max)
        self._reserve = asyncio.Semaphore(RESERVE)
        self._wait_s_max = wait_s_max
        self._waiting = 0

    @asynccontextmanager
    async def place(self, *, reserve: bool) -> AsyncIterator[None]:
        """Hold a place while the statement runs. Raises ServerError 202."""
        semaphore = self._reserve if reserve and self._places.locked() else self._places
        if self._waiting >= WAITING_MAX:
            raise self._full()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s_max):
                await semaphore.acquire()
        except TimeoutError:
            raise self._full() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            semaphore.release()

    def _full(self) -> errors.ServerError:
        return errors.ServerError(
            *(202, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many simultaneous queries for the embedded ClickHouse"),
        )
