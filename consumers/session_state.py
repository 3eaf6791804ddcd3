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


class SessionState:
    """The sessions of one partition by (site, visitor id), complete for spans that end at `horizon_ms` or later.

    `newest_ms` is the latest `received_at` of the events that it starts from: none, 0.
    """

    def __init__(self, rule: SessionRule, keep_ms: int, newest_ms: int = 0) -> None:
        self.rule = rule
        self._keep_ms = max(keep_ms, *(one.gap_ms + one.length_ms_max for one in rule.every()))
        self.horizon_ms = max(newest_ms - self._keep_ms, 0)
        self._sessions: dict[VisitorKey, list[Session]] = {}
        self._watermark_ms = newest_ms

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, key: VisitorKey) -> list[Session]:
        """Return the visitor's known sessions; the list may be read until the next change."""
        return self._sessions.get(key, [])

    def needs_lookup(self, site: str, ts: int) -> bool:
        """Return whether a session that could hold a site's event at `ts` may be missing here."""
        return ts - self.rule.of(site).gap_ms < self.horizon_ms

    def open(self, key: VisitorKey, session: Session) -> None:
        """Add a session that an event opened."""
        self._sessions.setdefault(key, []).append(session)

    def merge(self, found: Iterable[tuple[VisitorKey, Session]]) -> None:
        """Add sessions read from `events`; what is here already is as new or newer, and stays."""
        for key, session in found:
            known = self._sessions.setdefault(key, [])
            if all(other.id != session.id for other in known):
                known.append(session)

    def evict(self, received_at: int) -> None:
        """Forget sessions that ended long before the newest hit; called between batches."""
        self._watermark_ms = max(self._watermark_ms, received_at)
        horizon = self._watermark_ms - self._keep_ms
        if horizon < self.horizon_ms + EVICTION_STEP_MS:
            return
        self.horizon_ms = horizon
        for key, sessions in list(self._sessions.items()):
            kept = [session for session in sessions if session.last_ts >= horizon]
            if kept:
                self._sessions[key] = kept
            else:
                del self._sessions[key]
