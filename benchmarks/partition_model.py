"""A small model of the log's partitions and their workers, for what arithmetic does not give. Pure, seeded.

Hits flow like water: each partition fills with its share of the rate, and each worker takes from those of its
partitions that have any, in turn, so that a short queue is emptied and the rest goes to the long ones (as a worker's
steps do, a batch of one partition each). Partition p is worker p mod n's, as Kafka's round-robin assignor gives them.

- *Hot keys*: visitors differ in weight by a power law; a visitor's hits all go to one partition (crc32 of its key).
- *Drain*: nothing is loaded for a while, at the rate; then until no partition is behind.
- *Rebalance*: a worker dies. Its partitions wait until its session has run out; then all stop (aiokafka's rebalance is
  eager), join, and rebuild their state; then they catch up, without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from schemas.hit import partition_of

STEP_S, STEP_SHARE = 0.1, 0.002  # a step is this long, later this share of the time that has passed
CAUGHT_UP_S = 0.5  # a backlog of less than this is what a pipeline at work has
GIVE_UP_S = 24 * 3600.0


class Fleet(NamedTuple):
    """Workers, each loading at most `per_s` hits a second, and what share of the rate every partition gets."""

    workers: int
    per_s: float
    shares: Sequence[float]

    def loads(self) -> list[float]:
        """Return each worker's share of the rate."""
        return [sum(self.shares[number :: self.workers]) for number in range(self.workers)]

    def rate_max(self) -> float:
        """Return the rate at which the busiest worker has no time left."""
        return self.per_s / max(self.loads())


class Recovery(NamedTuple):
    """What an outage costs: the longest that a hit waited, and how long after the outage's begin all was caught up."""

    wait_s_max: float
    caught_up_s: float


def shares(partitions: int, visitors: int, skew: float, seed: int) -> list[float]:
    """Return each partition's share of the hits; visitor k weighs (k + 1) ** -skew. 0: all visitors weigh the same."""
    rng = Random(seed)
    found = [0.0] * partitions
    for number in range(visitors):
        found[partition_of(b"%016x" % rng.getrandbits(64), partitions)] += (number + 1) ** -skew
    total = sum(found)
    return [share / total for share in found]


def even(partitions: int) -> list[float]:
    """Return equal shares."""
    return [1 / partitions] * partitions


def taken(queues: Sequence[float], amount: float) -> list[float]:
    """Return what a worker that can take `amount` takes of each of its queues, in turn until it is used up."""
    result = [0.0] * len(queues)
    left, waiting = amount, sorted(range(len(queues)), key=lambda place: queues[place])
    for turn, place in enumerate(waiting):
        result[place] = min(queues[place], left / (len(waiting) - turn))
        left -= result[place]
    return result


def drain(fleet: Fleet, rate: float, outage_s: float) -> Recovery:
    """Return how the fleet comes back when nothing was loaded for `outage_s`. Raises ValueError when it never does."""
    queues = [rate * share * outage_s for share in fleet.shares]
    return _catch_up(fleet, rate, queues, outage_s)


def rebalance(fleet: Fleet, rate: float, session_s: float, join_s: float, rebuild_s: float) -> Recovery:
    """Return what the death of worker 0 costs. Raises ValueError when those left never catch up, or none is left."""
    if fleet.workers < 2:
        raise ValueError("no worker is left")
    pause_s = join_s + rebuild_s
    queues = []
    for partition, share in enumerate(fleet.shares):
        orphaned = partition % fleet.workers == 0
        queues.append(rate * share * (pause_s + (session_s if orphaned else 0.0)))
    return _catch_up(fleet._replace(workers=fleet.workers - 1), rate, queues, session_s + pause_s)


def _catch_up(fleet: Fleet, rate: float, queues: list[float], began_s: float) -> Recovery:
    """Let the fleet work until no partition is behind; `began_s` is when it begins, after the outage's begin."""
    if rate >= fleet.rate_max():
        raise ValueError(
            f"the busiest of {fleet.workers} workers holds {fleet.rate_max():,.0f} hits/s, not {rate:,.0f}"
        )
    flows = [rate * share for share in fleet.shares]
    now_s, wait_s_max = began_s, 0.0
    while True:
        # The oldest hit of a queue came before all others in it: it waits as long as they took to arrive.
        waits = [queue / flow if flow else 0.0 for queue, flow in zip(queues, flows, strict=True)]
        wait_s_max = max(wait_s_max, *waits)
        if max(waits) <= CAUGHT_UP_S:
            return Recovery(wait_s_max, now_s)
        if now_s > GIVE_UP_S:
            raise ValueError("not caught up after a day")
        step_s = max(STEP_S, now_s * STEP_SHARE)
        for number in range(fleet.workers):
            own = range(number, len(queues), fleet.workers)
            filled = [queues[place] + flows[place] * step_s for place in own]
            for place, queue, gone in zip(own, filled, taken(filled, fleet.per_s * step_s), strict=True):
                queues[place] = queue - gone
        now_s += step_s
