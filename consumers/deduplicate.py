"""Step 2: a hit that the forwarder sent again is dropped, exactly (DESIGN, invariant 4). Pure.

A partition sees each spool's numbers rise, so what does not exceed the highest seen is a transport duplicate. Marks
come from `batches`, which counts rejected and duplicate hits too; marks made from `events` would forget those.
"""

from __future__ import annotations

from collections.abc import Iterable


class Marks:
    """The highest sequence number that one partition has seen of each spool."""

    def __init__(self, highest: Iterable[tuple[int, int]] = ()) -> None:
        self._highest = dict(highest)

    def resent(self, spool_id: int, spool_seq: int) -> bool:
        """Return whether this hit was seen before; if not, it counts as seen from now on."""
        highest = self._highest.get(spool_id)
        if highest is not None and spool_seq <= highest:
            return True
        self._highest[spool_id] = spool_seq
        return False
