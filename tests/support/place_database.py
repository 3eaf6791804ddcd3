"""Small databases in MaxMind's format, written for a test."""

from __future__ import annotations

from pathlib import Path

from mmdb_writer import MMDBWriter
from netaddr import IPSet

BERLIN = {
    "country": {"iso_code": "DE", "names": {"de": "Deutschland", "en": "Germany"}},
    "subdivisions": [{"iso_code": "BE", "names": {"en": "Land Berlin"}}],
    "city": {"names": {"de": "Berlin", "en": "Berlin"}},
}
FRANCE = {"country": {"iso_code": "FR", "names": {"en": "France"}}}


def write_database(path: Path, networks: dict[str, object], kind: str = "Test-City", ip_version: int = 6) -> Path:
    """Write a database of `networks` (CIDR -> record), beside the path and then moved there, as updaters do."""
    writer = MMDBWriter(ip_version, kind, languages=["en"], ipv4_compatible=ip_version == 6, int_type="u32")
    for cidr, record in networks.items():
        writer.insert_network(IPSet([cidr]), record)
    fresh = path.with_name(path.name + ".new")
    writer.to_db_file(str(fresh))
    return fresh.replace(path)
