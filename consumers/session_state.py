"""A partition's sessions in memory: a cache of what `events` says, never the truth (DESIGN, invariant 6).

- Complete from `horizon` on: every session whose span ends at or after it is here. What ended before may be missing.
- So an event at `ts` needs a look into `events` only when `ts - gap` lies before the horizon; a visitor whose id was
  minted with the hit has no earlier session.
- Eviction moves the horizon between batches and changes no result: what it takes away is looked up again when needed.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.session import Session, SessionRule

VisitorKey = tuple[str, int]
EVICTION_STEP_MS = 3_600_000
Known = Session | tuple[Session, ...]  # most visitors have one session: bare it takes the least memory
NOBODY: dict[int, Known] = {}


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
        found = self._sites.get(site, NOBODY).get(visitor, ())
        return found if isinstance(found, tuple) else (found,)

    def needs_lookup(self, site: str, ts: int) -> bool:
        """Return whether a session that could hold a site's event at `ts` may be missing here."""
        return ts - self.rule.of(site).gap_ms < self.horizon_ms

    def open(self, key: VisitorKey, session: Session) -> None:
        """Add a session that an event opened."""
        site, visitor = key
        visitors = self._sites.setdefault(site, {})
        visitors[visitor] = (*self.of(key), session) if visitor in visitors else session

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
            lasting = {visitor: kept for visitor in visitors if (kept := self._lasting(site, visitor))}
            if lasting:
                self._sites[site] = lasting
            else:
                del self._sites[site]

    def _lasting(self, site: str, visitor: int) -> Known:
        kept = tuple(session for session in self.of((site, visitor)) if session.last_ts >= self.horizon_ms)
        return kept[0] if len(kept) == 1 else kept
