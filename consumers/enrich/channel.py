"""The channel of a visit, by the rules of GA4's default channel groups, and the host that counts as its referrer.

Promise: `channel` returns one of `schemas.channels.Channel`, tried in GA4's documented order; no input raises, every
test is linear in its input. Rules and wording: support.google.com/analytics/answer/9756891, section "Channels for
manual traffic"; comparisons ignore case, as GA4's do. What only Google knows (ad network, creative format, engine
account) takes no part; where a click id names the platform and the tags are silent, its usual source and medium stand
in (`tables`).

AI Assistant (GA4, May 2026) matches the medium `ai-assistant`, which GA4 gives to referrals from assistants. GA4 does
not publish its list of them; ours is `data/sources.tsv`, and Perplexity and Claude are on it. An assistant named in
`utm_source` without another medium counts as well (ChatGPT tags its links with `utm_source=chatgpt.com` alone).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from consumers.enrich.campaign import NO_CAMPAIGN, Campaign
from consumers.enrich.domain import public_suffix, registrable_domain
from consumers.enrich.tables import AI, CLICK_IDS, NO_CATEGORY, SEARCH, SHOPPING, SOCIAL, SOURCES, VIDEO, Platform
from schemas.channels import Channel
from schemas.host import HOST_CHARS_MAX, normal_host
from schemas.page import PAGE_CACHED_CHARS_MAX, android_package, split_page

DIRECT: Final = Channel.DIRECT.value
CHANNELS_CACHED_MAX = 8_192
SOURCES_CACHED_MAX = 8_192
REFERRERS_CACHED_MAX = 8_192
TAG_CHARS_MAX: Final = 512  # tags are cut here before any rule looks at them

_SHOPPING_CAMPAIGN = re.compile(r"(?:[^a-df-z]|^)shop|shopping")  # GA4: ^(.*(([^a-df-z]|^)shop|shopping).*)$
_SOCIAL_MEDIA = frozenset({"social", "social-network", "social-media", "sm", "social network", "social media"})
_EMAIL = frozenset({"email", "e-mail", "e_mail", "e mail"})
_UNTAGGED_MEDIA = frozenset({"", "(not set)", "(none)", "referral"})
_NO_PLATFORM = Platform("", "", "")
_REFERRAL_MEDIA = {SEARCH: "organic", AI: "ai-assistant"}  # what GA4 calls the medium of an untagged visit


def channel(campaign: Campaign, ref_host: str) -> str:
    """Return the channel of a visit that arrived with `campaign` from `ref_host` ('' = no outside referrer).

    Manual tags (source, medium, campaign) come first, then the click id's platform, then the referrer, else Direct.
    """
    if not ref_host and (campaign is NO_CAMPAIGN or not campaign):
        return DIRECT
    return channel_cached(
        campaign.utm_source[:TAG_CHARS_MAX],
        campaign.utm_medium[:TAG_CHARS_MAX],
        campaign.utm_campaign[:TAG_CHARS_MAX],
        campaign.click_id_type,
        ref_host,
    )


@lru_cache(CHANNELS_CACHED_MAX)
def channel_cached(utm_source: str, utm_medium: str, utm_campaign: str, click_id_type: str, ref_host: str) -> str:
    """Return the channel (the cache behind `channel`; without the click id itself, which is another for each visit)."""
    platform = CLICK_IDS.get(click_id_type, _NO_PLATFORM)
    if utm_source or utm_medium or utm_campaign or platform.source:
        source = utm_source.strip().lower() or platform.source
        # a foreign utm_source is not given the medium of a click id that was put on later, as fbclid is on shared links
        implied = platform.medium if source == platform.source else ""
        return _group(source, utm_medium.strip().lower() or implied, (utm_campaign or platform.campaign).lower())
    if not ref_host:
        return DIRECT
    return _group(ref_host, _REFERRAL_MEDIA.get(source_category(ref_host), "referral"), "")


def _group(source: str, medium: str, campaign: str) -> str:
    """Return the first channel whose definition matches. All three in lower case."""
    visit = _Traffic(source, medium, campaign, source_category(source))
    return next((name.value for name, matches in _DEFINITIONS if matches(visit)), Channel.UNASSIGNED.value)


class _Traffic(NamedTuple):
    """What GA4's definitions look at."""

    source: str
    medium: str
    campaign: str
    category: str

    @property
    def paid(self) -> bool:
        """Medium matches GA4's ^(.*cp.*|ppc|retargeting|paid.*)$."""
        return "cp" in self.medium or self.medium in ("ppc", "retargeting") or self.medium.startswith("paid")

    @property
    def shopping(self) -> bool:
        """Source is a shopping site, or the campaign matches GA4's ^(.*(([^a-df-z]|^)shop|shopping).*)$."""
        return self.category == SHOPPING or _SHOPPING_CAMPAIGN.search(self.campaign) is not None


