"""Steps 5 and 6: the event joins or opens a session, unless that session holds its id already. Pure.

Decided in log order, event by event; only an event that leaves a row changes a session.

A cookieless visitor has another id every UTC day, and visits go on across midnight. So the sessions of all the ids that
a hit names are one visitor's, and an event takes the id of the session it joins; the rows alone say which that is. A
session is opened under the id of the day that its opener's `ts` lies in.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

from consumers.session_state import SessionState
from schemas.bot_reason import BotReason
from schemas.event import Event
from schemas.session import NO_CAMPAIGN, Aliases, Session, SessionRule
from schemas.session_membership import add, belongs, event_key, find, holds, is_too_fast, session_id

SERVER: Final = "server"
DAY_MS: Final = 86_400_000


def visitors_of(event: Event, aliases: Aliases | None) -> list[int]:
    """Return the ids under which the event's session may be known: the visitor's, and a cookieless one's aliases."""
    return [visitor for visitor in (event.visitor_id, *(aliases or ())) if visitor]


def sessionize(event: Event, log_offset: int, state: SessionState, aliases: Aliases | None = None) -> bool:
    """Write the session into the event and return True, or return False for a client duplicate.

    The session's opener gives every event of it `session_start`, channel and campaign. An event that comes too fast is
    labelled a bot's, unless a server with the site's key sent it. An event without a visitor has no session and is
    never a duplicate.
    """
    if event.visitor_id == 0:
        return True
    rule = state.rule.of(event.site)
    campaign = _campaign(event)
    is_server = event.source == SERVER
    key = event_key(event.event_name, event.event_id, is_server=is_server)
    visitor = event.visitor_id
    if aliases is None:
        session = find(state.of((event.site, visitor)), event.ts, rule)
    else:
        visitor, session = _of_any_day(event, aliases, state, rule)
    if session is not None and belongs(session, campaign):
        if holds(session, key):
            return False
        event.visitor_id = visitor
    else:
        event.visitor_id = _of_its_day(event, aliases)
        session = Session(
            id=session_id(event.site, event.visitor_id, event.spool_id, event.spool_seq),
            start=event.ts,
            first_ts=event.ts,
            last_ts=event.ts,
            opened_at=log_offset,
            channel=event.channel,
            campaign=campaign,
        )
        state.open((event.site, event.visitor_id), session)
    add(session, event.ts, key, rule, is_server=is_server)
    if is_too_fast(session, event.ts, rule) and not event.is_bot and not is_server:
        event.is_bot, event.bot_reason = True, BotReason.RATE.value
    _write(session, event, campaign)
    return True


def _of_any_day(event: Event, aliases: Aliases, state: SessionState, rule: SessionRule) -> tuple[int, Session | None]:
    """Return the session that the event could join, among those of all the visitor's ids, and which id has it."""
    visitors = visitors_of(event, aliases)
    session = find(chain.from_iterable(state.of((event.site, visitor)) for visitor in visitors), event.ts, rule)
    return next((visitor for visitor in visitors if session in state.of((event.site, visitor))), 0), session


def _of_its_day(event: Event, aliases: Aliases | None) -> int:
    """Return the visitor's id of the day that the event happened on; of a day further off, of the nearest known."""
    if aliases is None:
        return event.visitor_id
    days_on = event.ts // DAY_MS - event.received_at // DAY_MS
    return (aliases.before if days_on < 0 else aliases.after if days_on > 0 else 0) or event.visitor_id


def _campaign(event: Event) -> tuple[str, ...]:
    found = (
        event.utm_source,
        event.utm_medium,
        event.utm_campaign,
        event.utm_term,
        event.utm_content,
        event.click_id,
        event.click_id_type,
    )
    return NO_CAMPAIGN if found == NO_CAMPAIGN else found


def _write(session: Session, event: Event, campaign: tuple[str, ...]) -> None:
    event.session_id = session.id
    event.session_start = session.start
    event.channel = session.channel
    if session.campaign is NO_CAMPAIGN and campaign is NO_CAMPAIGN:
        return
    (
        event.utm_source,
        event.utm_medium,
        event.utm_campaign,
        event.utm_term,
        event.utm_content,
        event.click_id,
        event.click_id_type,
    ) = session.campaign
