"""The campaign that a page URL carries: `utm_*` tags and the ad platforms' click ids.

Promise: no input raises; the cost is linear in the query's length. Names are matched without regard to case; of a
repeated parameter the first counts; broken percent-encoding or UTF-8 in a value is kept literally. `utm_id` and GA4's
other tags (`utm_source_platform`, `utm_creative_format`, `utm_marketing_tactic`) are accepted and not kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from consumers.enrich.tables import CLICK_IDS

CAMPAIGNS_CACHED_MAX = 8_192
CAMPAIGN_CACHED_CHARS_MAX: Final = 1_024


class Campaign(NamedTuple):
    """The session's campaign; '' is absent. True when it carries anything. `click_id_type` is the parameter's name."""

    utm_source: str = ""
    utm_medium: str = ""
    utm_campaign: str = ""
    utm_term: str = ""
    utm_content: str = ""
    click_id: str = ""
    click_id_type: str = ""

    def __bool__(self) -> bool:
        """Tell whether any field is given."""
        return self != _NOTHING


_NOTHING = ("",) * len(Campaign._fields)
NO_CAMPAIGN: Final = Campaign()
UTM = Campaign._fields[:5]
_KNOWN = frozenset(UTM) | frozenset(CLICK_IDS)
_LONGEST = max(map(len, _KNOWN))
_RANK = {name: rank for rank, name in enumerate(CLICK_IDS)}


def campaign(query: str) -> Campaign:
    """Return the campaign in a URL's raw query string (without '?').

    Of several click ids the first in `data/click_ids.tsv` counts: ids that stand on ads alone come before those that
    platforms also put on unpaid links. A click id without a value is none.
    """
    if "=" not in query:
        return NO_CAMPAIGN
    return campaign_cached(query) if len(query) <= CAMPAIGN_CACHED_CHARS_MAX else _campaign(query)


def _campaign(query: str) -> Campaign:
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not equals or len(name) > _LONGEST:
            continue
        key = name.lower()
        if key in _KNOWN and key not in found:
            found[key] = _decoded(value)
    if not found:
        return NO_CAMPAIGN
    click_id_type = min(
        (key for key, value in found.items() if key in _RANK and value), key=_RANK.__getitem__, default=""
    )
    utm = {name: found[name] for name in UTM if name in found}
    return Campaign(**utm, click_id=found.get(click_id_type, ""), click_id_type=click_id_type)


campaign_cached = lru_cache(CAMPAIGNS_CACHED_MAX)(_campaign)


def _decoded(value: str) -> str:
    if "%" not in value and "+" not in value:
        return value.strip()
    try:
        return unquote_plus(value, errors="strict").strip()
    except UnicodeDecodeError:
        return value
