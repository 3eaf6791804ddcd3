"""A spool's id: 16 lower-case hex digits in a hit, a 64-bit number wherever it is counted. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

SPOOL_ID: Final = re.compile(r"[0-9a-f]{16}")
SPOOLS_CACHED_MAX = 4_096


def spool_number(text: str) -> int:
    """Return the number that a spool's id stands for; -1 for what is no such id."""
    return spool_cached(text) if len(text) == 16 else -1


@lru_cache(SPOOLS_CACHED_MAX)
def spool_cached(text: str) -> int:
    """Return the number of a spool's id (the cache behind `spool_number`)."""
    return int(text, 16) if SPOOL_ID.fullmatch(text) else -1
