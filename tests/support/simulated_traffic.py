"""What the collectors of a simulation are sent: a small script that has every kind of hit, and scripts drawn at random.

All of it stands around a month's edge, so that batches are cut into several blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from support.simulated_hits import BASE_MS, DAY_MS, HOUR_MS, MINUTE_MS, MONTH_MS, cookieless, hit

from schemas.hit import partition_of

Make = Callable[[str, int], bytes]
EDGE_MS = (BASE_MS // MONTH_MS + 1) * MONTH_MS
PADDING = "x" * 150  # a segment of a simulated spool then holds two or three hits
GAP_MS = 30 * MINUTE_MS
NEIGHBOUR = next(  # in visitor 7's partition
    visitor for visitor in range(11, 99) if partition_of(b"%016x" % visitor, 2) == partition_of(b"%016x" % 7, 2)
)


def one(visitor: int = 7, at: int = 0, **params: str) -> Make:
    """Return the maker of a hit that is received `at` ms from the month's edge."""
    return partial(_make, visitor, EDGE_MS + at, params)


def cookieless_one(visitor: int = 7, at: int = 0, **params: str) -> Make:
    """Return the maker of a cookieless visitor's hit, received `at` ms from the month's edge, which is a midnight."""
    return partial(_make_cookieless, visitor, EDGE_MS + at, params)


def _make_cookieless(visitor: int, at: int, params: dict[str, str], spool: str, seq: int) -> bytes:
    ids = cookieless(visitor, at)
    return hit(seq, spool=int(spool, 16), at=at, params=params, user_agent=PADDING, **ids)


def _make(visitor: int, at: int, params: dict[str, str], spool: str, seq: int) -> bytes:
    return hit(seq, spool=int(spool, 16), visitor=visitor, at=at, params=params, user_agent=PADDING)


def small() -> list[list[list[Make]]]:
    """Two collectors, eight hits on both sides of the month's edge: a rejected one, client duplicates, a late one."""
    return [
        [
            [one(at=-5000, id="a"), one(at=-4000, id="b", v="wrong")],
            [one(at=10, id="a"), one(8, at=20, id="c")],
            [one(at=2000, id="b")],
        ],
        [[one(at=50, t=str(EDGE_MS - 9000), id="d")], [one(8, at=60, id="c"), one(8, at=61, s="no site")]],
    ]


class Rejected:
    """The maker of a hit that is rejected; `replay` makes its replays, which pass, as after a change of settings.

    Without a visitor, so that no session knows a replay again; its log key is kept, as a replay's is.
    """

    def __init__(self, at: int = 0, visitor: int = 0) -> None:
        self._at = EDGE_MS + at
        self._visitor = visitor
        self._name = ""

    def __call__(self, spool: str, seq: int) -> bytes:
        self._name = self._name or f"{spool}:{seq}"
        return self._hit(spool, seq, v="wrong")

    def replay(self, spool: str, seq: int) -> bytes:
        return self._hit(spool, seq, replay_of=self._name or f"{(1 << 60) + self._at:016x}:{self._visitor}")

    def _hit(self, spool: str, seq: int, v: str = "1", **fields: str) -> bytes:
        key = f"{self._visitor or NEIGHBOUR:016x}"
        params = {"v": v}
        return hit(
            seq,
            spool=int(spool, 16),
            visitor=self._visitor,
            at=self._at,
            params=params,
            user_agent=PADDING,
            **{"key": key, **fields},
        )


def replays() -> list[list[list[Make]]]:
    """Two rejected hits, each replayed by several spools, in one batch and far apart, and hits between."""
    first, second = Rejected(at=-3000), Rejected(at=20, visitor=7)
    return [
        [
            [first, one(at=-2000, id="a"), second],
            [first.replay, one(at=30)],
            [first.replay, second.replay],
            [first.replay, one(at=40), second.replay],
        ],
        [[one(at=-1000)], [one(NEIGHBOUR, at=10)], [first.replay, first.replay, second.replay]],
    ]


def over_midnight() -> list[list[list[Make]]]:
    """A cookieless visit across midnight through two collectors, in any order; a repeat, a new campaign, one more."""
    one = cookieless_one
    campaign = {"u": "https://shop.example/?utm_source=a"}
    return [
        [
            [one(at=-5000, id="a")],
            [one(at=10, id="b"), one(at=20, id="a"), one(at=30, **campaign)],
            [one(at=3 * HOUR_MS, id="a")],
        ],
        [[one(at=-4000, id="c"), one(NEIGHBOUR, at=40)], [one(at=50, t=str(EDGE_MS - 10), id="d"), one(at=60, id="c")]],
    ]


def aged() -> list[list[list[Make]]]:
    """A session whose first row is older than a rebuilt cache reaches back, when its second is not; then a repeat."""
    end = DAY_MS + 45 * MINUTE_MS
    return [
        [
            [one(at=0, id="a"), one(at=GAP_MS, id="b")],
            [one(NEIGHBOUR, at=end)],
            [one(at=end + 1, t=str(EDGE_MS + 20 * MINUTE_MS), id="a")],
        ]
    ]


def drawn(random: Random, collectors: int, hits: int, *, replayed: bool = False) -> list[list[list[Make]]]:
    """Scripts of `hits` hits in all: few visitors, gaps at the session rule's edges, late hits, repeats, wrong ones.

    With `replayed` many are rejected hits and replays of these.
    """
    rejected: list[Rejected] = []
    scripts: list[list[list[Make]]] = [[] for _ in range(collectors)]
    now = -2 * DAY_MS
    while hits > 0:
        group = []
        for _ in range(min(random.randint(1, 3), hits)):
            now += random.choice((0, 1, MINUTE_MS, GAP_MS, GAP_MS + 1, 7 * HOUR_MS))
            params = {"id": str(random.randrange(12)), "u": f"https://shop.example/?{_campaign(random)}"}
            if random.random() < 0.3:
                late = random.choice((1, GAP_MS, GAP_MS + 1, DAY_MS, random.randrange(3 * DAY_MS)))
                params["t"] = str(EDGE_MS + now - late)
            if random.random() < 0.15:
                params["v"] = "wrong"
            visitor = random.choice((7, 7, 8, 9, 10))
            group.append((cookieless_one if visitor == 9 else one)(visitor, now, **params))
            if replayed and random.random() < 0.4:
                group[-1] = _replayed(random, rejected, now)
        hits -= len(group)
        random.choice(scripts).append(group)
    return scripts


def _replayed(random: Random, rejected: list[Rejected], now: int) -> Make:
    if rejected and random.random() < 0.7:
        return random.choice(rejected).replay
    rejected.append(Rejected(now, random.choice((0, 0, 7, 8))))
    return rejected[-1]


def _campaign(random: Random) -> str:
    return random.choice(("", "", "", "", "utm_source=a", "utm_source=b", "gclid=1"))
