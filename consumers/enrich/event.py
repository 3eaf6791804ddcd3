"""Step 4: what an event's agent, page and referrer say, written into it. Pure; each lookup has a bounded cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

from consumers.enrich.agent import Agent, describe
from consumers.enrich.campaign import NO_CAMPAIGN, UTM, campaign
from consumers.enrich.channel import channel, referrer_host
from consumers.enrich.click import CLICK, campaign_query
from consumers.enrich.client_hints import NO_HINTS
from consumers.enrich.device import BOT, OTHER
from consumers.enrich.email_open import opened
from consumers.enrich.network import UNKNOWN_NETWORKS, Network, Networks
from consumers.enrich.scrub import Scrub, scrub_of, without_click_ids
from consumers.rules import Enrichment
from schemas.bot_reason import BotReason
from schemas.consent import DENIED, Verdict
from schemas.email_open import OpenBy
from schemas.event import Event
from schemas.hit import Hit

GRANTED_ANALYTICS: Final = Verdict.GRANTED_ANALYTICS.value  # a name, as every event asks: an enum's `value` is a call
EMAIL_OPEN: Final = "EmailOpen"  # an event's name
EMAIL: Final = "email"  # its source
NO_DOMAINS: Final[tuple[str, ...]] = ()
USERS_CACHED_MAX = 4_096


class Enricher:
    """The step, made of its rules once a batch.

    `domains` are each site's own: a referrer there is no referrer. `networks` knows addresses.
    """

    def __init__(
        self, domains: Mapping[str, Sequence[str]], rules: Enrichment, networks: Networks = UNKNOWN_NETWORKS
    ) -> None:
        self._domains = domains
        self._rules = rules
        self._networks = networks
        self._scrub = scrub_of(rules.scrub_parameters, rules.scrub_patterns) if rules.scrub else None

    def enrich(self, event: Event, hit: Hit, referrer: str) -> None:
        """Fill in browser, OS, device, bot, place, campaign, referrer and the channel that the event alone stands for.

        Afterwards tags, title, page and properties are scrubbed. Sessions replace channel and campaign by the opener's
        later.
        """
        if event.consent not in DENIED:
            self._sender(event, hit)
        domains = self._domains.get(event.site, NO_DOMAINS)
        tags = campaign(campaign_query(event, domains) if event.source == CLICK else event.url_query)
        if tags is not NO_CAMPAIGN:
            (
                event.utm_source,
                event.utm_medium,
                event.utm_campaign,
                event.utm_term,
                event.utm_content,
                event.click_id,
                event.click_id_type,
            ) = tags
        event.ref_host = referrer_host(referrer, event.url_host, domains) if referrer else ""
        event.channel = channel(tags, event.ref_host)
        if hit.consent == GRANTED_ANALYTICS:
            event.click_id = ""
            event.url_query = without_click_ids(event.url_query)
        if event.user_id and self._rules.users_hashed.get(event.site, self._rules.other_users_hashed):
            event.user_id = hashed_user(event.user_id)
        if self._scrub is not None:
            if tags is not NO_CAMPAIGN:
                _scrub_tags(event, self._scrub)
            _scrub(event, self._scrub)

    def _sender(self, event: Event, hit: Hit) -> None:
        """Fill in what is known of who sent the hit; of a denied one nothing is, and its fields stay empty."""
        hints: tuple[str, ...] = NO_HINTS
        if hit.ch_ua:
            hints = (
                hit.ch_ua,
                hit.ch_ua_mobile,
                hit.ch_ua_platform,
                hit.ch_ua_platform_version,
                hit.ch_ua_model,
                hit.ch_ua_full_version_list,
            )
        agent = describe(hit.user_agent, hints)
        (
            event.browser,
            event.browser_version,
            event.os,
            event.os_version,
            event.device,
            event.is_bot,
            event.bot_reason,
        ) = agent
        network = self._networks.of(hit.ip)
        (event.country, event.region, event.city), is_datacentre = network
        if is_datacentre and not event.is_bot:
            event.is_bot, event.bot_reason = True, BotReason.DATACENTRE.value
        if event.event_name == EMAIL_OPEN and event.source == EMAIL:
            _email_open(event, hit, agent, network)


def _email_open(event: Event, hit: Hit, agent: Agent, network: Network) -> None:
    """Say who opened. A scanner is a bot; a proxy is none, though crawler lists name it and it is in a datacentre."""
    event.open_by, event.open_reason = opened(hit.user_agent, agent, is_datacentre=network.is_datacentre)
    if event.open_by == OpenBy.SCANNER.value:
        event.is_bot, event.bot_reason = True, event.bot_reason or BotReason.AGENT.value
        return
    event.is_bot, event.bot_reason = False, ""
    if event.device == BOT:
        event.device = OTHER


def _scrub(event: Event, scrub: Scrub) -> None:
    event.url_path, event.url_query = scrub.page(event.url_path, event.url_query)
    if event.title:
        event.title = scrub.text(event.title)
    if event.props:
        event.props = {name: scrub.value(name, value) for name, value in event.props.items()}


def _scrub_tags(event: Event, scrub: Scrub) -> None:
    """Newsletters name readers in their tags."""
    for name in UTM:
        value = getattr(event, name)
        if value:
            setattr(event, name, scrub.value(name, value))


@lru_cache(USERS_CACHED_MAX)
def hashed_user(user_id: str) -> str:
    """Return the SHA-256 of a user id without blanks around it and in lower case, in hex: as ad platforms match it."""
    return sha256(user_id.strip().lower().encode()).hexdigest()
