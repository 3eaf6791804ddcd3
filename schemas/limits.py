"""The settings that validation depends on, in its own units."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from schemas.settings import Settings


class Limits(msgspec.Struct, frozen=True):
    """The settings that validation depends on; `sites` None: every well-formed site id passes.

    `domains` are those of each site that has some: its pages are on them, or below them.
    """

    sites: frozenset[str] | None = None
    domains: Mapping[str, tuple[str, ...]] = {}
    event_age_ms_max: int = 7 * 86_400_000
    event_ahead_ms_max: int = 600_000
    items_max: int = 500
    properties_max: int = 64
    field_chars_max: int = 8192


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings name; they are in seconds, limits in ms."""
    return Limits(
        sites=frozenset(settings.sites) or None,
        domains={name: site.page_domains for name, site in settings.sites.items() if site.domains},
        event_age_ms_max=settings.event_age_s_max * 1000,
        event_ahead_ms_max=settings.event_ahead_s_max * 1000,
        items_max=settings.items_max,
        properties_max=settings.properties_max,
        field_chars_max=settings.field_chars_max,
    )
