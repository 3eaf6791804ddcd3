"""Place databases and range lists on disk: taken up, replaced, missing, damaged, of another kind; events go on."""

from __future__ import annotations

import logging
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.place_database import BERLIN, FRANCE, write_database

from consumers.enrich.network import NO_PLACE, Place
from consumers.network_files import FileUnusableError, NetworkFileMetrics, NetworkFiles, PlaceDatabase

NETWORKS = {"192.0.2.0/24": BERLIN, "198.51.100.0/24": FRANCE, "2001:db8::/32": BERLIN}
IN_BERLIN = Place("DE", "Land Berlin", "Berlin")
IN_FRANCE = Place("FR", "", "")


@pytest.fixture
def path(tmp_path):
    return write_database(tmp_path / "place.mmdb", NETWORKS)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "consumers.network_files")
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def place(files, address):
    return files.networks.of(address).place


def test_addresses_as_they_are_kept_have_their_place(path, said):
    files = NetworkFiles(path)
    assert place(files, "192.0.2.0") == IN_BERLIN
    assert place(files, "198.51.100.7") == IN_FRANCE
    assert place(files, "2001:db8:7::") == IN_BERLIN
    for unknown in ("203.0.113.0", "2001:db9::", "", "no address"):
        assert place(files, unknown) == NO_PLACE
    assert said() == []


def test_a_database_of_ipv4_alone_and_one_of_countries_alone_work(tmp_path):
    files = NetworkFiles(write_database(tmp_path / "v4.mmdb", {"192.0.2.0/24": FRANCE}, ip_version=4))
    assert place(files, "192.0.2.0") == IN_FRANCE
    assert place(files, "2001:db8::") == NO_PLACE


def test_a_replaced_file_is_taken_up_between_batches(path):
    files = NetworkFiles(path)
    assert place(files, "192.0.2.0") == IN_BERLIN
    write_database(path, {"192.0.2.0/24": FRANCE})
    assert place(files, "192.0.2.0") == IN_BERLIN  # not before the next look
    files.refresh()
    assert place(files, "192.0.2.0") == IN_FRANCE


def test_a_file_overwritten_where_it_lies_kills_nobody(path, said):
    files = NetworkFiles(path)
    fresh = write_database(path.with_name("fresh"), {"192.0.2.0/24": FRANCE}).read_bytes()
    with path.open("r+b") as file:  # as `cp fresh place.mmdb` does
        file.truncate(0)
        assert place(files, "198.51.100.0") == IN_FRANCE  # not asked before: read after the truncation
        files.refresh()
        assert place(files, "192.0.2.0") == IN_BERLIN
        file.write(fresh)
    files.refresh()
    assert place(files, "192.0.2.0") == IN_FRANCE
    [warning] = said()
    assert "cannot be used" in warning
    assert "the one read before stays in force" in warning


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "no database in MaxMind's format"),
        (b"not a database" * 1000, "no database in MaxMind's format"),
        (b"\xab\xcd\xefMaxMind.com", "no database in MaxMind's format"),
    ],
)
def test_what_is_no_database_is_said_once_and_events_go_on(tmp_path, said, content, why):
    path = tmp_path / "place.mmdb"
    if content is not None:
        path.write_bytes(content)
    files = NetworkFiles(path)
    files.refresh()
    assert place(files, "192.0.2.0") == NO_PLACE
    [warning] = said()
    assert warning.startswith(f"place_database {path} cannot be used: {why}")
    assert warning.endswith("events go on without it")
    write_database(path, NETWORKS)
    files.refresh()
    assert place(files, "192.0.2.0") == IN_BERLIN


def test_a_database_of_another_kind_is_said(tmp_path):
    path = write_database(tmp_path / "asn.mmdb", {"192.0.2.0/24": {"autonomous_system_number": 64500}}, "Test-ASN")
    with pytest.raises(FileUnusableError, match="a database of type Test-ASN that gives no country"):
        PlaceDatabase(path)


def _of_another_kind(path):
    write_database(path, {"192.0.2.0/24": {"autonomous_system_number": 64500}}, "Test-ASN")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_of_another_kind, "a database of type Test-ASN that gives no country"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "no database in MaxMind's format"),
        (lambda path: path.write_bytes(path.read_bytes()[40:]), "damaged"),
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ],
    ids=["another kind", "its end is missing", "its beginning is missing", "gone", "a directory"],
)
def test_what_replaces_a_database_in_force_and_cannot_be_used_leaves_it_in_force(path, said, spoil, why):
    files = NetworkFiles(path)
    spoil(path)
    for _ in range(3):
        files.refresh()
        assert place(files, "192.0.2.0") == IN_BERLIN
        assert place(files, "198.51.100.1") == IN_FRANCE, "not asked before"
    [warning] = said()
    assert why in warning
    assert warning.endswith("the one read before stays in force")


