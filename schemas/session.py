"""The session rule of CONTRACT ("Rules of meaning"), as pure functions over one visitor's sessions.

A session's span runs from the earliest to the latest `ts` of its events. Whether one has expired is decided here, at
look-up, against event time; nothing ever "ends" by a clock or a batch boundary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

import msgspec

NAME = Struct("<QQQ")
MINUTE_MS = 60_000

# What makes two events of one session repeats of each other: name, id, and whether a server sent it. A browser's event
# and a server's of one id are no repeats but two reports of one thing, and both are kept (CONTRACT).
EventKey = tuple[str, str, bool]


class Aliases(NamedTuple):
    """The ids that one cookieless visitor has under the salts of the day before and of the day after; 0: not known."""

    before: int
    after: int


class SessionRule(msgspec.Struct, frozen=True):
    """The rule's numbers, in ms: gap (an equal one still joins), length (a session stays below), and ids known.

    `events_per_minute_max`: more events than these in a minute of event time are a bot's; 0: any number may be.
    `sites` are those whose sessions go by other numbers.
    """

    gap_ms: int = 30 * 60 * 1000
    length_ms_max: int = 24 * 3600 * 1000
    event_ids_max: int = 1024
    events_per_minute_max: int = 0
    sites: Mapping[str, SessionRule] = {}

    def of(self, site: str) -> SessionRule:
        """Return the rule of a site."""
        return self.sites.get(site, self)

    def every(self) -> list[SessionRule]:
        """Return this rule and those of sites."""
        return [self, *self.sites.values()]


class Session(msgspec.Struct, gc=False):
    """One session of a visitor on a site.

    `opened_at` is the opener's log offset, which orders a partition's sessions by their opening. `campaign` is the
    opener's set of utm values and click id. `event_ids` holds the keys of the last events with an id, oldest first.
    `minute_events` counts the events in the minute of `last_ts`, those that a server sent left out.
    """

    id: int
    start: int
    first_ts: int
    last_ts: int
    opened_at: int
    channel: str
    campaign: tuple[str, ...]
    event_ids: dict[EventKey, None] | None = None
    minute_events: int = 0


def session_id(site: str, visitor_id: int, spool_id: int, spool_seq: int) -> int:
    """Return the 64-bit id of the session that the hit (spool_id, spool_seq) opened; never 0."""
    digest = blake2b(NAME.pack(visitor_id, spool_id, spool_seq), digest_size=8, key=site.encode()[:64]).digest()
    return int.from_bytes(digest, "little") or 1


def find(sessions: Iterable[Session], ts: int, rule: SessionRule) -> Session | None:
    """Return the session that an event at `ts` belongs to by time alone, or None.

    Of those whose span stretched by the gap on each side holds `ts` and would stay below the longest length with it:
    the one with the latest start not after `ts` (equal starts: the one opened last), else the one with the earliest.
    """
    before: Session | None = None
    behind: Session | None = None
    for session in sessions:
        first, last = session.first_ts, session.last_ts
        if not first - rule.gap_ms <= ts <= last + rule.gap_ms:
            continue
        if max(last, ts) - min(first, ts) >= rule.length_ms_max:
            continue
        if first <= ts:
            if before is None or (first, session.opened_at) > (before.first_ts, before.opened_at):
                before = session
        elif behind is None or (first, session.opened_at) < (behind.first_ts, behind.opened_at):
            behind = session
    return before or behind


def belongs(session: Session, campaign: tuple[str, ...]) -> bool:
    """Return whether an event with this campaign set may join: it carries none, or the session's own."""
    return not any(campaign) or campaign == session.campaign


def holds(session: Session, key: EventKey) -> bool:
    """Return whether the session already holds an event of this key; one without an id is never held."""
    return session.event_ids is not None and key in session.event_ids


def add(session: Session, ts: int, key: EventKey, rule: SessionRule) -> None:
    """Stretch the session over `ts`, count its minute, and remember the event's key if it has an id."""
    minutes_on = ts // MINUTE_MS - session.last_ts // MINUTE_MS
    if minutes_on > 0:
        session.minute_events = 0
    if minutes_on >= 0 and not key[2]:
        session.minute_events += 1
    if ts > session.last_ts:
        session.last_ts = ts
    elif ts < session.first_ts:
        session.first_ts = ts
    if key[1]:
        if session.event_ids is None:
            session.event_ids = {}
        session.event_ids[key] = None
        if len(session.event_ids) > rule.event_ids_max:
            del session.event_ids[next(iter(session.event_ids))]


def is_too_fast(session: Session, ts: int, rule: SessionRule) -> bool:
    """Return whether the event that was just added is beyond `events_per_minute_max` in its minute.

    Calendar minutes of event time count, and of a session the latest one alone: so it is a function of the session's
    rows before, in log order, and one number more is all that must be known of them. What comes late for an earlier
    minute is never too fast. What a server sent does not count: a shop may send a day's orders at once.
    """
    limit = rule.events_per_minute_max
    return 0 < limit < session.minute_events and ts // MINUTE_MS == session.last_ts // MINUTE_MS
