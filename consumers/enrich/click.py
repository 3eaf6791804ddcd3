"""A click on `/c` and the page that it leads to are one visit: so both stand for one campaign. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.event import Event
from schemas.host import is_on
from schemas.page import split_page

CLICK: Final = "click"  # an event's source
TARGET_PROPERTY = "target"


def campaign_query(event: Event, domains: Sequence[str]) -> str:
    """Return the query that an event's campaign is read from: its page's own.

    Of a click that leads to the site's `domains` it is the target's, with the `hsclid` that the landing page has. The
    click then opens the visit that the landing belongs to, and no other one before it.
    """
    if event.source != CLICK or not domains:
        return event.url_query
    target = split_page(event.props.get(TARGET_PROPERTY, ""))
    if target is None or not is_on(target.host, domains):
        return event.url_query
    return f"{target.query}&hsclid={event.event_id}"
