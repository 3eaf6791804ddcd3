"""Step 4: what an event's agent, page and referrer say, written into it. Pure; each lookup has a bounded cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consumers.enrich.agent import describe
from consumers.enrich.campaign import campaign
from consumers.enrich.channel import channel, referrer_host
from consumers.enrich.client_hints import NO_HINTS, ClientHints
from schemas.event import Event
from schemas.hit import Hit

NO_DOMAINS: tuple[str, ...] = ()


def enrich(event: Event, hit: Hit, referrer: str, domains: Mapping[str, Sequence[str]]) -> None:
    """Fill in browser, OS, device, bot, campaign, referrer and the channel that the event by itself stands for.

    `domains` are each site's own: a referrer there is no referrer. Sessions replace channel and campaign by the
    opener's afterwards.
    """
    hints = NO_HINTS
    if hit.ch_ua:
        hints = ClientHints(
            hit.ch_ua,
            hit.ch_ua_mobile,
            hit.ch_ua_platform,
            hit.ch_ua_platform_version,
            hit.ch_ua_model,
            hit.ch_ua_full_version_list,
        )
    agent = describe(hit.user_agent, hints)
    event.browser = agent.browser
    event.browser_version = agent.browser_version
    event.os = agent.os
    event.os_version = agent.os_version
    event.device = agent.device
    event.is_bot = agent.is_bot
    event.bot_reason = agent.bot_reason
    tags = campaign(event.url_query)
    event.utm_source = tags.utm_source
    event.utm_medium = tags.utm_medium
    event.utm_campaign = tags.utm_campaign
    event.utm_term = tags.utm_term
    event.utm_content = tags.utm_content
    event.click_id = tags.click_id
    event.click_id_type = tags.click_id_type
    event.ref_host = referrer_host(referrer, event.url_host, domains.get(event.site, NO_DOMAINS)) if referrer else ""
    event.channel = channel(tags, event.ref_host)
