"""Whether a function's CPU time grows in proportion to its input: a test for patterns that can be made to crawl."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

SHORT = 8 * 1024
TIMES_LONGER = 16
NEGLIGIBLE_S = 0.002
GROWTH_MAX = 64.0  # linear is 16, quadratic 256; between them there is room for a busy machine


def grows_linearly(function: Callable[[str], object], unit: str) -> bool:
    """Tell whether `function` takes at most `GROWTH_MAX` times longer for 128 KiB of `unit` than for 8 KiB."""
    short = (unit * SHORT)[:SHORT]
    long = short * TIMES_LONGER
    spent = _least_s(function, long)
    return spent < NEGLIGIBLE_S or spent < GROWTH_MAX * _least_s(function, short)


def _least_s(function: Callable[[str], object], text: str) -> float:
    spent = []
    for _ in range(5):
        start = thread_time()
        function(text)
        spent.append(thread_time() - start)
    return min(spent)
