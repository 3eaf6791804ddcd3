"""The screen's size as the `sr` parameter gives it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

UINT16_MAX = 65_535
NO_SCREEN: Final = (0, 0)
SIZES_CACHED_MAX = 2_048
SIZE_CHARS_MAX: Final = 11

_SIZE = re.compile(r"([0-9]{1,5})[xX]([0-9]{1,5})")


def screen(size: str) -> tuple[int, int] | None:
    """Return (width, height) in CSS pixels for 'WxH', each 0 to 65,535; (0, 0) when absent, None when malformed."""
    if not size:
        return NO_SCREEN
    return screen_cached(size) if len(size) <= SIZE_CHARS_MAX else None


@lru_cache(SIZES_CACHED_MAX)
def screen_cached(size: str) -> tuple[int, int] | None:
    """Return what a size says (the cache behind `screen`)."""
    match = _SIZE.fullmatch(size)
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    return (width, height) if width <= UINT16_MAX and height <= UINT16_MAX else None
