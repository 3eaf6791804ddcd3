"""The enrichment's caches, so that their hit counts can be exported and tests can empty them.

Promise: every cache of `consumers.enrich` and of the steps in `schemas` is listed here and is bounded (`maxsize`).
"""

from __future__ import annotations

from functools import _CacheInfo, _lru_cache_wrapper
from types import MappingProxyType
from typing import Any

from consumers.enrich import agent, campaign, channel, domain, email_open, event, network, scrub
from schemas import language, page, parameters, screen, spool_id, validate

CACHES: MappingProxyType[str, _lru_cache_wrapper[Any]] = MappingProxyType(
    {
        "agent": agent.described,
        "decoded": parameters.decoded_cached,
        "page": page.split_cached,
        "host": page.host_cached,
        "registrable_domain": domain.domain_cached,
        "public_suffix": domain.public_suffix,
        "campaign": campaign.campaign_cached,
        "channel": channel.channel_cached,
        "source_category": channel.source_category,
        "referrer": channel.referrer_cached,
        "email_agent": email_open.by_agent,
        "network": network.network_cached,
        "language": language.first_tag,
        "screen": screen.screen_cached,
        "amount": validate.money,
        "price": validate.price_cached,
        "spool": spool_id.spool_cached,
        "scrub": scrub.query_cached,
        "scrub_rules": scrub.scrub_of,
        "private_name": scrub.plain_cached,
        "user_id": event.hashed_user,
    }
)
"""Name of a cache (the metric's label) -> the cached function."""


def cache_info() -> dict[str, _CacheInfo]:
    """Return hits, misses, maxsize and currsize of every cache, counted since the process started."""
    return {name: cached.cache_info() for name, cached in CACHES.items()}
