"""When what a partition has gathered is a batch: by its size, its age, and what ClickHouse can take. Pure.

- Each batch makes a part in every table it fills, and merging many small parts costs ClickHouse more than all else. So
  a batch gathers longer, up to `age_s_max`, the more parts wait to be merged and the longer inserts take.
- From `parts_max` parts in one table partition on there is no batch before merges catch up. ClickHouse slows inserts
  down at 1,000 parts and refuses them at 3,000 (TOO_MANY_PARTS): hundreds of workers may meet the limit in one second.
- This says when a batch ends. What becomes of its records does not depend on it (DESIGN, invariant 6).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

PARTS_SHARE_CROWDED = 0.125  # of `parts_max`: from here on a batch gathers as long as it may
INSERT_SHARE_MAX = 0.05  # of the time in which a batch gathers: so long may a worker's inserts take together


class BatchLimits(msgspec.Struct, frozen=True):
    """A batch's limits; every one is a setting."""

    rows_max: int
    bytes_max: int
    age_s_max: float
    age_s_min: float
    parts_max: int


class Gathered(NamedTuple):
    """What a partition has gathered: records, their bytes, and the seconds since the first of them."""

    records: int
    size: int
    age_s: float


class Pressure(NamedTuple):
    """How ClickHouse is doing: parts of the fullest table partition, seconds that a worker's latest inserts took.

    The inserts are the latest one of each of its log partitions, and their times are added up.
    """

    parts: int = 0
    inserts_s: float = 0.0


def age_due_s(pressure: Pressure, limits: BatchLimits) -> float:
    """Return the seconds after which what is gathered is a batch, full or not."""
    for_merges_s = limits.age_s_max * pressure.parts / (limits.parts_max * PARTS_SHARE_CROWDED)
    for_inserts_s = pressure.inserts_s / INSERT_SHARE_MAX
    return min(max(for_merges_s, for_inserts_s, limits.age_s_min), limits.age_s_max)


def is_due(gathered: Gathered, pressure: Pressure, limits: BatchLimits) -> bool:
    """Return whether what is gathered is a batch now."""
    if not gathered.records or pressure.parts >= limits.parts_max:
        return False
    return is_full(gathered, limits) or gathered.age_s >= age_due_s(pressure, limits)


def is_full(gathered: Gathered, limits: BatchLimits) -> bool:
    """Return whether a batch may have no more than what is gathered."""
    return gathered.records >= limits.rows_max or gathered.size >= limits.bytes_max
