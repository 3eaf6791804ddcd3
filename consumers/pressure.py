"""How ClickHouse is doing, as far as a worker can tell: what `batch_pace.py` decides by. Shared by its partitions."""

from __future__ import annotations

from consumers.batch_pace import Pressure
from consumers.store import Store

PARTS_KNOWN_S = 1.0  # how old a count of parts may be
INSERT_KNOWN_S = 30.0  # a partition that loads nothing for so long keeps ClickHouse from nothing


class Gauge:
    """Counts parts at most every PARTS_KNOWN_S, and remembers how long each log partition's latest insert took.

    Between two counts each insert of ours counts as one part more.
    """

    def __init__(self, store: Store) -> None:
        self.parts = 0
        self._store = store
        self._added = 0
        self._counted_s = 0.0
        self._inserts: dict[int, tuple[float, float]] = {}

    def note(self, partition: int, took_s: float, now_s: float) -> None:
        """Take the time of an insert; `now_s` is when it ended."""
        self._added += 1
        self._inserts[partition] = took_s, now_s

    def read(self, now_s: float) -> Pressure:
        """Return how ClickHouse is doing. Raises RetryError, FatalError."""
        if not 0 <= now_s - self._counted_s < PARTS_KNOWN_S:
            self.parts = self._store.parts()
            self._added = 0
            self._counted_s = now_s
        latest = [took_s for took_s, ended_s in self._inserts.values() if abs(now_s - ended_s) < INSERT_KNOWN_S]
        return Pressure(self.known(), sum(latest))

    def known(self) -> int:
        """Return the parts as last counted, with those that were added since."""
        return self.parts + self._added
