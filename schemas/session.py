"""A session as the worker remembers it, and the numbers of the rule by which events join it (`session_membership`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

NO_CAMPAIGN: tuple[str, ...] = ("",) * 7  # of no fixed length: compiled, those are values without identity
EventKeys = tuple[str, ...] | dict[str, None]


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


class Session(msgspec.Struct, gc=False, array_like=True):
    """One session of a visitor on a site. As JSON it is a list of its values in this order.

    `opened_at` is the opener's log offset, which orders a partition's sessions by their opening. `campaign` is the
    opener's set of utm values and click id. `event_keys` holds those of the last events with an id, oldest first.
    `minute_events` counts the events in the minute of `last_ts`, those that a server sent left out.
    """

    id: int
    start: int
    first_ts: int
    last_ts: int
    opened_at: int
    channel: str
    campaign: tuple[str, ...]
    event_keys: EventKeys = ()
    minute_events: int = 0
