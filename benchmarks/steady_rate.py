"""The highest rate that a pipeline holds: what "its lag does not grow" means, and the search for the rate. Pure.

A trial drives the pipeline at a rate and looks at its lag (hits taken that have no row yet) again and again. The lag
of a pipeline that loads in batches swings by about a batch; so what counts is the slope of a line through all looks. A
rate is held when the edge answers it, that slope is near none, the mean lag is at most `LAG_S_MAX` seconds of hits, and
99 of 100 hits are queryable within `QUERYABLE_S_MAX`: nobody holds a rate by letting all wait.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

ANSWERED_LEAST = 0.98  # of the rate: below, the edge itself does not hold it
GROWTH_SHORT, GROWTH_LONG = 0.08, 0.01  # of the rate: the slope of a short look swings by as much
LAG_S_MAX = 2.0
QUERYABLE_S_MAX = 3.0  # hit -> queryable, p99
STEP = 0.92


class Look(NamedTuple):
    """The lag in hits at a moment, in seconds."""

    at_s: float
    lag: int


class Verdict(NamedTuple):
    """Whether a rate is held. Over the rate: the lag's growth a second (< 0: it fell), its mean in s, the answers."""

    held: bool
    growth: float
    lag_s: float
    answered: float


def slope(looks: Sequence[Look]) -> float:
    """Return by how many hits a second the lag grows: least squares. There are at least two looks."""
    return statistics.linear_regression([look.at_s for look in looks], [look.lag for look in looks]).slope


class Bounds(NamedTuple):
    """What a held rate keeps to: the lag's growth a second over the rate, its mean in s, hit -> queryable p99 in s."""

    growth_max: float
    lag_s_max: float = LAG_S_MAX
    queryable_s_max: float = QUERYABLE_S_MAX


def judge(rate: float, answered_per_s: float, looks: Sequence[Look], queryable_s: float, bounds: Bounds) -> Verdict:
    """Return what a trial at `rate` hits a second shows, whose p99 of hit -> queryable is `queryable_s`."""
    growth, answered = slope(looks) / rate, answered_per_s / rate
    lag_s = statistics.fmean(look.lag for look in looks) / rate
    waits = lag_s <= bounds.lag_s_max and queryable_s <= bounds.queryable_s_max
    held = answered >= ANSWERED_LEAST and growth <= bounds.growth_max and waits
    return Verdict(held, growth, lag_s, answered)


def bracket(holds: Callable[[float], bool], first: float, factor: float, trials: int) -> tuple[float, float]:
    """Return a rate that holds and a higher one that does not, from `first` on in steps of `factor`.

    After so many trials it gives up, and takes the next rate to hold, or not, without a trial.
    """
    rate = first
    going_up = holds(rate)
    for _ in range(trials - 1):
        rate = rate * factor if going_up else rate / factor
        if holds(rate) != going_up:
            return (rate / factor, rate) if going_up else (rate, rate * factor)
    return (rate, rate * factor) if going_up else (rate / factor, rate)


def search(holds: Callable[[float], bool], low: float, high: float, trials: int) -> float:
    """Return the highest rate found that holds, in `trials` trials between two rates.

    `low` is taken to hold without a trial. The middle is the geometric one: what is left open is a share of the rate.
    """
    for _ in range(trials):
        middle = (low * high) ** 0.5
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def confirm(holds: Callable[[float], bool], rate: float, trials: int) -> float:
    """Return the highest rate that holds, going in steps from `rate`: up while it does, down until it does; 0: none.

    For long trials: short ones stand behind others' backlog and merges, so what they found may be too low as well.
    """
    going_up, found = holds(rate), 0.0
    if going_up:
        found = rate
    for _ in range(trials - 1):
        rate = rate / STEP if going_up else rate * STEP
        if holds(rate):
            found = rate
        if (found == rate) != going_up:
            break
    return found
