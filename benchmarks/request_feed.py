"""Deals requests to connections: a visitor's requests stay in order on one connection. Pure, for one event loop.

Promise: requests of one visitor come from one connection's `take` in the source's order; those of no visitor go to
whoever asks first. The source is read only as far as needed; at most `STASH_MAX` requests wait for a busy connection,
so a heavy visitor slows the others down instead of filling memory.
"""

from __future__ import annotations

from asyncio import Event
from collections import deque
from collections.abc import Iterable

from benchmarks.traffic import Request

STASH_MAX = 64


class RequestFeed:
    """The source, dealt to `connections` takers, each known by its index."""

    def __init__(self, requests: Iterable[Request], connections: int) -> None:
        self._source = iter(requests)
        self._stashes: list[deque[Request]] = [deque() for _ in range(connections)]
        self._wakes = [Event() for _ in range(connections)]
        self._blocked_by: deque[Request] | None = None  # the full stash that all wait for
        self._exhausted = False

    async def take(self, index: int) -> Request | None:
        """Return the taker's next request; None when there will be no more for it."""
        while True:
            stash = self._stashes[index]
            if stash:
                request = stash.popleft()
                if stash is self._blocked_by:
                    self._blocked_by = None
                    self._wake_all()
                return request
            if self._exhausted:
                return None
            if self._blocked_by is None:
                found = self._pull(index)
                if found is not None:
                    return found
                continue
            self._wakes[index].clear()
            await self._wakes[index].wait()

    def stop(self) -> int:
        """Give out nothing more; return how many requests were read from the source and are dropped."""
        self._exhausted = True
        dropped = sum(len(stash) for stash in self._stashes)
        for stash in self._stashes:
            stash.clear()
        self._wake_all()
        return dropped

    def _pull(self, index: int) -> Request | None:
        """Read the source until a request for `index` comes, a stash is full or there is no more."""
        for request in self._source:
            owner = index if not request.visitor else request.visitor % len(self._stashes)
            if owner == index:
                return request
            stash = self._stashes[owner]
            stash.append(request)
            self._wakes[owner].set()
            if len(stash) >= STASH_MAX:
                self._blocked_by = stash
                return None
        self._exhausted = True
        self._wake_all()
        return None

    def _wake_all(self) -> None:
        for wake in self._wakes:
            wake.set()
