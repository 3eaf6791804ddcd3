"""The data tables of the enrichment, read once at import from `consumers/enrich/data` (its README names the sources).

Promise: plain immutable look-ups; a malformed or contradictory table fails the import, so a release cannot carry one.
"""

from __future__ import annotations

from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

from schemas.email_open import OpenBy, OpenReason

SEARCH, SOCIAL, VIDEO, SHOPPING, AI = "search", "social", "video", "shopping", "ai"
NO_CATEGORY = "none"
CATEGORIES = (SEARCH, SOCIAL, VIDEO, SHOPPING, AI, NO_CATEGORY)
ALWAYS, LONG = "always", "long"
HOLDS, IS, BEGINS = "holds", "is", "begins"


class Platform(NamedTuple):
    """What a click id implies where manual tags are silent: GA4 source, medium and campaign; '' is not implied."""

    source: str
    medium: str
    campaign: str


class EmailAgent(NamedTuple):
    """A user agent that fetches the images of emails; `text` is in lower case."""

    by: str
    reason: str
    how: str
    text: str

    def matches(self, agent: str) -> bool:
        """Tell whether a header in lower case is of this kind."""
        if self.how == HOLDS:
            return self.text in agent
        return agent == self.text if self.how == IS else agent.startswith(self.text)


def _rows(name: str, columns: int) -> list[list[str]]:
    text = files("consumers.enrich").joinpath("data", name).read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    for row in rows:
        if len(row) != columns:
            raise ValueError(f"{name}: {row!r} has {len(row)} columns instead of {columns}")
    return rows


def _sources() -> dict[str, str]:
    table: dict[str, str] = {}
    for category, names in _rows("sources.tsv", 2):
        if category not in CATEGORIES:
            raise ValueError(f"sources.tsv: unknown category {category!r}")
        for name in names.split(", "):
            if name in table or not name or name != name.strip().lower():
                raise ValueError(f"sources.tsv: {name!r} stands twice or is not written as documented")
            table[name] = category
    return table


def _click_ids() -> dict[str, Platform]:
    table: dict[str, Platform] = {}
    for name, source, medium, campaign, _platform in _rows("click_ids.tsv", 5):
        if name in table or name != name.lower():
            raise ValueError(f"click_ids.tsv: {name!r} stands twice or is not in lower case")
        table[name] = Platform(source, medium, campaign)
    return table


def _private_names() -> tuple[frozenset[str], frozenset[str]]:
    table: dict[str, str] = {}
    for kind, names in _rows("private_parameters.tsv", 2):
        if kind not in {ALWAYS, LONG}:
            raise ValueError(f"private_parameters.tsv: unknown kind {kind!r}")
        for name in names.split(", "):
            if name in table or not name or name != plain_name(name):
                raise ValueError(f"private_parameters.tsv: {name!r} stands twice or is not written as documented")
            table[name] = kind
    return frozenset(name for name in table if table[name] == ALWAYS), frozenset(
        name for name in table if table[name] == LONG
    )


def _email_agents() -> tuple[EmailAgent, ...]:
    rows = [EmailAgent(*row[:4]) for row in _rows("email_agents.tsv", 5)]
    for row in rows:
        OpenBy(row.by), OpenReason(row.reason)
        if row.how not in {HOLDS, IS, BEGINS} or row.text != row.text.lower():
            raise ValueError(f"email_agents.tsv: {row!r} is not written as documented")
    return tuple(rows)


def plain_name(name: str) -> str:
    """Return a parameter's name as it is compared: its letters and digits in lower case."""
    return "".join(filter(str.isalnum, name)).lower()


SOURCES = MappingProxyType(_sources())
"""Source as README.md writes it -> its category."""

CLICK_IDS = MappingProxyType(_click_ids())
"""Click-id parameter in lower case -> what it implies; in order of preference."""

PRIVATE_ALWAYS, PRIVATE_LONG = _private_names()
"""Plain names of parameters whose values are private: all of them, or long ones."""

EMAIL_AGENTS = _email_agents()
"""Agents that fetch the images of emails, in the order in which to try them."""
