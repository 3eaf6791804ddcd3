"""What a benchmarked server counted, on its own side of the signal (`Account`) and on the other (`ask`).

A server writes its counters and its long handling times to a file when it gets SIGUSR1, and not before: what it
notes meanwhile stays in memory, so that no file is written between two answers that are being timed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from ingest.counters import HANDLING_NS, Counters

FILE = "counts.json"
LOOK_S = 0.005
LOOK_FROM_MS = 1.0
LOOKS_MAX = 10_000
ANSWER_S_MAX = 10.0
BUCKETS = range(len(HANDLING_NS) + 1)


class Look(NamedTuple):
    """The longest handling time in ms, its bucket's bound, since the last look, and when we looked (`time.monotonic`).

    A look that is due is taken as soon as its tick is over: a handling time beyond LOOK_S ended about `at_s`.
    """

    at_s: float
    longest_ms: float


class Told(NamedTuple):
    """What a server told: its counters (`Counters.as_dict`), and its looks at LOOK_FROM_MS or more, in order."""

    counts: dict[str, int]
    looks: list[Look]


class Account:
    """The server's side; begins within its event loop."""

    def __init__(self, counters: Counters, path: Path) -> None:
        self._counters = counters
        self._path = path
        self._seen = list(counters.handling)
        self._looks: deque[Look] = deque(maxlen=LOOKS_MAX)
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGUSR1, self._tell)
        self._look()

    def _look(self) -> None:
        now = list(self._counters.handling)
        places = [place for place in BUCKETS if now[place] > self._seen[place]]
        if places and _bound_ms(places[-1]) >= LOOK_FROM_MS:
            self._looks.append(Look(time.monotonic(), _bound_ms(places[-1])))
        self._seen = now
        self._loop.call_later(LOOK_S, self._look)

    def _tell(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(orjson.dumps([self._counters.as_dict(), [tuple(look) for look in self._looks]]))
        fresh.rename(self._path)


def ask(pid: int, path: Path) -> Told:
    """Return what a server has counted up to now. Raises TimeoutError."""
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + ANSWER_S_MAX
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not write its counters")
        time.sleep(0.01)
    counts, looks = orjson.loads(path.read_bytes())
    return Told(counts, [Look(*look) for look in looks])


def quantile(counts: Mapping[str, int], share: float) -> float:
    """Return the handling time in us that `share` of the answers stayed below, linear within its bucket."""
    buckets = [counts.get(f"handling.{place}", 0) for place in BUCKETS]
    wanted = share * sum(buckets)
    for place, count in enumerate(buckets[:-1]):
        if count and wanted <= count:
            below = HANDLING_NS[place - 1] if place else 0
            return (below + (HANDLING_NS[place] - below) * wanted / count) / 1000
        wanted -= count
    return HANDLING_NS[-1] / 1000


def longest_ms(counts: Mapping[str, int]) -> float:
    """Return the bound in ms of the last bucket that holds an answer."""
    return _bound_ms(max(place for place in BUCKETS if counts.get(f"handling.{place}", 0)))


def _bound_ms(place: int) -> float:
    return HANDLING_NS[min(place, len(HANDLING_NS) - 1)] / 1e6
