"""What becomes of a hit without consent, whichever way it came in: stripped (`denied_hit.py`), or dropped and counted.

Promise: nothing that tells who sent it passes. The log key is drawn anew for every hit, as ids are, and is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ingest.counters import Counters
from ingest.denied_hit import denied_event
from ingest.given import Given
from ingest.hit_builder import NO_VISITOR, HitBuilder
from ingest.rulings import Denial


class Stripped(NamedTuple):
    """What is kept of a denied hit: its log key, what stands behind the visitor's id, its event as JSON."""

    key: bytes
    mark: bytes
    event: bytes


class Denials:
    """Takes denied hits; `random_key` returns 16 random hex digits."""

    def __init__(self, builder: HitBuilder, counters: Counters, random_key: Callable[[], bytes]) -> None:
        self._builder = builder
        self._dropped = counters.dropped
        self._random_key = random_key

    def strip(self, denial: Denial, given: Given, referer: bytes = b"") -> Stripped | None:
        """Return what is kept of a hit that says `given`, None when it is dropped.

        `referer` is the Referer field as the inside of a JSON string.
        """
        if denial.dropped:
            self._dropped[denial.site, denial.verdict] += 1
            return None
        return Stripped(self._random_key(), denial.mark, denied_event(given, referer, denial.domains))

    def hits(self, seq: int, source: bytes, denial: Denial, given: Given, referer: bytes = b"") -> list[bytes]:
        """Return the hit that is kept with the number `seq`, or none."""
        kept = self.strip(denial, given, referer)
        if kept is None:
            return []
        return [self._builder.event(seq, source, kept.key, NO_VISITOR, kept.mark, b"", kept.event)]
