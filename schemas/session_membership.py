"""The session rule of CONTRACT ("Rules of meaning"), as pure functions over one visitor's sessions.

A session's span runs from the earliest to the latest `ts` of its events. Whether one has expired is decided here, at
look-up, against event time; nothing ever "ends" by a clock or a batch boundary.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Final

from schemas.session import EventKeys, Session, SessionRule

NAME: Final = Struct("<QQQ")
MINUTE_MS: Final = 60_000

BY_SERVER: Final = "\0server"  # ends the key of an event that a server sent
IDS_IN_TUPLE_MAX: Final = 16  # a tuple is a third of a dict's size, and as fast as long as it is short


def event_key(name: str, event_id: str, *, is_server: bool) -> str:
    """Return what makes two events of one session repeats of each other, "" for one without an id: it has none.

    A browser's event and a server's of one id are no repeats but two reports of one thing: both are kept (CONTRACT).
    """
    if not event_id:
        return ""
    return f"{name}\0{event_id}{BY_SERVER}" if is_server else f"{name}\0{event_id}"


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


def holds(session: Session, key: str) -> bool:
    """Return whether the session already holds an event of this key; one without an id is never held."""
    return bool(key) and key in session.event_keys


def add(session: Session, ts: int, key: str, rule: SessionRule, *, is_server: bool) -> None:
    """Stretch the session over `ts`, count its minute, and remember the event's key if it has an id."""
    minutes_on = ts // MINUTE_MS - session.last_ts // MINUTE_MS
    if minutes_on > 0:
        session.minute_events = 0
    if minutes_on >= 0 and not is_server:
        session.minute_events += 1
    if ts > session.last_ts:
        session.last_ts = ts
    elif ts < session.first_ts:
        session.first_ts = ts
    if key:
        session.event_keys = _with_key(session.event_keys, key, rule.event_ids_max)


def _with_key(keys: EventKeys, key: str, keys_max: int) -> EventKeys:
    """Return the last `keys_max` keys, oldest first, with one more: a tuple of a few, the same dict of many."""
    if len(keys) < min(IDS_IN_TUPLE_MAX, keys_max):
        return (*keys, key)
    many = keys if isinstance(keys, dict) else dict.fromkeys(keys)
    many[key] = None
    if len(many) > keys_max:
        del many[next(iter(many))]
    return many


def keys_of(keys: EventKeys) -> EventKeys:
    """Return keys as a session has them."""
    return keys if len(keys) <= IDS_IN_TUPLE_MAX else dict.fromkeys(keys)


def is_too_fast(session: Session, ts: int, rule: SessionRule) -> bool:
    """Return whether the event that was just added is beyond `events_per_minute_max` in its minute.

    Calendar minutes of event time count, and of a session the latest one alone: so it is a function of the session's
    rows before, in log order, and one number more is all that must be known of them. What comes late for an earlier
    minute is never too fast. What a server sent does not count: a shop may send a day's orders at once.
    """
    limit = rule.events_per_minute_max
    return 0 < limit < session.minute_events and ts // MINUTE_MS == session.last_ts // MINUTE_MS