# GA4's table in its order; the first that matches wins.
_DEFINITIONS: tuple[tuple[Channel, Callable[[_Traffic], bool]], ...] = (
    (Channel.DIRECT, lambda v: v.source == "(direct)" and v.medium in ("(not set)", "(none)")),
    (Channel.CROSS_NETWORK, lambda v: "cross-network" in v.campaign),
    (Channel.PAID_SHOPPING, lambda v: v.shopping and v.paid),
    (Channel.PAID_SEARCH, lambda v: v.category == SEARCH and v.paid),
    (Channel.PAID_SOCIAL, lambda v: v.category == SOCIAL and v.paid),
    (Channel.PAID_VIDEO, lambda v: v.category == VIDEO and v.paid),
    (Channel.DISPLAY, lambda v: v.medium in ("display", "banner", "expandable", "interstitial", "cpm")),
    (Channel.PAID_OTHER, lambda v: v.paid),
    (Channel.ORGANIC_SHOPPING, lambda v: v.shopping),
    (Channel.ORGANIC_SOCIAL, lambda v: v.category == SOCIAL or v.medium in _SOCIAL_MEDIA),
    (Channel.ORGANIC_VIDEO, lambda v: v.category == VIDEO or "video" in v.medium),
    (Channel.ORGANIC_SEARCH, lambda v: v.category == SEARCH or v.medium == "organic"),
    (Channel.AI_ASSISTANT, lambda v: v.medium == "ai-assistant" or (v.category == AI and v.medium in _UNTAGGED_MEDIA)),
    (Channel.REFERRAL, lambda v: v.medium in ("referral", "app", "link")),
    (Channel.EMAIL, lambda v: v.source in _EMAIL or v.medium in _EMAIL),
    (Channel.AFFILIATES, lambda v: v.medium == "affiliate"),
    (Channel.AUDIO, lambda v: v.medium == "audio"),
    (Channel.SMS, lambda v: "sms" in (v.source, v.medium)),
    (
        Channel.MOBILE_PUSH_NOTIFICATIONS,
        lambda v: (
            v.medium.endswith("push") or "mobile" in v.medium or "notification" in v.medium or v.source == "firebase"
        ),
    ),
)


@lru_cache(SOURCES_CACHED_MAX)
def source_category(source: str) -> str:
    """Return a source's category (`tables.CATEGORIES` without `none`), or ''. `source`: a word or host, lower case."""
    category = SOURCES.get(source)
    if category is None and "." in source and len(source) <= HOST_CHARS_MAX:
        category = _host_category(source.removeprefix("www."))
    return "" if category in (None, NO_CATEGORY) else str(category)


def _host_category(host: str) -> str | None:
    suffix = public_suffix(host)
    stem = host[: -len(suffix) - 1] if suffix and suffix != host else ""
    names = [host, f"{stem}.*" if stem else "", *_domains(host), *(f"{name}.*" for name in _domains(stem) if stem)]
    return next((SOURCES[name] for name in names if name in SOURCES), None)


def _domains(host: str) -> list[str]:
    """Return '.a.b.c', '.b.c', '.c' for 'a.b.c'."""
    labels = host.split(".")
    return ["." + ".".join(labels[start:]) for start in range(len(labels))]


def referrer_host(referrer: str, page_host: str, site_domains: Sequence[str]) -> str:
    """Return the referrer's host, or '' when it is empty, no http(s) URL, or the site itself.

    The site itself: the registrable domain of `page_host` (for an address or 'localhost': that very host), or one of
    `site_domains` or a host below it; a leading 'www.' of a site domain is ignored. An Android app's referrer
    (`android-app://<package>/…`) gives the package's name, as in GA4.
    """
    if not referrer:
        return ""
    if len(referrer) > PAGE_CACHED_CHARS_MAX:
        return _referrer_host(referrer, page_host, tuple(site_domains))
    return referrer_cached(referrer, page_host, tuple(site_domains))


def _referrer_host(referrer: str, page_host: str, site_domains: tuple[str, ...]) -> str:
    page = split_page(referrer)
    if page is None:
        return android_package(referrer)
    host = page.host
    if registrable_domain(host) == registrable_domain(page_host):
        return ""
    for name in site_domains:
        domain = normal_host(name).removeprefix("www.")
        if domain and (host == domain or host.endswith("." + domain)):
            return ""
    return host


referrer_cached = lru_cache(REFERRERS_CACHED_MAX)(_referrer_host)
