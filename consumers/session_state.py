"""A partition's sessions in memory: a cache of what `events` says, never the truth (DESIGN, invariant 6).

- Complete from `horizon` on: every session whose span ends at or after it is here. What ended before may be missing.
- So an event at `ts` needs a look into `events` only when `ts - gap` lies before the horizon; a visitor whose id was
  minted with the hit has no earlier session.
- Eviction moves the horizon between batches and changes no result: what it takes away is looked up again when needed.
- What a rebuild reads stays packed, as ClickHouse wrote it, until its visitor is back. Most never are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from schemas.session import NO_CAMPAIGN, Session, SessionRule
from schemas.session_membership import keys_of

VisitorKey = tuple[str, int]
EVICTION_STEP_MS: Final = 3_600_000
Kept = Session | bytes  # bytes: packed
Known = Kept | tuple[Kept, ...]  # most visitors have one session: bare it takes the least memory
CAMPAIGNS_CACHED_MAX: Final = 4_096
NOBODY: Final[dict[int, Known]] = {}

_decoder: Final = msgspec.json.Decoder(Session)


def unpacked(packed: bytes) -> Session:
    """Return a session from its JSON, the list of its values. What many have in common is one object for all."""
    session: Session = _decoder.decode(packed)
    session.channel = sys.intern(session.channel)
    session.campaign = shared(session.campaign) if any(session.campaign) else NO_CAMPAIGN
    session.event_keys = keys_of(session.event_keys)
    if session.first_ts == session.start:
        session.first_ts = session.start
    return session


@lru_cache(CAMPAIGNS_CACHED_MAX)
def shared(campaign: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same object for equal campaigns."""
    return campaign


class SessionState:
    """The sessions of one partition by (site, visitor id), complete for spans that end at `horizon_ms` or later.

    `newest_ms` is the latest `received_at` of the events that it starts from: none, 0.
    """

    def __init__(self, rule: SessionRule, keep_ms: int, newest_ms: int = 0) -> None:
        self.rule = rule
        self._keep_ms = max(keep_ms, *(one.gap_ms + one.length_ms_max for one in rule.every()))
        self.horizon_ms = max(newest_ms - self._keep_ms, 0)
        self._sites: dict[str, dict[int, Known]] = {}
        self._watermark_ms = newest_ms

    def __len__(self) -> int:
        return sum(map(len, self._sites.values()))

    def of(self, key: VisitorKey) -> tuple[Session, ...]:
        """Return the visitor's known sessions."""
        site, visitor = key
        visitors = self._sites.get(site, NOBODY)
        found = visitors.get(visitor)
        if found is None:
            return ()
        if isinstance(found, Session):
            return (found,)
        kept = found if isinstance(found, tuple) else (found,)
        sessions = tuple(unpacked(one) if isinstance(one, bytes) else one for one in kept)
        visitors[visitor] = sessions[0] if len(sessions) == 1 else sessions
        return sessions

    def needs_lookup(self, site: str, ts: int) -> bool:
        """Return whether a session that could hold a site's event at `ts` may be missing here."""
        return ts - self.rule.of(site).gap_ms < self.horizon_ms

    def open(self, key: VisitorKey, session: Session) -> None:
        """Add a session that an event opened."""
        site, visitor = key
        visitors = self._sites.setdefault(site, {})
        visitors[visitor] = (*self.of(key), session) if visitor in visitors else session

    def keep(self, site: str, visitor: int, packed: bytes) -> None:
        """Add a session that a rebuild reads; `packed` is its JSON."""
        visitors = self._sites.setdefault(site, {})
        known = visitors.get(visitor)
        if known is None:
            visitors[visitor] = packed
        else:
            visitors[visitor] = (*known, packed) if isinstance(known, tuple) else (known, packed)

    def merge(self, found: Iterable[tuple[VisitorKey, Session]]) -> None:
        """Add sessions read from `events`; what is here already is as new or newer, and stays."""
        for key, session in found:
            if all(other.id != session.id for other in self.of(key)):
                self.open(key, session)

    def evict(self, received_at: int) -> None:
        """Forget sessions that ended long before the newest hit; called between batches."""
        self._watermark_ms = max(self._watermark_ms, received_at)
        horizon = self._watermark_ms - self._keep_ms
        if horizon < self.horizon_ms + EVICTION_STEP_MS:
            return
        self.horizon_ms = horizon
        for site, visitors in list(self._sites.items()):
            lasting = {visitor: kept for visitor, known in visitors.items() if (kept := self._lasting(known))}
            if lasting:
                self._sites[site] = lasting
            else:
                del self._sites[site]

    def _lasting(self, known: Known) -> Known | None:
        kept = tuple(one for one in (known if isinstance(known, tuple) else (known,)) if self._lasts(one))
        return kept if len(kept) > 1 else kept[0] if kept else None

    def _lasts(self, one: Kept) -> bool:
        session: Session = _decoder.decode(one) if isinstance(one, bytes) else one
        return session.last_ts >= self.horizon_ms
