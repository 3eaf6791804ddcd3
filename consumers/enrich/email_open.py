"""Who opened an email: a person, a provider's image proxy, or a scanner; with the reason.

Promise: an image hit of an EmailOpen gets both, from closed sets (`schemas/email_open.py`); no other event has any.
Tried in order: what `data/email_agents.tsv` knows, known crawlers and contradicting hints, an absent agent, an address
of a datacentre, else a person. Results are cached by agent (`AGENTS_CACHED_MAX`).

What cannot be told: Apple's Mail Privacy Protection fetches most images without anyone opening the email, through a
proxy whose requests carry no more than "Mozilla/5.0" either way; Gmail's proxy fetches at the first opening and then
serves its copy. So a proxy's hit is neither proof of an opening nor of none. A gateway that borrows a browser's agent
is told by its address alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from consumers.enrich.agent import AGENT_CHARS_MAX, Agent
from consumers.enrich.tables import EMAIL_AGENTS
from schemas.email_open import OpenBy, OpenReason

AGENTS_CACHED_MAX = 4_096
APPLE_MAIL = "Apple Mail"  # ua-parser's family: WebKit's agent without a browser's name


class Opened(NamedTuple):
    """The words of `open_by` and `open_reason`."""

    by: str
    reason: str


def opened(user_agent: str, agent: Agent, *, is_datacentre: bool) -> Opened:
    """Return who opened; `agent` is what `describe` made of the header and the hints."""
    known = by_agent(user_agent[:AGENT_CHARS_MAX])
    if known is not None and known.by != OpenBy.PERSON.value:
        return known
    if agent.is_bot:
        return Opened(OpenBy.SCANNER.value, OpenReason(agent.bot_reason).value)
    if not user_agent:
        return Opened(OpenBy.SCANNER.value, OpenReason.NO_AGENT.value)
    if is_datacentre:
        return Opened(OpenBy.SCANNER.value, OpenReason.DATACENTRE.value)
    is_client = known is not None or agent.browser == APPLE_MAIL
    return Opened(OpenBy.PERSON.value, (OpenReason.MAIL_CLIENT if is_client else OpenReason.BROWSER).value)


@lru_cache(AGENTS_CACHED_MAX)
def by_agent(user_agent: str) -> Opened | None:
    """Return what the table knows of a header, cut to `AGENT_CHARS_MAX`; None: nothing."""
    text = user_agent.strip().lower()
    return next((Opened(row.by, row.reason) for row in EMAIL_AGENTS if row.matches(text)), None)