def test_a_directory_is_no_database(tmp_path):
    with pytest.raises(FileUnusableError, match="Is a directory"):
        PlaceDatabase(tmp_path)


def test_damage_anywhere_raises_nothing_else(path, caplog):
    whole = path.read_bytes()
    rng = random.Random(7)
    usable = 0
    for _ in range(150):
        damaged = bytearray(whole)
        if rng.random() < 0.2:
            del damaged[rng.randrange(1, len(damaged)) :]
        for _ in range(rng.randrange(1, 30)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            database = PlaceDatabase(path)
        except FileUnusableError:
            continue
        usable += 1
        for last in range(0, 256, 5):
            assert all(isinstance(name, str) for name in database.place(f"192.0.{last}.0"))
            assert all(isinstance(name, str) for name in database.place(f"2001:db8:{last}::"))
    assert 0 < usable < 150


def test_damaged_records_are_counted_and_said_once(path, said):
    path.write_bytes(path.read_bytes().replace(b"Land Berlin", b"\xff" * 11))
    with pytest.raises(FileUnusableError, match="a damaged database of type Test-City"):
        PlaceDatabase(path)  # the first record is one of them
    networks = {"1.0.0.0/24": FRANCE, **NETWORKS}
    write_database(path, networks)
    path.write_bytes(path.read_bytes().replace(b"Land Berlin", b"\xff" * 11))
    files = NetworkFiles(path)
    assert place(files, "192.0.2.0") == place(files, "192.0.2.1") == NO_PLACE
    assert place(files, "1.0.0.0") == IN_FRANCE
    assert files.place.damaged == 2
    [warning] = said()
    assert "is damaged" in warning


def test_ranges_are_joined_replaced_and_looked_up_as_addresses_are_kept(tmp_path, said):
    one, two, narrow = tmp_path / "aws.json", tmp_path / "own.txt", "192.0.2.128/25"
    one.write_text('{"prefixes": [{"ip_prefix": "198.51.100.0/24"}]}')
    two.write_text(f"203.0.113.0/24\n{narrow}\n")
    files = NetworkFiles(None, [one, two], truncated=True)
    asked = ("198.51.100.0", "203.0.113.0", "192.0.2.0", "192.0.2.128")
    assert [files.networks.of(address).is_datacentre for address in asked] == [True, True, False, False]
    assert [NetworkFiles(None, [two], truncated=False).networks.of("192.0.2.128").is_datacentre] == [True]
    two.write_text("example.com\n")
    files.refresh()
    assert files.networks.of("203.0.113.0").is_datacentre
    two.write_text("192.0.2.0/24\n")
    files.refresh()
    assert [files.networks.of(address).is_datacentre for address in asked] == [True, False, True, True]
    [warning] = said()
    assert f"datacentre_ranges {two} cannot be used: line 1: 'example.com'" in warning


def test_what_is_in_force_is_exposed(path, tmp_path):
    ranges = tmp_path / "ranges"
    ranges.write_text("198.51.100.0/24\n203.0.113.0/24\n")
    registry = CollectorRegistry()
    registry.register(NetworkFileMetrics(files := NetworkFiles(path, [ranges])))
    assert registry.get_sample_value("hitstream_worker_datacentre_ranges") == 2
    built = registry.get_sample_value("hitstream_worker_place_database_build_timestamp_seconds")
    assert built == files.place.build_s > 1_700_000_000
    empty = CollectorRegistry()
    empty.register(NetworkFileMetrics(NetworkFiles(None)))
    assert empty.get_sample_value("hitstream_worker_place_database_build_timestamp_seconds") == 0


def test_it_is_named_by_the_day_it_was_built_if_that_is_one(path):
    database = PlaceDatabase(path)
    assert database.name == f"Test-City of {datetime.fromtimestamp(database.build_s, UTC):%Y-%m-%d}"
    field = b"build_epoch\x04\x02"  # 64 bits without sign, 4 bytes of them written
    before, value = path.read_bytes().split(field)
    path.write_bytes(before + b"build_epoch\x08\x02\x7f" + b"\xff" * 7 + value[4:])
    damaged = PlaceDatabase(path)
    assert (damaged.build_s, damaged.name) == (2**63 - 1, "Test-City of an unknown day")
    assert place(NetworkFiles(path), "192.0.2.0") == IN_BERLIN


def test_no_descriptor_is_left_open(path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    files = NetworkFiles(path)
    for _ in range(5):
        os.utime(path, ns=(0, random.randrange(1 << 60)))
        files.refresh()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
