"""Visitor ids without a cookie: keyed hashes under a salt that lasts a UTC day. Pure.

- An id is BLAKE2b-64 of site, client address and User-Agent, keyed by a day's salt. Without the salt nobody can tell
  which visitor it was, and from one day to the next it is another.
- The salt of day d+1 is BLAKE2b-256 of its date, keyed by the salt of day d: every edge that started from one seed has
  the same ones, and none leads back. Whoever holds a salt therefore has all later ones, and no earlier.
- A hit names the ids of its day, the day before and the day after, for the visit across midnight.
- The log key is the same before and after midnight, so that a visit stays in one partition. It is one of `BUCKETS`
  values, of nothing but what the hit says openly: site, what `ip_keep` left of the address, User-Agent.
- Days never go back: while the clock is behind the salts, theirs is the day.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import NamedTuple

from ingest.hit_builder import NO_VISITOR, OF_DAYS

DAY_S = 86_400
SALT_BYTES = 32
BUCKETS = 1024
EPOCH = date(1970, 1, 1).toordinal()
DAY_MAX = date(2100, 1, 1).toordinal() - EPOCH  # the last day that a hit may name

_PURPOSE = b"hitstream salt"
_KEY_PURPOSE = b"hitstream key"
_FIRST_ID = b"0" * 15 + b"1"  # in the place of 0, which is nobody's
_AGENT_START = b',"user_agent":"'
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*').match  # the inside of a JSON string
_LINE = re.compile(r"(\d{4}-\d\d-\d\d) ([0-9a-f]{64}) ([0-9a-f]{8})\s*")


class Salt(NamedTuple):
    """The salt of a day, counted since 1970."""

    day: int
    secret: bytes

    def next(self) -> Salt:
        """Return the salt of the day after."""
        day = self.day + 1
        return Salt(
            day, blake2b(date_of(day).encode(), digest_size=SALT_BYTES, key=self.secret, person=_PURPOSE).digest()
        )

    def of(self, day: int) -> Salt:
        """Return the salt of the same or a later day. Raises ValueError for an earlier one."""
        if day < self.day:
            raise ValueError(f"the salt of {date_of(self.day)} does not lead back to {date_of(day)}")
        salt = self
        while salt.day < day:
            salt = salt.next()
        return salt


class Names(NamedTuple):
    """What a cookieless visitor is called, each as 16 hex digits: log key, and the ids of three days."""

    key: bytes
    visitor: bytes
    before: bytes
    after: bytes

    def mark(self, known: bytes) -> bytes:
        """Return what stands behind the visitor's id, of what stands behind a known one's (`Ruling.known`)."""
        return OF_DAYS % (self.before, self.after) + known


class DailySalts:
    """The salts of one process: yesterday's, today's and tomorrow's."""

    def __init__(self, yesterday: Salt) -> None:
        self._take(yesterday)

    def reach(self, now_s: int) -> None:
        """Go on to the day of a time in s since 1970; earlier salts are gone then."""
        if now_s >= self._until_s:
            self._take(self.yesterday.of(now_s // DAY_S - 1))

    def replace(self, yesterday: Salt) -> None:
        """Go by another salt from now on, and never by that of an earlier day."""
        self._take(yesterday.of(max(yesterday.day, self.yesterday.day)))

    def names(self, now_s: int, site: bytes, address: bytes, members: bytes, ip_member: bytes) -> Names:
        """Return what a visitor is called now; `members` are the hit's, of which the first may be the User-Agent."""
        self.reach(now_s)
        agent = _agent_in(members)
        who = b"\n".join((site, address, agent))
        shown = b"\n".join((site, ip_member, agent))
        bucket = int.from_bytes(blake2b(shown, digest_size=8, person=_KEY_PURPOSE).digest()) % BUCKETS
        before, visitor, after = (_id(hasher, who) for hasher in self._hashers)
        return Names(b"%016x" % bucket, visitor, before, after)

    def _take(self, yesterday: Salt) -> None:
        today = yesterday.next()
        self.yesterday = yesterday
        self._until_s = (today.day + 1) * DAY_S
        self._hashers = tuple(blake2b(digest_size=8, key=salt.secret) for salt in (yesterday, today, today.next()))


def _agent_in(members: bytes) -> bytes:
    """Return the User-Agent of members as the inside of its JSON string, b"" where there is none."""
    _, begins, rest = members.partition(_AGENT_START)
    agent = rest.partition(b'"')[0]
    if b"\\" in agent:
        found = _TEXT(rest)
        agent = found[0] if found else b""
    return agent if begins else b""


def _id(hasher: blake2b, who: bytes) -> bytes:
    own = hasher.copy()
    own.update(who)
    found = own.hexdigest().encode()
    return _FIRST_ID if found == NO_VISITOR else found


def seed(day: int, random: Callable[[int], bytes]) -> Salt:
    """Return a fresh salt of a day; `random(n)` returns n random bytes."""
    return Salt(day, random(SALT_BYTES))


def day_of(now_s: float) -> int:
    """Return the UTC day of a time in s since 1970."""
    return int(now_s) // DAY_S


def date_of(day: int) -> str:
    """Return a day as YYYY-MM-DD."""
    return date.fromordinal(EPOCH + day).isoformat()


def salt_line(salt: Salt) -> str:
    """Return a salt as one line: date, salt, and a check of both."""
    said = f"{date_of(salt.day)} {salt.secret.hex()}"
    return f"{said} {_check(said)}\n"


def parsed_salt(line: str) -> Salt | None:
    """Return the salt of a line as `salt_line` writes it, None of any other text."""
    match = _LINE.fullmatch(line)
    if match is None or _check(f"{match[1]} {match[2]}") != match[3]:
        return None
    try:
        day = datetime.strptime(match[1], "%Y-%m-%d").replace(tzinfo=UTC).date().toordinal() - EPOCH
    except ValueError:
        return None
    return Salt(day, bytes.fromhex(match[2])) if 0 <= day <= DAY_MAX else None


def _check(said: str) -> str:
    return blake2b(said.encode(), digest_size=4).hexdigest()
