"""The event log as the forwarder writes it: the port that local partitions and Kafka both fill.

A run is consecutive hits of one spool for one partition, in the spool's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class LogWriter(Protocol):
    """Appends to the partitions of `hits`."""

    @property
    def partitions(self) -> int:
        """How many partitions the log has; fixed when it was made."""
        ...

    async def append(self, runs: Mapping[int, Sequence[bytes]]) -> None:
        """Append hits (their JSON; the key stands at hit.KEY_START) to partitions and return when all are acknowledged.

        Order within a partition is kept. Raises schemas.errors.RetryError when the log cannot take them now: some may
        have been appended, none may still be under way, and the caller starts again from its cursor. Raises
        schemas.errors.FatalError when trying again cannot help.
        """
        ...

    async def close(self) -> None:
        """Close; nothing may be under way."""
        ...
