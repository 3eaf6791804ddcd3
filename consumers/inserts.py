"""Batches on their way into ClickHouse: several at a time, each of another partition, while the worker goes on.

What a load raised is raised where its future is asked. Without threads a load is done before `start` returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from consumers.batch import Batch, Loaded
from schemas.errors import FatalError, RetryError

Load = Callable[[Batch, Loaded], None]


class Inserts:
    """At most `at_once_max` loads under way, each in a thread of its own; of one only, none has a thread."""

    def __init__(self, at_once_max: int = 1, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._at_once_max = at_once_max
        self._clock_s = clock_s
        self._threads = ThreadPoolExecutor(at_once_max, "insert") if at_once_max > 1 else None
        self._under_way: set[Future[float]] = set()

    def start(self, load: Load, batch: Batch, loaded: Loaded) -> Future[float] | None:
        """Begin a load; the future's result is the seconds that it took. None: as many as may be are under way."""
        if self._threads is None:
            future: Future[float] = Future()
            try:
                future.set_result(self._timed(load, batch, loaded))
            except (RetryError, FatalError) as error:
                future.set_exception(error)
            return future
        if not self.has_room():
            return None
        future = self._threads.submit(self._timed, load, batch, loaded)
        self._under_way.add(future)
        return future

    def has_room(self) -> bool:
        """Return whether a load could begin now."""
        self._under_way = {future for future in self._under_way if not future.done()}
        return len(self._under_way) < self._at_once_max

    def wait(self, timeout_s: float) -> bool:
        """Return True when a load has ended, at the latest after `timeout_s`; False at once where none is under way."""
        if not self._under_way:
            return False
        self._under_way = wait(self._under_way, timeout_s, FIRST_COMPLETED).not_done
        return True

    def close(self) -> None:
        """Wait until nothing is under way."""
        if self._threads is not None:
            self._threads.shutdown()

    def _timed(self, load: Load, batch: Batch, loaded: Loaded) -> float:
        began_s = self._clock_s()
        load(batch, loaded)
        return self._clock_s() - began_s
