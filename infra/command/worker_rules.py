"""From settings to what the worker's results depend on."""

from __future__ import annotations

import msgspec

from consumers.batch_pace import BatchLimits
from consumers.enrich.network import UNKNOWN_NETWORKS
from consumers.network_files import NetworkFiles
from consumers.rules import Enrichment, Rules
from consumers.worker import WorkerRules, nothing_to_refresh
from schemas.limits import limits_of
from schemas.session import SessionRule
from schemas.settings import Settings
from schemas.site import Site


def network_files(settings: Settings) -> NetworkFiles:
    """Return the files that settings name, read."""
    truncated = settings.ip_keep == "truncated"
    return NetworkFiles(settings.place_database, settings.datacentre_ranges, truncated=truncated)


def worker_rules(settings: Settings, files: NetworkFiles | None = None) -> WorkerRules:
    """Return the worker's rules; settings are in seconds, rules in ms. No `files`: nothing is known of addresses."""
    limits = limits_of(settings)
    domains = {name: site.domains for name, site in settings.sites.items() if site.domains}
    enrichment = Enrichment(
        scrub=settings.scrub,
        scrub_parameters=settings.scrub_parameters,
        scrub_patterns=settings.scrub_patterns,
        users_hashed={name: site.user_id == "hashed" for name, site in settings.sites.items()},
        other_users_hashed=settings.default_site.user_id == "hashed",
    )
    return WorkerRules(
        rules=Rules(limits, domains, enrichment),
        session=_session_rule(settings),
        session_keep_ms=settings.session_cache_horizon_s * 1000,
        batch=BatchLimits(
            rows_max=settings.batch_rows_max,
            bytes_max=settings.batch_bytes_max,
            age_s_min=settings.batch_age_s_min,
            age_s_max=settings.batch_age_s_max,
            parts_max=settings.parts_max,
        ),
        recovery_age_ms_max=int(settings.recovery_age_s_max * 1000),
        networks=files.networks if files else UNKNOWN_NETWORKS,
        refresh=files.refresh if files else nothing_to_refresh,
    )


def _session_rule(settings: Settings) -> SessionRule:
    rule = SessionRule(
        gap_ms=settings.session_gap_s * 1000,
        length_ms_max=settings.session_length_s_max * 1000,
        event_ids_max=settings.session_event_ids_max,
        events_per_minute_max=settings.bot_events_per_minute_max,
    )
    sites = {name: _of_site(rule, site) for name, site in settings.sites.items()}
    others = _of_site(rule, settings.default_site)
    return msgspec.structs.replace(others, sites={name: its for name, its in sites.items() if its != others})


def _of_site(rule: SessionRule, site: Site) -> SessionRule:
    gap_ms = site.session_gap_s * 1000 if site.session_gap_s else rule.gap_ms
    length_ms_max = site.session_length_s_max * 1000 if site.session_length_s_max else rule.length_ms_max
    return msgspec.structs.replace(rule, gap_ms=gap_ms, length_ms_max=length_ms_max)
