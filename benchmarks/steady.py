"""Steady load for the kill test: hits that each carry their number as event id, and a client time.

Promise: deterministic for (seed, now_ms). Every hit has its own id, so a row names the hit that made it; nothing is
sent twice. Client times of a visitor move forward by gaps from a second to 45 min, with some of exactly 30 min, some
hits late by up to 2 h and some with a campaign, so that sessions end, stretch and overlap. All times lie in
[now - 6 days, now + 1 min]: inside what the worker takes as event time, as long as the run lasts hours, not days.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from benchmarks.traffic import Header, Parameter, Request, beacon, pixel, visitor_cookie

DAY_MS = 86_400_000
HALF_HOUR_MS = 1_800_000
EVENT_NAMES = ("PageView", "PageView", "PageView", "ViewContent", "AddToCart", "Engagement", "Purchase")
CAMPAIGNS = (
    "utm_source=google&utm_medium=cpc&utm_campaign=steady",
    "utm_source=newsletter&utm_medium=email&utm_campaign=november",
    "gclid=Cj0KCQiA-steady",
    "fbclid=IwAR0-steady",
)
HEADERS: tuple[Header, ...] = (
    (
        b"User-Agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    ),
    (b"Accept-Language", b"en-GB,en;q=0.9"),
)


class _Visitor(NamedTuple):
    id: int
    birth_s: int
    clock_ms: int  # client time of its newest hit

    @classmethod
    def new(cls, rng: Random, now_ms: int) -> _Visitor:
        clock_ms = now_ms - 6 * DAY_MS + rng.randrange(DAY_MS)
        return cls(rng.randrange(1, 1 << 64), clock_ms // 1000 - 60, clock_ms)


class Profile(NamedTuple):
    """What steady load looks like: visitors active at a time, and shares in [0, 1] of hits and of requests."""

    visitors: int = 2_000
    late_share: float = 0.05
    beacon_share: float = 0.2
    site: str = "steady"


DEFAULT_PROFILE = Profile()


def steady_hits(seed: int, now_ms: int, profile: Profile = DEFAULT_PROFILE, first: int = 0) -> Iterator[Request]:
    """Yield hits without end, numbered from `first`; each hit's `id` is its number in decimal.

    A visitor whose clock has reached `now_ms` is replaced by a new one. A `beacon_share` of the requests are POSTs
    of 1 to 4 hits. Client times are `t` alone, without `sent`: rows have exactly them.
    """
    rng = Random(seed)
    active = [_Visitor.new(rng, now_ms) for _ in range(profile.visitors)]
    number = first
    while True:
        place = rng.randrange(profile.visitors)
        visitor = active[place]
        as_beacon = rng.random() < profile.beacon_share
        hits = []
        for k in range(rng.randint(1, 4) if as_beacon else 1):
            visitor = visitor._replace(clock_ms=visitor.clock_ms + _gap_ms(rng))
            hits.append(_hit(rng, visitor, number + k, profile))
        if visitor.clock_ms > now_ms:
            active[place] = _Visitor.new(rng, now_ms)
            continue
        active[place] = visitor
        headers = (*HEADERS, visitor_cookie(visitor.id, visitor.birth_s))
        request = (
            beacon(hits, headers, visitor=visitor.id) if as_beacon else pixel(hits[0], headers, visitor=visitor.id)
        )
        yield request._replace(number=number, note="steady")
        number += request.events


def _gap_ms(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.02:
        return HALF_HOUR_MS + rng.choice((-1, 0, 1))  # the rule's edge: a gap of more than 30 min ends a session
    if kind < 0.10:
        return rng.randrange(HALF_HOUR_MS, HALF_HOUR_MS * 3 // 2)
    return rng.randrange(1_000, 300_000)


def _hit(rng: Random, visitor: _Visitor, number: int, profile: Profile) -> dict[str, Parameter]:
    time_ms = visitor.clock_ms
    if rng.random() < profile.late_share:
        time_ms -= rng.randrange(1, 4 * HALF_HOUR_MS)
    url = f"https://steady.example.com/{rng.randrange(50)}"
    if rng.random() < 0.03:
        url += "?" + rng.choice(CAMPAIGNS)
    return {"s": profile.site, "e": rng.choice(EVENT_NAMES), "u": url, "id": str(number), "t": time_ms}
