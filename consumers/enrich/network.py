"""What the client's address says: its place, from a database in MaxMind's format, and whether it is a datacentre's.

Promise: pure; the look-up is passed in (`consumers/network_files.py` reads the files). What a database holds is not
trusted: a record of any shape gives a place, or none. Results are cached by address (`NETWORKS_CACHED_MAX`); the cache
is emptied when the look-up changes, so that nothing keeps a replaced database in memory.

Sources of the shapes: MaxMind's GeoIP2 and DB-IP nest (`country.iso_code`, `subdivisions[0].names.en`,
`city.names.en`); IPinfo and ip-location-db are flat (`country_code` or `country`, `region` or `state1`, `city`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

NETWORKS_CACHED_MAX = 65_536
NAME_CHARS_MAX = 100

_COUNTRY = re.compile(r"[A-Z]{2}")


class Place(NamedTuple):
    """Country as ISO 3166-1 alpha-2 code, region and city by their English names; '' is not known."""

    country: str = ""
    region: str = ""
    city: str = ""


class Network(NamedTuple):
    """What an address says."""

    place: Place
    is_datacentre: bool


Lookup = Callable[[str], Network]
NO_PLACE = Place()
NO_NETWORK: Final = Network(NO_PLACE, is_datacentre=False)


def nothing_known(address: str) -> Network:
    """Say of every address that nothing is known."""
    del address
    return NO_NETWORK


class Networks:
    """The look-up in force. It changes between batches only."""

    def __init__(self, lookup: Lookup = nothing_known) -> None:
        self._lookup = lookup

    def replace(self, lookup: Lookup) -> None:
        """Go by another look-up from now on."""
        self._lookup = lookup
        network_cached.cache_clear()

    def of(self, address: str) -> Network:
        """Return what an address, as `ip_keep` left it, says; an empty one says nothing."""
        return network_cached(self._lookup, address) if address else NO_NETWORK


UNKNOWN_NETWORKS = Networks()


@lru_cache(NETWORKS_CACHED_MAX)
def network_cached(lookup: Lookup, address: str) -> Network:
    """Return what the look-up knows of an address (the cache behind `Networks.of`)."""
    return lookup(address)


def place_of(record: object) -> Place:
    """Return the place in a database's record of an address; None and records of another kind have none."""
    if not isinstance(record, dict):
        return NO_PLACE
    subdivisions = record.get("subdivisions")
    first = subdivisions[0] if isinstance(subdivisions, (list, tuple)) and subdivisions else None
    return Place(
        _country(record),
        _name(first) or _name(record.get("region")) or _name(record.get("state1")),
        _name(record.get("city")),
    )


def _country(record: dict[str, object]) -> str:
    country = record.get("country")
    codes = (country.get("iso_code") if isinstance(country, dict) else country, record.get("country_code"))
    return next((code for code in codes if isinstance(code, str) and _COUNTRY.fullmatch(code)), "")


def _name(value: object) -> str:
    """Return the English name in a record's member, else its code, or the text that it is."""
    if isinstance(value, dict):
        names = value.get("names")
        english = names.get("en") if isinstance(names, dict) else None
        value = english or value.get("iso_code")
    return value[:NAME_CHARS_MAX] if isinstance(value, str) else ""
