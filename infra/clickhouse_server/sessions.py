"""HTTP sessions: a connection that keeps its temporary tables, current database and SET settings between requests.

Bounded: past `SESSIONS_MAX` the session that has been idle longest is closed. Used from the event loop alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.clickhouse_server import errors
from infra.clickhouse_server.engine import Connection

SESSIONS_MAX = 512


@dataclass
class Session:
    """One session. `connection` is made by the first request's thread; `idle_since` is in monotonic seconds."""

    ident: str
    timeout_s: int
    connection: Connection | None = None
    busy: bool = False
    idle_since: float = 0.0


class Sessions:
    """All open sessions, by id."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def take(self, ident: str, timeout_s: int, now: float, *, check: bool) -> Session:
        """Return the session, made anew unless `check`, and lock it. Raises ServerError 372, 373 or 202."""
        self.sweep(now)
        session = self._open.get(ident)
        if session is None:
            if check:
                raise errors.ServerError(372, "SESSION_NOT_FOUND", f"Session {ident} not found", status=404)
            if len(self._open) >= SESSIONS_MAX:
                self._evict()
            session = self._open[ident] = Session(ident, timeout_s)
        if session.busy:
            raise errors.ServerError(373, "SESSION_IS_LOCKED", f"Session {ident} is locked by a concurrent client")
        session.busy = True
        session.timeout_s = timeout_s
        return session

    def give_back(self, session: Session, now: float) -> None:
        """Unlock the session; its time-out starts."""
        session.busy = False
        session.idle_since = now

    def sweep(self, now: float) -> None:
        """Close the sessions whose time-out has passed."""
        for session in [
            each for each in self._open.values() if not each.busy and now - each.idle_since > each.timeout_s
        ]:
            self._close(session)

    def close(self) -> None:
        """Close every session that is not running a statement."""
        for session in [each for each in self._open.values() if not each.busy]:
            self._close(session)

    def _evict(self) -> None:
        idle = [session for session in self._open.values() if not session.busy]
        if not idle:
            raise errors.ServerError(202, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many sessions are running statements")
        self._close(min(idle, key=lambda session: session.idle_since))

    def _close(self, session: Session) -> None:
        del self._open[session.ident]
        if session.connection is not None:
            session.connection.close()
