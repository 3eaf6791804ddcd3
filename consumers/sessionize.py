"""Steps 5 and 6: the event joins or opens a session, unless that session holds its id already. Pure.

Decided in log order, event by event; only an event that leaves a row changes a session.
"""

from __future__ import annotations

from consumers.session_state import SessionState
from schemas.bot_reason import BotReason
from schemas.event import Event
from schemas.session import Session, add, belongs, find, holds, is_too_fast, session_id

SERVER = "server"


def sessionize(event: Event, log_offset: int, state: SessionState) -> bool:
    """Write the session into the event and return True, or return False for a client duplicate.

    The session's opener gives every event of it `session_start`, channel and campaign. An event that comes too fast is
    labelled a bot's, unless a server with the site's key sent it. An event without a visitor has no session and is
    never a duplicate.
    """
    if event.visitor_id == 0:
        return True
    key = (event.site, event.visitor_id)
    rule = state.rule.of(event.site)
    campaign = _campaign(event)
    event_key = (event.event_name, event.event_id, event.source == SERVER)
    session = find(state.of(key), event.ts, rule)
    if session is not None and belongs(session, campaign):
        if holds(session, event_key):
            return False
    else:
        session = Session(
            id=session_id(event.site, event.visitor_id, event.spool_id, event.spool_seq),
            start=event.ts,
            first_ts=event.ts,
            last_ts=event.ts,
            opened_at=log_offset,
            channel=event.channel,
            campaign=campaign,
        )
        state.open(key, session)
    add(session, event.ts, event_key, rule)
    if is_too_fast(session, event.ts, rule) and not event.is_bot and event.source != SERVER:
        event.is_bot, event.bot_reason = True, BotReason.RATE.value
    _write(session, event)
    return True


def _campaign(event: Event) -> tuple[str, ...]:
    return (
        event.utm_source,
        event.utm_medium,
        event.utm_campaign,
        event.utm_term,
        event.utm_content,
        event.click_id,
        event.click_id_type,
    )


def _write(session: Session, event: Event) -> None:
    event.session_id = session.id
    event.session_start = session.start
    event.channel = session.channel
    (
        event.utm_source,
        event.utm_medium,
        event.utm_campaign,
        event.utm_term,
        event.utm_content,
        event.click_id,
        event.click_id_type,
    ) = session.campaign
